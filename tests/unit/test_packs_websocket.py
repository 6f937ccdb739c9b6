"""WebSocket: the handshake, frames in pieces of any size, and everything that a client may do wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packs.codec import JSON, MSGPACK, Codec
from packs.connection import CloseReason, ServerConnection, Violation
from packs.frames import FrameError
from packs.pack import VERSION, Pack
from packs.table import PING as PING_PACK
from packs.websocket import (
    CLOSE_CODES,
    MAX_EMPTY,
    MAX_HEAD,
    POLICY,
    WEB_JSON,
    WEB_MSGPACK,
    Refusal,
    WebSocketConnection,
    WebSocketReader,
    anybody,
    message,
    shake,
)
from tests.web_socket import BINARY, CLOSE, PING, PONG, TEXT, frame

HEAD = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Version: 13"
)
"""The example of RFC 6455, section 1.3."""


def opened(limit: int = 1000) -> WebSocketReader:
    reader = WebSocketReader(limit)
    assert reader.feed(HEAD + b"\r\n\r\n") == []
    assert reader.open and reader.replies().startswith(b"HTTP/1.1 101 ")
    return reader


def refused(reader: WebSocketReader, data: bytes) -> tuple[str, list[bytes]]:
    with pytest.raises(FrameError) as caught:
        reader.feed(data)
    return caught.value.reason, caught.value.bodies


def without(name: bytes) -> bytes:
    return b"\r\n".join(line for line in HEAD.split(b"\r\n") if not line.lower().startswith(name))


# ---- the handshake


def test_the_handshake_of_the_standard_is_answered_as_it_says() -> None:
    answer = shake(HEAD, anybody).decode()
    assert answer.split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD.replace(b"GET", b"POST"), "405"),
        (HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"), "400"),
        (HEAD.replace(b"/chat", b"/chat room"), "400"),
        (without(b"upgrade"), "426"),
        (without(b"connection"), "426"),
        (HEAD.replace(b": 13", b": 8"), "426"),
        (without(b"sec-websocket-version"), "426"),
        (without(b"sec-websocket-key"), "400"),
        (without(b"host"), "400"),
        (HEAD.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ=="), "400"),
        (HEAD.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"not base 64"), "400"),
        (HEAD + b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "400"),
        (HEAD + b"\r\n folded: 1", "400"),
        (HEAD + b"\r\nno colon", "400"),
        (HEAD + b"\r\nspace : 1", "400"),
        (HEAD + b"\r\na: b\nc: d", "400"),
        (b"", "400"),
        (b"\xff\x00", "400"),
    ],
)
def test_what_is_no_handshake_is_told_so(head: bytes, status: str) -> None:
    with pytest.raises(Refusal) as caught:
        shake(head, anybody)
    answer, _, body = caught.value.answer.decode().partition("\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ") and f"Content-Length: {len(body)}" in answer and len(body) > 9
    reader = WebSocketReader()
    assert refused(reader, head + b"\r\n\r\n") == ("bad_websocket", [])
    assert reader.farewell(CloseReason.BAD_WEBSOCKET) == caught.value.answer  # and no Close behind it


def test_names_and_tokens_are_compared_without_case_and_tokens_may_be_several() -> None:
    odd = HEAD.replace(b"Upgrade: websocket", b"uPGRADE: h2c, WebSocket")
    odd = odd.replace(b"Connection: Upgrade", b"CONNECTION: keep-alive\r\nconnection:UPGRADE")
    assert shake(odd, anybody) == shake(HEAD, anybody)


def test_pages_of_other_origins_are_refused_where_origins_are_listed() -> None:
    assert shake(HEAD, {"http://example.com"}.__contains__) == shake(HEAD, anybody)
    assert shake(without(b"origin"), {"https://other"}.__contains__) == shake(HEAD, anybody)  # no browser
    with pytest.raises(Refusal, match="origin"):
        shake(HEAD, {"https://other"}.__contains__)


def test_a_handshake_may_come_byte_by_byte_and_has_a_largest_size() -> None:
    reader = WebSocketReader()
    for i, byte in enumerate(HEAD + b"\r\n\r\n"):
        assert reader.pending == i and not reader.has_replies
        assert reader.feed(bytes((byte,))) == []
    assert reader.open and reader.pending == 0
    endless = WebSocketReader()
    endless.feed(b"GET / HTTP/1.1\r\n" + b"a" * (MAX_HEAD - 20))
    assert refused(endless, b"a" * 10) == ("bad_websocket", [])
    assert endless.farewell(CloseReason.BAD_WEBSOCKET).startswith(b"HTTP/1.1 431 ")


# ---- messages


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.integers(1, 5), st.booleans()), max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_messages_in_fragments_and_pieces_of_any_size_arrive_whole(
    messages: list[tuple[bytes, int, bool]], sizes: list[int]
) -> None:
    data, sent, pings = b"", [], []
    for i, (body, fragments, pinged) in enumerate(messages):
        body = b"\x95" + body
        step = max(1, len(body) // fragments)
        parts = [body[j : j + step] for j in range(0, len(body), step)]
        for j, part in enumerate(parts):
            data += frame(BINARY if j == 0 else 0, part, last=j == len(parts) - 1)
            if pinged:
                data += frame(PING, bytes((i, j)))
                pings.append(bytes((i, j)))
        sent.append(body)
    reader, got, at, pongs = opened(), [], 0, b""
    while at < len(data):
        for size in sizes:
            got += reader.feed(data[at : at + size])
            pongs += reader.replies()
            at += size
    assert got == sent and reader.pending == 0
    assert not pings or pongs.endswith(message(PONG, pings[-1]))


@pytest.mark.parametrize("size", [1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_lengths_of_all_three_kinds(size: int) -> None:
    body = b"\x95" * size
    assert opened(size + 4).feed(frame(BINARY, body)) == [body]
    own = message(BINARY, body)
    assert own[1] < 128 and own.endswith(body) and len(own) - size == (2 if size < 126 else 4 if size < 65_536 else 10)
    reader = opened(size + 3)
    assert refused(reader, frame(BINARY, body)[:14]) == ("bad_length", [])  # as soon as the length is there


def test_a_message_in_fragments_has_the_limit_of_a_whole_one() -> None:
    reader = opened(104)
    assert reader.feed(frame(BINARY, b"\x95" * 60, last=False)) == []
    assert reader.pending > 60
    assert refused(reader, frame(0, b"\x95" * 41, last=False)) == ("bad_length", [])


@pytest.mark.parametrize(
    "bad",
    [
        frame(BINARY, b"\x95", mask=b""),  # not masked
        frame(BINARY, b"\x95", bits=0x40),  # compressed, by an extension that nobody agreed to
        frame(0, b"\x95"),  # the rest of nothing
        frame(3, b"\x95"), frame(11, b""),  # opcodes that are none
        frame(PING, b"x" * 126), frame(PING, b"", last=False), frame(CLOSE, b"x"),
        *(frame(CLOSE, number.to_bytes(2, "big")) for number in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
        bytes((0x89, 0xFE, 0, 2, 0, 0, 0, 0)) + b"hi",  # a length that would fit a shorter one
        bytes((0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF)),
        frame(BINARY, b"\x95", last=False) + frame(BINARY, b"\x95"),  # a second message inside the first
    ],
)  # fmt: skip
def test_frames_against_the_rules_end_the_connection_behind_what_came_before(bad: bytes) -> None:
    reader = opened()
    reason, bodies = refused(reader, frame(TEXT, b"{}") + bad)
    assert (reason, bodies) == ("bad_websocket", [b"{}"])
    assert reader.farewell(CloseReason.BAD_WEBSOCKET)[2:4] == (1002).to_bytes(2, "big")


@pytest.mark.parametrize("bad", [frame(TEXT, b"[]"), frame(BINARY, b"{}")])
def test_texts_are_json_and_bytes_are_not(bad: bytes) -> None:
    assert refused(opened(), bad) == ("unknown_codec", [])


@pytest.mark.parametrize(
    "bad", [frame(TEXT, b'{"a":"\xff"}'), frame(TEXT, b"\x95\x01"), frame(CLOSE, b"\x03\xe8\xff")]
)  # fmt: skip
def test_texts_are_utf_8(bad: bytes) -> None:
    reader = opened()
    assert reader.feed(frame(TEXT, '{"a":"ä"}'.encode())) == ['{"a":"ä"}'.encode()]
    assert refused(reader, bad) == ("bad_websocket", [])
    assert reader.farewell(CloseReason.BAD_WEBSOCKET)[2:4] == (1007).to_bytes(2, "big")


def test_frames_with_nothing_in_them_are_limited_in_one_read() -> None:
    reader = opened()
    for _ in range(3):
        reader.feed(frame(PING, b"x") * MAX_EMPTY)
    assert refused(reader, frame(PONG, b"") * (MAX_EMPTY + 1)) == ("bad_websocket", [])
    fragments = opened()
    assert refused(fragments, frame(TEXT, b"{", last=False) + frame(0, b"", last=False) * 100) == ("bad_websocket", [])


def test_a_ping_right_behind_the_handshake_is_answered_behind_it() -> None:
    reader = WebSocketReader()
    reader.feed(HEAD + b"\r\n\r\n" + frame(PING, b"x"))
    assert reader.replies() == shake(HEAD, anybody) + message(PONG, b"x") and not reader.has_replies


@pytest.mark.parametrize("bad", [frame(TEXT, b""), frame(TEXT, b"", last=False) + frame(0, b"")])
def test_a_message_has_at_least_a_byte(bad: bytes) -> None:
    assert refused(opened(), bad) == ("bad_length", [])


def test_an_empty_fragment_is_pending() -> None:
    reader = opened()
    assert reader.feed(frame(BINARY, b"", last=False)) == []
    assert reader.pending == 1
    assert reader.feed(frame(0, b"\x95")) == [b"\x95"]
    assert reader.pending == 0


def test_a_close_is_answered_with_its_code_and_is_the_end() -> None:
    for payload in (b"", (1001).to_bytes(2, "big") + b"bye"):
        reader = opened()
        assert refused(reader, frame(TEXT, b"{}") + frame(CLOSE, payload) + frame(TEXT, b"{}")) == ("eof", [b"{}"])
        assert reader.farewell(CloseReason.EOF) == message(CLOSE, payload[:2])


# ---- the connection


def connection() -> WebSocketConnection:
    made = WebSocketConnection()
    assert made.receive(HEAD + b"\r\n\r\n") == []
    assert made.has_replies and made.replies().startswith(b"HTTP/1.1 101 ") and not made.has_replies
    return made


@pytest.mark.parametrize(("plain", "web", "opcode"), [(MSGPACK, WEB_MSGPACK, BINARY), (JSON, WEB_JSON, TEXT)])
def test_the_first_message_tells_the_codec(plain: Codec, web: Codec, opcode: int) -> None:
    made, pack = connection(), Pack(PING_PACK, VERSION, 0, "p1", b"\x80")
    body = plain.encode(pack)
    assert [found.pack_id for found in made.receive(frame(opcode, body))] == ["p1"]
    assert made.codec is web
    assert made.codec.encode_frame(pack) == message(opcode, body) == made.codec.frame_of(MSGPACK.encode(pack))
    with pytest.raises(Violation) as caught:
        other = JSON if plain is MSGPACK else MSGPACK
        made.receive(frame(TEXT if opcode == BINARY else BINARY, other.encode(pack)))
    assert caught.value.reason is CloseReason.CODEC_CHANGED


def test_every_reason_has_a_close() -> None:
    for reason in CloseReason:
        made = connection()
        farewell = made.farewell(reason)
        code = int.from_bytes(farewell[2:4], "big")
        assert code == CLOSE_CODES.get(reason, POLICY) and farewell[4:] == reason.value.encode()
        assert made.farewell(reason) == b""


def test_silence_is_asked_about_once() -> None:
    made = connection()
    assert [made.nudge(5.0), made.nudge(5.0), made.nudge(7.5)] == [message(PING, b""), b"", message(PING, b"")]
    assert WebSocketConnection().nudge(5.0) == b"" == ServerConnection().nudge(5.0)  # no handshake; TCP


def test_before_login_messages_are_small() -> None:
    made = connection()
    with pytest.raises(Violation) as caught:
        made.receive(frame(BINARY, b"\x95" * 20_000))
    assert caught.value.reason is CloseReason.BAD_LENGTH
    made = connection()
    made.login()
    made.receive(frame(BINARY, MSGPACK.encode(Pack(PING_PACK, VERSION, 0, "p1", b"\xc1" * 20_000))))
