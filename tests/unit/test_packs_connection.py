"""Both ends of a connection, talking to each other and to liars."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packs.codec import JSON, MSGPACK, Codec, decode_payload, encode_payload, frame
from packs.connection import ClientConnection, CloseReason, ConnState, ServerConnection, Violation
from packs.flags import ACK, DUP
from packs.frames import MAX_FRAME, MAX_FRAME_BEFORE_LOGIN
from packs.pack import Pack
from packs.structs import HistoryMsgPullResp, LoginReq, MsgAck, MsgReq

CODECS = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)
MESSAGE = MsgReq(to="b", content="hi")


def logged_in() -> ServerConnection:
    server = ServerConnection()
    server.login()
    return server


def violation(server: ServerConnection | ClientConnection, data: bytes) -> Violation:
    with pytest.raises(Violation) as broken:
        server.receive(data)
    return broken.value


@CODECS
def test_a_request_and_its_answer(codec: Codec) -> None:
    client, server = ClientConnection(codec), ServerConnection()
    (pack,) = server.receive(client.request(14, MESSAGE, "p1", DUP))
    assert server.codec is codec
    assert (pack.type, pack.version, pack.flags, pack.pack_id) == (14, 1, DUP, "p1")
    assert decode_payload(MsgReq, codec.canonical(14, pack.payload)) == MESSAGE

    answer = MsgAck(session_id="SC_a_b", seq_id=5)
    (back,) = client.receive(codec.encode_frame(Pack(14, 1, DUP | ACK, "p1", encode_payload(answer))))
    assert decode_payload(MsgAck, back.payload) == answer


@CODECS
def test_a_client_reads_packs_inside_an_answer(codec: Codec) -> None:
    history = HistoryMsgPullResp(session_id="SC_a_b", msgs=[Pack(14, 1, 4, "m", encode_payload(MESSAGE))])
    (back,) = ClientConnection(codec).receive(codec.encode_frame(Pack(21, 1, ACK, "p", encode_payload(history))))
    assert decode_payload(HistoryMsgPullResp, back.payload) == history


@CODECS
@settings(deadline=None, max_examples=50)
@given(cut=st.integers(0, 10_000), count=st.integers(1, 5))
def test_requests_cut_anywhere(codec: Codec, cut: int, count: int) -> None:
    client, server = ClientConnection(codec), logged_in()
    stream = b"".join(client.request(14, MESSAGE, f"p{n}") for n in range(count))
    cut %= len(stream)
    packs = server.receive(stream[:cut])
    packs += server.receive(stream[cut:])
    assert [pack.pack_id for pack in packs] == [f"p{n}" for n in range(count)]
    assert server.pending == 0


def test_a_request_may_carry_canonical_bytes() -> None:
    for codec in (MSGPACK, JSON):
        client = ClientConnection(codec)
        assert client.request(14, encode_payload(MESSAGE), "p") == client.request(14, MESSAGE, "p")


PING = ClientConnection().request(10, b"", "p1")
JSON_PING = ClientConnection(JSON).request(10, b"", "p1")

VIOLATIONS = {
    "length below 5": (b"\x00\x00\x00\x04", CloseReason.BAD_LENGTH),
    "length above the limit": ((MAX_FRAME + 1).to_bytes(4, "big"), CloseReason.BAD_LENGTH),
    "other codec": (JSON_PING, CloseReason.CODEC_CHANGED),
    "no codec": (frame(b"GET / HTTP/1.1"), CloseReason.CODEC_CHANGED),
    "bad header": (frame(b"\x95\x01"), CloseReason.BAD_HEADER),
    "empty packId": (frame(MSGPACK.encode(Pack(10, 1, 0, "", b""))), CloseReason.BAD_PACK_ID),
    "long packId": (frame(MSGPACK.encode(Pack(10, 1, 0, "x" * 65, b""))), CloseReason.BAD_PACK_ID),
    "packId with a blank": (frame(MSGPACK.encode(Pack(10, 1, 0, "a b", b""))), CloseReason.BAD_PACK_ID),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_comes_with_the_packs_before_it_and_ends_everything(name: str) -> None:
    data, reason = VIOLATIONS[name]
    server = logged_in()
    broken = violation(server, PING + PING + data + PING)
    assert broken.reason is reason
    assert [pack.pack_id for pack in broken.packs] == ["p1", "p1"]
    assert server.state is ConnState.CLOSED
    assert server.receive(PING) == []
    assert server.pending == 0


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x0a\x00", b" {}", b"\x94", b"\x80", b"["])
def test_the_first_body_must_be_in_a_codec(first: bytes) -> None:
    server = ServerConnection()
    broken = violation(server, frame(first))
    assert (broken.reason, broken.packs, server.codec) == (CloseReason.UNKNOWN_CODEC, [], None)


def test_an_http_request_is_a_bad_length() -> None:
    assert violation(ServerConnection(), b"GET / HTTP/1.1\r\n\r\n").reason is CloseReason.BAD_LENGTH


def test_acknowledgements_need_no_pack_id() -> None:
    (pack,) = logged_in().receive(MSGPACK.encode_frame(Pack(14, 1, ACK, "", b"")))
    assert pack.flags & ACK


def test_the_version_is_kept_and_not_checked() -> None:
    (pack,) = logged_in().receive(MSGPACK.encode_frame(Pack(10, 7, 0, "p", b"")))
    assert pack.version == 7


def test_frames_are_small_until_login() -> None:
    def login(size: int) -> bytes:
        head = len(ClientConnection().request(11, b"x" * 300, "p")) - 300
        return ClientConnection().request(11, b"x" * (size - head), "p")

    server = ServerConnection()
    assert server.state is ConnState.NEW
    assert len(server.receive(login(MAX_FRAME_BEFORE_LOGIN))) == 1
    assert violation(server, login(MAX_FRAME_BEFORE_LOGIN + 1)).reason is CloseReason.BAD_LENGTH

    server = logged_in()
    assert server.state is ConnState.LOGGED_IN
    assert len(server.receive(login(MAX_FRAME_BEFORE_LOGIN + 1))) == 1


def test_a_limit_below_that_of_login_holds_from_the_start() -> None:
    server = ServerConnection(max_frame=100)
    assert violation(server, b"\x00\x00\x00\x65").reason is CloseReason.BAD_LENGTH


def test_login_does_not_reopen_a_closed_connection() -> None:
    server = ServerConnection()
    server.receive(PING[:3])
    server.close()
    server.login()
    assert (server.state, server.pending) == (ConnState.CLOSED, 0)


def test_pending_tells_of_half_a_frame() -> None:
    server = ServerConnection()
    server.receive(PING + PING[:7])
    assert server.pending == 7


@pytest.mark.parametrize(
    ("codec", "bad", "reason"),
    [
        (MSGPACK, b"\x00\x00\x00\x00", CloseReason.BAD_LENGTH),
        (MSGPACK, frame(b"\xc1"), CloseReason.BAD_HEADER),
        (MSGPACK, JSON_PING, CloseReason.BAD_HEADER),
        (JSON, PING, CloseReason.BAD_HEADER),
        (JSON, frame(b'{"type":14,"packId":"p","payload":[]}'), CloseReason.BAD_PAYLOAD),
        (JSON, frame(b'{"type":21,"packId":"p","flags":1,"payload":{"msgs":[{}]}}'), CloseReason.BAD_PAYLOAD),
    ],
)
def test_a_server_that_breaks_the_protocol(codec: Codec, bad: bytes, reason: CloseReason) -> None:
    good = codec.encode_frame(Pack(14, 1, 0, "p", encode_payload(MESSAGE)))
    client = ClientConnection(codec)
    broken = violation(client, good + bad + good)
    assert (broken.reason, len(broken.packs)) == (reason, 1)
    assert client.closed
    assert client.receive(good) == []


def test_a_json_client_sees_a_newer_servers_push() -> None:
    (pack,) = ClientConnection(JSON).receive(frame(b'{"type":77,"packId":"p","payload":{"new":1}}'))
    assert (pack.type, decode_payload(LoginReq, pack.payload)) == (77, LoginReq())


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_noise_is_packs_or_a_violation(chunks: list[bytes]) -> None:
    for first in (b"", PING, JSON_PING):
        for end in (ServerConnection(), ClientConnection(), ClientConnection(JSON)):
            try:
                for chunk in (first, *chunks, *(frame(b"\x95" + chunk) for chunk in chunks)):
                    end.receive(chunk)
            except Violation:
                assert end.receive(PING) == []


def test_an_idle_connection_costs_less_than_half_a_kibibyte() -> None:
    count = 200
    tracemalloc.start()
    try:
        idle = [logged_in() for _ in range(count)]
        for server in idle:
            server.receive(PING)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / count < 512
