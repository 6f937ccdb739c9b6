"""Codecs: what bodies look like on the wire, read and written with the plain libraries, and what does not decode."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.flags import ACK, COUNTER, DUP
from tests.raw import Raw, any_body, code
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")
CODECS = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)
CONTENTS = ["plain", "你好 🎉 é", 'quotes " \\ / and {"json": [1]}', "\0\x01\x1f\x7f\r\n\t", "\u202e", "\u2028", " "]


def next_body(raw: Raw) -> bytes:
    """The next body as it travels."""
    (length,) = struct.unpack(">I", read(raw, 4))
    return read(raw, length - 4)


def read(raw: Raw, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more: bytes = raw.sock.recv(size - len(data))
        assert more, "the server closed the connection"
        data += more
    return data


def login(system: System, user: str, codec: Codec) -> Raw:
    raw = system.connect(codec=codec)
    assert raw.login(user).error_code.code == 0
    return raw


# ---- the form


def test_msgpack_on_the_wire(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = login(system, alice, MSGPACK), login(system, bob, MSGPACK)
    payload = msgpack.packb({"to": bob, "content": "hi", "contentType": 1})
    a.send_body(msgpack.packb([14, 1, COUNTER, "p1", payload]))
    body = next_body(a)
    assert body[:1] == b"\x95"
    number, version, flags, pack_id, answer = msgpack.unpackb(body)
    assert (number, version, flags, pack_id, type(answer)) == (14, 1, COUNTER | ACK, "p1", bytes)
    ack = msgpack.unpackb(answer)
    session = "SC_{}_{}".format(*sorted((alice, bob)))
    assert ack["errorCode"] == {"code": 0, "desc": ""}
    assert (ack["sessionId"], ack["prevSeqId"], ack["timestamp"]) == (session, 0, ack["seqId"] // 1000)

    number, version, flags, pack_id, pushed = msgpack.unpackb(next_body(b))
    assert (number, version, flags, pack_id) == (14, 1, COUNTER, "p1")
    message = msgpack.unpackb(pushed)
    assert message == message | {
        "sessionId": session, "from": alice, "to": bob, "content": "hi", "contentType": 1, "seqId": ack["seqId"],
        "timestamp": ack["timestamp"], "prevSeqId": 0,
    }  # fmt: skip


def test_json_on_the_wire(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = login(system, alice, JSON), login(system, bob, JSON)
    request = {"type": 14, "version": 1, "flags": 4, "packId": "p1", "payload": {"to": bob, "content": "hi"}}
    a.send_body(json.dumps(request).encode())
    body = next_body(a)
    assert body[:1] == b"{"
    answer = json.loads(body)
    ack = answer.pop("payload")
    assert answer == {"type": 14, "version": 1, "flags": COUNTER | ACK, "packId": "p1"}
    assert (ack["errorCode"]["code"], ack["prevSeqId"]) == (0, 0)
    pushed = json.loads(next_body(b))
    assert (pushed["type"], pushed["flags"], pushed["packId"]) == (14, COUNTER, "p1")
    assert pushed["payload"] == pushed["payload"] | {"from": alice, "to": bob, "content": "hi", "seqId": ack["seqId"]}

    b.send_any(t.HISTORY_MSG_PULL, {"sessionId": ack["sessionId"], "seqId": 0})
    (kept,) = json.loads(next_body(b))["payload"]["msgs"]
    assert kept == pushed  # a pack in a list is the same object


def test_a_pack_in_a_list_is_the_same_array(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = login(system, alice, MSGPACK), login(system, bob, MSGPACK)
    ack = a.text(bob, "hi")
    pushed = msgpack.unpackb(next_body(b))
    b.send_any(t.HISTORY_MSG_PULL, {"sessionId": ack.session_id, "seqId": 0})
    (in_history,) = msgpack.unpackb(msgpack.unpackb(next_body(b))[4])["msgs"]
    b.send_any(t.HOTSESSION_SYNC, {"timestamp": 0})
    (item,) = msgpack.unpackb(msgpack.unpackb(next_body(b))[4])["sessions"]
    assert [in_history] == item["lastMsgs"]
    assert in_history[:4] == pushed[:4]
    assert msgpack.unpackb(in_history[4]) == msgpack.unpackb(pushed[4])


@pytest.mark.parametrize("one, other", [(JSON, MSGPACK), (MSGPACK, JSON), (JSON, JSON)])
def test_every_codec_talks_to_every_other(system: System, user: Callable[[], str], one: Codec, other: Codec) -> None:
    alice, bob = user(), user()
    a, b = login(system, alice, one), login(system, bob, other)
    for content in CONTENTS:
        assert code(a.text(bob, content)) == 0
        assert b.push(t.MSG_SINGLE_CHAT).content == content
    session = a.text(bob, "end").session_id
    assert [m.content for m in b.history(session)] == ["end", *reversed(CONTENTS)]


# ---- what fixes the codec


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x01\x01", b"\x94\x0b\x01\x00\xa1p", b"\xdc\x00\x05\x0b\x01\x00\xa1p\xc4\x00", b"[11,1,0,\"p\",{}]",
        b"\x00", b"\xff", b" {}", b"\xef\xbb\xbf{}", b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["tars", "array of 4", "array16", "json array", "nul", "ff", "space", "bom", "http"],
)  # fmt: skip
def test_any_other_first_byte_closes(system: System, body: bytes) -> None:
    raw = system.connect()
    raw.send_body(body)
    assert raw.rest() == []


@CODECS
def test_the_codec_of_a_connection_cannot_change(system: System, user: Callable[[], str], codec: Codec) -> None:
    raw = login(system, user(), codec)
    raw.send_body(any_body(JSON if codec is MSGPACK else MSGPACK, t.PING, b"", "p"))
    assert raw.rest() == []


@CODECS
def test_nor_before_login(system: System, codec: Codec) -> None:
    raw = system.connect(codec=codec)
    raw.send_any(t.MSG_SINGLE_CHAT, b"", flags=ACK)  # ignored, but it is a body
    raw.send_body(any_body(JSON if codec is MSGPACK else MSGPACK, t.PING, b"", "p"))
    assert raw.rest() == []


# ---- headers that do not decode


@pytest.mark.parametrize(
    "body",
    [
        b"\x95", b"\x95\x0a\x01\x00", msgpack.packb(["10", 1, 0, "p", b""]), msgpack.packb([10, 1, None, "p", b""]),
        msgpack.packb([10, 1, 0, b"p", b""]), msgpack.packb([10, 1, 0, 7, b""]), msgpack.packb([10, 1, 0, "p", {}]),
        msgpack.packb([10, 1, 0, "p", "text"]), msgpack.packb([2**31, 1, 0, "p", b""]),
        msgpack.packb([10, 1, 2**63, "p", b""]), msgpack.packb([10.5, 1, 0, "p", b""]),
        msgpack.packb([10, 1, 0, "p", b""]) + b"\0", b"\x95\x0a\x01\x00\xa2\xff\xfe\xc4\x00",
        b"\x95\x0a\x01\x00\xa1p\xc6\xff\xff\xff\xff", b"\x95" + b"\x91" * 5000,
    ],
)  # fmt: skip
def test_a_bad_msgpack_header_closes(system: System, user: Callable[[], str], body: bytes) -> None:
    raw = login(system, user(), MSGPACK)
    raw.send_body(body)
    assert raw.rest() == []


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", '{"type":10}', '{"type":"10","packId":"p"}', '{"type":10,"packId":7}', '{"type":10,"packId":null}',
        '{"type":10,"packId":"p"}x', '{"type":10,"packId":"p","flags":1.5}', '{"type":2147483648,"packId":"p"}',
        '{"type":1e400,"packId":"p"}', "{" * 5000, '{"type":10,"packId":"p","x":' + "[" * 5000,
    ],
)  # fmt: skip
def test_a_bad_json_header_closes(system: System, user: Callable[[], str], text: str) -> None:
    raw = login(system, user(), JSON)
    raw.send_body(text.encode())
    assert raw.rest() == []


def test_what_json_headers_may_leave_out(system: System, user: Callable[[], str]) -> None:
    raw = login(system, user(), JSON)
    raw.send_body(b'{"packId":"p1","type":10,"unknown":[{}]}')
    answer = {"type": 10, "version": 1, "flags": ACK, "packId": "p1", "payload": {"code": 0, "desc": ""}}
    assert json.loads(next_body(raw)) == answer


# ---- payloads


@CODECS
def test_unknown_fields_are_ignored(system: System, user: Callable[[], str], codec: Codec) -> None:
    alice, bob = user(), user()
    a, b = login(system, alice, codec), login(system, bob, codec)
    more: dict[str, Any] = {"to": bob, "content": "hi", "": 1, "x": {"y": [1, None, 2.5]}, "zz": "z" * 300}
    assert code(a.ask_any(t.MSG_SINGLE_CHAT, more)) == 0
    assert b.push(t.MSG_SINGLE_CHAT).content == "hi"


@CODECS
@pytest.mark.parametrize(
    "pack_type, payload, expected",
    [
        (t.MSG_SINGLE_CHAT, {"content": "x"}, 2), (t.MSG_SINGLE_CHAT, {"to": "", "content": "x"}, 2),
        (t.MSG_SINGLE_CHAT, {"to": 5, "content": "x"}, 42), (t.MSG_SINGLE_CHAT, {"to": None, "content": "x"}, 42),
        (t.MSG_SINGLE_CHAT, {"to": "b", "content": 5}, 42), (t.MSG_SINGLE_CHAT, {"to": "b", "content": ["x"]}, 42),
        (t.MSG_SINGLE_CHAT, {"to": "b", "content": "x", "contentType": "1"}, 42),
        (t.MSG_SINGLE_CHAT, {"to": "b", "content": "x", "contentType": 2**31}, 42),
        (t.MSG_SINGLE_CHAT, {"to": "b", "content": "x", "from": 1}, 42),
        (t.MSG_SINGLE_CHAT, {"to": "b", "content": "x", "mentions": "*"}, 42),
        (t.MSG_SINGLE_CHAT, {"to": "b", "content": "x", "pushInfo": []}, 42),
        (t.HOTSESSION_SYNC, {}, 2), (t.HOTSESSION_SYNC, {"timestamp": "0"}, 42),
        (t.HOTSESSION_SYNC, {"timestamp": 1.5}, 42), (t.HOTSESSION_SYNC, {"timestamp": 2**63}, 42),
        (t.HISTORY_MSG_PULL, {"seqId": 0}, 2), (t.HISTORY_MSG_PULL, {"sessionId": "", "seqId": 0}, 2),
        (t.HISTORY_MSG_PULL, {"sessionId": "SC_a_b", "seqId": True}, 42),
    ],
)  # fmt: skip
def test_missing_fields_and_wrong_types(
    system: System, user: Callable[[], str], codec: Codec, pack_type: int, payload: dict[str, Any], expected: int
) -> None:
    raw = login(system, user(), codec)
    answer = raw.ask_any(pack_type, payload)
    assert code(answer) == expected
    assert answer.error_code.desc.isascii() and 0 < len(answer.error_code.desc) < 100
    assert code(raw.ask(t.PING)) == 0  # and the connection goes on


def test_the_session_of_history_is_missing_a_number(system: System, user: Callable[[], str]) -> None:
    me = user()
    assert code(login(system, me, MSGPACK).ask_any(t.HISTORY_MSG_PULL, {"sessionId": f"SC_{me}_{me}"})) == 2


@pytest.mark.parametrize("pack_type", [t.MSG_SINGLE_CHAT, t.HOTSESSION_SYNC])
@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1", b"\x81", b"\x81\xa2to", b"\x90", b"\xc0", b"\xa1x", b"\x80\x80", b"\xff" * 50, b"\x81\xa1x" * 20_000,
        b"\xdf\xff\xff\xff\xff", b"\x82\xa2to\xa1b\xa7content\xdb\xff\xff\xff\xff",
        b"\x83\xa2to\xa1b\xa7content\xa1x\xa1z" + b"\x91" * 60_000,
    ],
)  # fmt: skip
def test_a_msgpack_payload_that_does_not_decode(
    system: System, user: Callable[[], str], pack_type: int, payload: bytes
) -> None:
    raw = login(system, user(), MSGPACK)
    assert code(raw.ask_any(pack_type, payload)) == 42
    assert code(raw.ask(t.PING)) == 0


@pytest.mark.parametrize(
    "payload", [b"\x82\xa2to\xa1b\xa7content\xa1\xff", b"\x81\xa2to\xd4\x01x"], ids=["bad utf-8", "extension type"]
)
def test_a_text_that_is_none(system: System, user: Callable[[], str], payload: bytes) -> None:
    assert code(login(system, user(), MSGPACK).ask_any(t.MSG_SINGLE_CHAT, payload)) == 42


@pytest.mark.parametrize(
    "text", ["[]", "null", "7", '"text"', '{"to":"b","content":"\\ud800"}', '{"to":"b","content":1e999}']
)
def test_a_json_payload_that_does_not_decode(system: System, user: Callable[[], str], text: str) -> None:
    raw = login(system, user(), JSON)
    assert code(raw.ask_any(t.MSG_SINGLE_CHAT, text.encode())) == 42
    assert code(raw.ask(t.PING)) == 0


@CODECS
def test_an_empty_payload_is_an_empty_map(system: System, user: Callable[[], str], codec: Codec) -> None:
    raw = login(system, user(), codec)
    empty = [b"", b"{}"] if codec is JSON else [b"", b"\x80", b"\xde\0\0"]
    for payload in empty:
        assert code(raw.ask_any(t.PING, payload)) == 0
        assert code(raw.ask_any(t.HOTSESSION_SYNC, payload)) == 2


@CODECS
def test_a_resend_in_another_codec_is_the_same_message(system: System, user: Callable[[], str], codec: Codec) -> None:
    alice, bob = user(), user()
    first = login(system, alice, MSGPACK).ask_any(t.MSG_SINGLE_CHAT, {"content": "ü", "to": bob}, pack_id="same")
    resend = {"to": bob, "content": "ü"}
    again = login(system, alice, codec).ask_any(t.MSG_SINGLE_CHAT, resend, pack_id="same", flags=DUP)
    assert (code(first), code(again), again.seq_id) == (0, 46, first.seq_id)
