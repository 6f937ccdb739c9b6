"""The header: packId, version, flags, acknowledgements, compression."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.flags import ACK, COMPRESS_MASK, COMPRESS_ZLIB, COUNTER, CRYPTO_MASK, DUP, HIGH_PRIORITY, OVERRIDE, REVOKE
from packs.frames import MAX_FRAME, MAX_FRAME_BEFORE_LOGIN
from tests.raw import Raw, code, decode
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")
CODECS = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)
BAD_IDS = ["", "x" * 65, "a b", " ", "é", "a\n", "\0", "\x7f"]


# ---- packId


@CODECS
@pytest.mark.parametrize("pack_id", BAD_IDS, ids=repr)
def test_a_bad_pack_id_closes(system: System, user: Callable[[], str], codec: Codec, pack_id: str) -> None:
    raw = system.connect(codec=codec)
    assert raw.login(user()).error_code.code == 0
    raw.send_any(t.PING, pack_id="before")
    raw.send_any(t.PING, pack_id=pack_id)
    raw.send_any(t.PING, pack_id="after")
    assert [pack.pack_id for pack in raw.rest()] == ["before"]


def test_and_before_login(system: System, user: Callable[[], str]) -> None:
    raw = system.connect()
    raw.send_any(t.LOGIN, {"clientId": user(), "deviceType": 5, "deviceId": "d"}, pack_id="")
    assert raw.rest() == []


@CODECS
@pytest.mark.parametrize("pack_id", ["!", "~", "x" * 64, '"\\/', "6f1c1b9e-0e3c-4d55-9a3b-6d6f2a6b8f00"])
def test_the_answer_repeats_the_pack_id(system: System, user: Callable[[], str], codec: Codec, pack_id: str) -> None:
    bob = user()
    raw = system.connect(codec=codec)
    raw.login(user())
    raw.send_any(t.PING, pack_id=pack_id)
    assert raw.pack().pack_id == pack_id
    assert code(raw.ask_any(t.MSG_SINGLE_CHAT, {"to": bob, "content": "x"}, pack_id=pack_id)) == 0


# ---- version and flags


@pytest.mark.parametrize("version", [0, 1, 2, 2**31 - 1, -1])
@pytest.mark.parametrize("pack_type", [t.PING, t.HOTSESSION_SYNC, 99])
def test_answers_repeat_type_version_and_flags(
    system: System, user: Callable[[], str], pack_type: int, version: int
) -> None:
    raw = system.client(user())
    flags = DUP | COUNTER | HIGH_PRIORITY | 1 << 12
    raw.send_any(pack_type, {"timestamp": 0}, flags=flags, version=version)
    answer = raw.pack()
    assert (answer.type, answer.version, answer.flags) == (pack_type, version, flags | ACK)


def test_only_some_flags_of_a_message_reach_others(system: System, user: Callable[[], str]) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    ack = a.text(bob, "x", flags=DUP | COUNTER | OVERRIDE | REVOKE | HIGH_PRIORITY | 1 << 12)
    assert ack.error_code.code == 0
    assert b.pack().flags == COUNTER | HIGH_PRIORITY
    answer = b.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=ack.session_id, seq_id=0))
    assert [pack.flags for pack in answer.msgs] == [COUNTER | HIGH_PRIORITY]


# ---- acknowledgements are no requests


@pytest.mark.parametrize("pack_type", [t.PING, t.LOGIN, t.LOGOUT, t.MSG_SINGLE_CHAT, t.HOTSESSION_SYNC, t.KICKOUT, 99])
def test_a_pack_with_ack_is_never_a_request(system: System, user: Callable[[], str], pack_type: int) -> None:
    bob = user()
    raw, b = system.client(user()), system.client(bob)
    raw.send_any(pack_type, {"to": bob, "content": "x", "timestamp": 0}, flags=ACK, pack_id="acknowledged")
    raw.send_any(pack_type, b"", flags=ACK, pack_id="")  # not even its packId matters
    raw.send_any(t.PING, pack_id="ping")
    assert raw.pack().pack_id == "ping"
    assert code(raw.text(bob, "real")) == 0
    assert b.push(t.MSG_SINGLE_CHAT).content == "real"


def test_an_acknowledgement_is_no_login(system: System, user: Callable[[], str]) -> None:
    raw = system.connect()
    login = {"clientId": user(), "deviceType": 5, "deviceId": "d"}
    raw.send_any(t.LOGIN, login, flags=ACK, pack_id="acknowledged")
    raw.send_any(t.LOGIN, login, pack_id="real")
    assert raw.pack().pack_id == "real"


def test_a_push_may_be_acknowledged(system: System, user: Callable[[], str]) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    a.text(bob, "one")
    pushed = b.pack()
    b.send_any(pushed.type, b"", flags=pushed.flags | ACK, pack_id=pushed.pack_id)
    a.text(bob, "two")
    assert decode(b.pack()).content == "two"


# ---- compression


def test_a_compressed_message_is_stored_and_delivered_plain(system: System, user: Callable[[], str]) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    as_json = system.connect(codec=JSON)
    as_json.login(bob, device_type=2)
    packed = zlib.compress(msgpack.packb({"to": bob, "content": "long " * 1000}))
    a.send_any(t.MSG_SINGLE_CHAT, packed, flags=COMPRESS_ZLIB | COUNTER, pack_id="p1")
    answer = a.pack()
    assert answer.flags == COUNTER | ACK and code(ack := decode(answer)) == 0
    for raw in (b, as_json):
        pushed = raw.pack()
        assert pushed.flags == COUNTER and decode(pushed).content == "long " * 1000
    assert [m.content for m in b.history(ack.session_id)] == ["long " * 1000]


def test_a_compressed_login(system: System, user: Callable[[], str]) -> None:
    raw = system.connect()
    packed = zlib.compress(msgpack.packb({"clientId": user(), "deviceType": 5, "deviceId": "d"}))
    assert code(raw.ask_any(t.LOGIN, packed, flags=COMPRESS_ZLIB)) == 0


def test_a_compressed_empty_payload(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    assert code(raw.ask_any(t.HOTSESSION_SYNC, zlib.compress(b""), flags=COMPRESS_ZLIB)) == 2


PLAIN = msgpack.packb({"to": "b", "content": "x"})
ZIPPED = zlib.compress(PLAIN)
WRONG = {
    "not zlib": (PLAIN, COMPRESS_ZLIB, 42),
    "nothing": (b"", COMPRESS_ZLIB, 42),
    "cut": (ZIPPED[:-3], COMPRESS_ZLIB, 42),
    "flipped": (ZIPPED[:-1] + bytes((ZIPPED[-1] ^ 1,)), COMPRESS_ZLIB, 42),
    "more behind": (ZIPPED + b"\0", COMPRESS_ZLIB, 42),
    "raw deflate": (ZIPPED[2:-4], COMPRESS_ZLIB, 42),
    "bomb": (zlib.compress(bytes(300_000_000), 1), COMPRESS_ZLIB, 41),
    "just too long": (zlib.compress(b"\x81\xa1x\xdb\x00\x09\xc4\x00" + b"y" * MAX_FRAME), COMPRESS_ZLIB, 41),
    **{f"compression {n}": (ZIPPED, n << 6, 1) for n in range(2, 8)},
    **{f"crypto {n}": (PLAIN, n << 9, 1) for n in range(1, 8)},
    "crypto and zlib": (ZIPPED, COMPRESS_ZLIB | 1 << 9, 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_compression_and_any_crypto(system: System, user: Callable[[], str], name: str) -> None:
    payload, flags, expected = WRONG[name]
    raw = system.client(user())
    raw.send_any(t.MSG_SINGLE_CHAT, payload[: MAX_FRAME - 100], flags=flags)
    answer = raw.pack()
    assert code(decode(answer)) == expected
    assert not answer.flags & (COMPRESS_MASK | CRYPTO_MASK)  # the answer is neither
    assert code(raw.ask(t.PING)) == 0


@pytest.mark.parametrize("pack_type", [t.PING, t.LOGOUT, t.HOTSESSION_SYNC, t.HISTORY_MSG_PULL])
def test_crypto_is_refused_for_every_type(system: System, user: Callable[[], str], pack_type: int) -> None:
    raw = system.client(user())
    assert code(raw.ask_any(pack_type, {"timestamp": 0}, flags=1 << 9)) == 1


def test_crypto_in_login(system: System, user: Callable[[], str]) -> None:
    raw = system.connect()
    assert code(raw.ask_any(t.LOGIN, {"clientId": user(), "deviceType": 5, "deviceId": "d"}, flags=1 << 9)) == 1
    assert raw.rest() == []


def test_before_login_a_payload_inflates_to_no_more_than_a_frame(system: System, user: Callable[[], str]) -> None:
    raw = system.connect()
    login = {"clientId": user(), "deviceType": 5, "deviceId": "d", "deviceName": "x" * MAX_FRAME_BEFORE_LOGIN}
    assert code(raw.ask_any(t.LOGIN, zlib.compress(msgpack.packb(login)), flags=COMPRESS_ZLIB)) == 41
    assert raw.rest() == []


def test_a_compressed_ping_is_echoed(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    raw.send_any(t.PING, zlib.compress(msgpack.packb({"x": 1})), flags=COMPRESS_ZLIB)
    answer = raw.pack()
    assert code(decode(answer)) == 0
    assert not answer.flags & COMPRESS_MASK


def packed_json(payload: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(payload).encode())).decode()


def send_json(raw: Raw, pack_type: int, payload: str | None, flags: int = COMPRESS_ZLIB) -> Any:
    """The answer to a pack whose payload is a string."""
    pack = {"type": pack_type, "flags": flags, "packId": "p", "payload": payload}
    raw.send_body(json.dumps(pack).encode())
    return raw.answer("p")


def test_compressed_json(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.connect(codec=JSON), system.client(bob)
    login = {"clientId": alice, "deviceType": 5, "deviceId": "d"}
    assert code(send_json(a, t.LOGIN, packed_json(login))) == 0
    message = {"to": bob, "content": "长 " * 1000}
    assert code(send_json(a, t.MSG_SINGLE_CHAT, packed_json(message))) == 0
    pushed = b.pack()
    assert not pushed.flags & COMPRESS_MASK and decode(pushed).content == message["content"]
    assert code(send_json(a, t.HOTSESSION_SYNC, packed_json({"timestamp": 0}))) == 0


WRONG_JSON = {
    "no base64": ("?", COMPRESS_ZLIB, 42),
    "nothing": ("", COMPRESS_ZLIB, 42),
    "null": (None, COMPRESS_ZLIB, 42),
    "not zlib": (base64.b64encode(b'{"to":"b"}').decode(), COMPRESS_ZLIB, 42),
    "no JSON inside": (base64.b64encode(zlib.compress(b"\x80")).decode(), COMPRESS_ZLIB, 42),
    "cut": (packed_json({"to": "b", "content": "x"})[:-8], COMPRESS_ZLIB, 42),
    "bomb": (base64.b64encode(zlib.compress(b" " * 50_000_000, 9)).decode(), COMPRESS_ZLIB, 41),
    "not compressed": (packed_json({"to": "b", "content": "x"}), 0, 42),
    "other compression": (packed_json({"to": "b", "content": "x"}), 2 << 6, 1),
    "crypto too": (packed_json({"to": "b", "content": "x"}), COMPRESS_ZLIB | 1 << 9, 1),
}


@pytest.mark.parametrize("name", WRONG_JSON)
def test_wrong_compression_in_json(system: System, user: Callable[[], str], name: str) -> None:
    payload, flags, expected = WRONG_JSON[name]
    raw = system.connect(codec=JSON)
    raw.login(user())
    assert code(send_json(raw, t.MSG_SINGLE_CHAT, payload, flags)) == expected
    assert code(raw.ask(t.PING)) == 0


def test_json_that_says_it_is_compressed_and_is_not(system: System, user: Callable[[], str]) -> None:
    raw = system.connect(codec=JSON)
    raw.login(user())
    assert code(raw.ask_any(t.MSG_SINGLE_CHAT, {"to": "b", "content": "x"}, flags=COMPRESS_ZLIB)) == 42


def test_a_message_counts_as_it_is_inflated(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    for size, expected in ((60_000, 0), (70_000, 41), (MAX_FRAME + 1, 41)):
        packed = zlib.compress(msgpack.packb({"to": user(), "content": "x" * size}))
        assert code(raw.ask_any(t.MSG_SINGLE_CHAT, packed, flags=COMPRESS_ZLIB)) == expected
