"""WebSocket, spoken over raw TCP: what a browser may do, and what it may not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import websocket

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.flags import COUNTER
from packs.pack import Pack
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until
from tests.web_socket import BINARY, PING, PONG, TEXT, WebRaw, frame

# On CI it must run: not running there would hide a failure.
MISSING = shutil.which("openssl") is None and not os.environ.get("CI")
pytestmark = pytest.mark.skipif(MISSING, reason="makes its certificate with openssl")

PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def system(certificate: Path) -> Iterator[System]:
    broker = {
        "ws_listen": "127.0.0.1:0", "wss_listen": "127.0.0.1:0", "tls_certificate": str(certificate),
        "login_timeout": 2.0, "frame_timeout": 2.0, "ws_origins": [PAGE],
    }  # fmt: skip
    with running(topology_text(tables={"node.broker": broker})) as found, found.unharmed():
        yield found


@pytest.mark.parametrize("codec", [MSGPACK, JSON])
def test_a_chat_between_websocket_and_tcp(system: System, user: Callable[[], str], codec: Codec) -> None:
    alice, bob = user(), user()
    a, b = system.web(alice, codec=codec), system.client(bob)
    assert code(a.text(bob, "hello")) == 0
    assert b.push(t.MSG_SINGLE_CHAT).content == "hello"
    b.text(alice, "ä" * 30_000)
    assert a.push(t.MSG_SINGLE_CHAT).content == "ä" * 30_000
    assert code(a.ask(t.PING)) == 0
    system.web(bob)  # the same kind of device, wherever it connects
    assert b.rest()[-1].type == t.KICKOUT
    a.request(t.LOGOUT)
    assert a.closing() == (1000, "logout")


def test_a_group_on_both_transports_and_codecs(system: System, user: Callable[[], str]) -> None:
    owner, *members = (user() for _ in range(4))
    ends = [system.client(members[0]), system.web(members[1]), system.web(members[2], codec=JSON)]
    a = system.web(owner, codec=JSON)
    info = s.GroupChatInfo(name="both", member_limit=10)
    group = a.ask(t.GROUPCHAT_CREATE, s.GroupChatCreateReq(group_info=info, member_ids=members)).group_id
    for end in ends:
        wait_until(lambda end=end: end.pack().type == t.SYNC_DATA_CMD, "he is told of the group")
    assert code(a.ask(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content="all", content_type=1))) == 0
    for end in ends:
        assert decode(wait_until(lambda end=end: message_in(end), "the message")).content == "all"


def message_in(end: Raw) -> Pack | None:
    pack = end.pack()
    return pack if pack.type == t.MSG_GROUP_CHAT else None


def test_wss(system: System, user: Callable[[], str], certificate: Path) -> None:
    trust = ssl.create_default_context(cafile=str(certificate))
    a, b = system.web(kind="wss", tls=trust), system.web(user())
    alice = user()
    assert code(a.login(alice)) == 0
    b.text(alice, "over tls")
    assert a.push(t.MSG_SINGLE_CHAT).content == "over tls"


def test_pings_of_the_transport_are_answered_before_and_after_login(system: System, user: Callable[[], str]) -> None:
    raw = system.web()
    raw.send_bytes(frame(PING, b"before"))
    raw.login(user())
    raw.send_bytes(frame(PING, b"one") + frame(PONG, b"unasked") + frame(PING, b"two"))
    raw.ask(t.PING)
    assert raw.controls == [(PONG, b"before"), (PONG, b"two")]


def test_a_message_in_fragments_with_a_ping_in_between(system: System, user: Callable[[], str]) -> None:
    raw = system.web(user(), codec=JSON)
    body = b'{"type":10,"packId":"parts"}'
    raw.send_bytes(frame(TEXT, body[:5], last=False) + frame(PING, b"") + frame(0, body[5:20], last=False))
    raw.send_bytes(frame(0, body[20:]))
    assert raw.pack().pack_id == "parts"


@pytest.mark.parametrize(
    ("sent", "closing"),
    [
        (frame(BINARY, b"\x95", mask=b""), (1002, "bad_websocket")),
        (frame(TEXT, b"\x95\x0a\x01"), (1007, "bad_websocket")),
        (frame(BINARY, b"{}"), (1002, "unknown_codec")),
        (frame(PING, b"") * 65, (1008, "bad_websocket")),
        (frame(TEXT, b"{nonsense"), (1002, "bad_header")),
        (frame(BINARY, b"\x95" * 20_000), (1009, "bad_length")),
        (frame(TEXT, b'{"type":14,"packId":"x"}'), (1008, "denied")),
        (frame(8, b""), (0, "")),
        (frame(8, b"\x03\xe9bye"), (1001, "")),
    ],
    ids=[
        "not masked", "msgpack in a text", "JSON in bytes", "pings", "no JSON", "too long", "before LOGIN",
        "bare Close", "Close",
    ],
)  # fmt: skip
def test_a_connection_ends_with_a_close_that_says_why(system: System, sent: bytes, closing: tuple[int, str]) -> None:
    raw = system.web(codec=JSON)
    raw.send_bytes(sent)
    assert raw.closing() == closing


def test_all_in_one_piece_is_answered_in_order(system: System) -> None:
    raw = system.web(shake=False, codec=JSON)
    head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    raw.send_bytes((head + key).encode() + frame(PING, b"?") + frame(TEXT, b'{"type":10,"packId":"p"}') + frame(8, b""))
    assert raw.head().startswith("HTTP/1.1 101 ")
    assert code(decode(raw.pack())) == 23  # before LOGIN
    assert raw.closing() == (0, "")  # as he said himself
    assert raw.controls[0] == (PONG, b"?")


def test_who_is_silent_is_pinged_and_stays_when_he_answers(certificate: Path, user: Callable[[], str]) -> None:
    broker = {"ws_listen": "127.0.0.1:0", "heartbeat": 1.5}  # more than a sweep: what is due is seen once a second
    with running(topology_text({"main": ["broker", "user", "chat"]}, tables={"node.broker": broker})) as system:
        raw, mute = system.web(user()), system.web(user())
        for _ in range(2):
            assert not raw.silent(8.0)
            assert raw.controls.pop() == (PING, b"")
            raw.send_bytes(frame(PONG, b""))
        assert mute.closing() == (1008, "idle")
        assert mute.controls[0] == (PING, b"") and len(mute.controls) == 2
        raw.ask(t.PING)


def test_who_is_kicked_out_is_told_so_twice(system: System, user: Callable[[], str]) -> None:
    alice = user()
    old = system.web(alice)
    system.web(alice)
    assert old.push(t.KICKOUT).error_code.code == 22
    assert old.closing() == (1008, "kicked")


def test_who_neither_shakes_hands_nor_logs_in_is_closed(system: System) -> None:
    silent = system.web(shake=False)
    silent.send_bytes(b"GET / HTTP/1.1\r\n")
    assert silent.sock.recv(1000) == b""
    assert system.web().closing() == (1008, "login_timeout")
    slow = system.web()
    slow.send_bytes(frame(TEXT, b"{", last=False))
    assert slow.closing()[0] == 1008


@pytest.mark.parametrize(
    ("headers", "request_line", "status"),
    [
        ((), "GET /chat HTTP/1.1", 101),
        (("Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Extensions: permessage-deflate"), "", 101),
        ((f"Origin: {PAGE}",), "", 101),
        (("Origin: https://evil.example",), "", 403),
        (("Upgrade: h2c",), "", 426),
        (("Sec-WebSocket-Version: 7",), "", 426),
        ((), "POST / HTTP/1.1", 405),
        ((), "GET / HTTP/1.0", 400),
        ((f"X: {'x' * 9000}",), "", 431),
    ],
)  # fmt: skip
def test_handshakes(system: System, headers: tuple[str, ...], request_line: str, status: int) -> None:
    raw = system.web(shake=False)
    head = raw.shake("dGhlIHNhbXBsZSBub25jZQ==", *headers, request=request_line or "GET / HTTP/1.1")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "Extensions" not in head and "Protocol:" not in head
    if status != 101:
        assert "Connection: close" in head and raw.sock.recv(65536) == b""


def test_a_browser_that_only_looks_is_told_what_it_found(system: System) -> None:
    with socket.create_connection(system.address("ws"), 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while data := sock.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 426 ") and b"ws://" in answer


def test_a_client_of_a_library_chats(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    host, port = system.address("ws")
    tcp = system.client(alice)
    ws = websocket.create_connection(f"ws://{host}:{port}/chat", timeout=8, origin=PAGE)
    try:
        for pack_type, payload in (
            (t.LOGIN, {"clientId": bob, "deviceType": 6, "deviceId": "tab"}),
            (t.MSG_SINGLE_CHAT, {"to": alice, "content": "y" * 60_000, "contentType": 1}),
        ):
            ws.send(json.dumps({"type": pack_type, "packId": f"lib{pack_type}", "flags": COUNTER, "payload": payload}))
            answer = json.loads(ws.recv())
            assert (answer["type"], answer["payload"]["errorCode"]["code"]) == (pack_type, 0)
        assert tcp.push(t.MSG_SINGLE_CHAT).content == "y" * 60_000
        ws.ping("are you there")
        opcode, pong = ws.recv_data(control_frame=True)
        assert (opcode, pong) == (websocket.ABNF.OPCODE_PONG, b"are you there")
        tcp.text(bob, "z")
        assert json.loads(ws.recv())["payload"]["content"] == "z"
    finally:
        ws.close()


def test_clients_of_the_one_transport_are_no_clients_of_the_other(system: System, user: Callable[[], str]) -> None:
    raw = WebRaw(system.address("tcp"), shake=False)
    raw.send_bytes(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
    assert raw.sock.recv(1000) == b""
    tcp = system.connect("ws")
    tcp.request(t.LOGIN, s.LoginReq(client_id=user(), device_type=5, device_id="d"))
    tcp.sock.settimeout(5)
    assert tcp.sock.recv(1000) == b""  # it waits for a handshake, and not for ever


def test_the_system_says_where_it_listens(system: System) -> None:
    broker = next(p["nodes"]["broker"] for p in system.status().values() if "broker" in p["nodes"])
    assert {"tcp", "ws", "wss"} <= broker.keys()
    assert len({broker[kind] for kind in ("tcp", "ws", "wss")}) == 3
