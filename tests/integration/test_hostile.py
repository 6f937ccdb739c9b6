"""Hostile clients: none of them changes anything for the others."""

from __future__ import annotations

import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator

import gevent
import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.connection import Violation
from packs.flags import ACK, COMPRESS_ZLIB
from packs.ids import single_session
from tests.integration.siege import besieged
from tests.raw import Raw, any_body, code, decode
from tests.system import System
from tests.waiting import wait_until


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 4) + body


HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(194))
GREETINGS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO, b"SSH-2.0-x\r\n", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0",
    b"*1\r\n", b"\0\0\0\x05\x95", b"\0\0\0\x05{", b"\0\0\0\x06{}", b"\x7f\xff\xff\xff" + b"\x95" * 1000, b"\n" * 3000,
]  # fmt: skip


ALIVE = frame(any_body(MSGPACK, t.MSG_SINGLE_CHAT, b"", "p", flags=ACK))
"""A sign of life that is no request."""


@pytest.fixture
def system(strict: System, user: Callable[[], str]) -> Iterator[System]:
    """The system under siege."""
    with besieged(strict, user):
        yield strict


def until_closed(raw: Raw) -> int:
    """Read and forget until the server closes; the number of bytes."""
    size = 0
    try:
        while data := raw.sock.recv(65_536):
            size += len(data)
    except ConnectionResetError:
        pass
    return size


def send_on(raw: Raw, data: bytes) -> None:
    """Send as far as the server lets us."""
    try:
        raw.send_bytes(data)
    except (BrokenPipeError, ConnectionResetError):
        return


@pytest.mark.parametrize("seed", range(2))
def test_rubbish(system: System, seed: int) -> None:
    rng = random.Random(seed)
    raws = [system.connect() for _ in range(100)]
    for i, raw in enumerate(raws):
        send_on(raw, GREETINGS[i] if i < len(GREETINGS) else rng.randbytes(rng.choice([1, 3, 4, 5, 50, 5000])))
    for raw in raws:
        assert until_closed(raw) == 0  # nobody gets a byte


def test_half_frames_that_never_end(system: System, user: Callable[[], str]) -> None:
    raws = [system.connect() for _ in range(200)] + [system.client(user(), device_type=n) for n in range(1, 11)]
    for raw in raws:
        send_on(raw, b"\0\0\x3f\xff\x95" + b"x" * 16_000)
    for raw in raws:
        assert until_closed(raw) == 0


def test_a_thousand_connections_that_never_log_in(system: System, user: Callable[[], str]) -> None:
    before = system.descriptors()
    raws = [system.connect() for _ in range(1300)]  # 1100 are allowed
    wait_until(lambda: system.descriptors() > before + 500, "many are connected")
    assert system.descriptors() < before + 1150
    for raw in raws:
        assert until_closed(raw) == 0
    assert code(system.connect().login(user())) == 0


def test_connections_that_come_and_are_reset(system: System) -> None:
    for n in range(500):
        raw = system.connect()
        if n % 2:
            raw.send_bytes(b"\0\0\x10\0{")
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)
def test_frames_with_flipped_bits(system: System, user: Callable[[], str], codec: Codec) -> None:
    rng = random.Random(codec.name)
    good = [
        any_body(codec, t.MSG_SINGLE_CHAT, {"to": "b", "content": "hello", "contentType": 1}, "p"),
        any_body(codec, t.HISTORY_MSG_PULL, {"sessionId": "SC_a_b", "seqId": 0, "count": 10}, "p"),
        any_body(codec, t.HOTSESSION_SYNC, {"timestamp": 0}, "p"),
        any_body(codec, t.LOGIN, {"clientId": user(), "deviceType": 5, "deviceId": "d"}, "p"),
    ]
    for _ in range(100):
        raw = system.connect(codec=codec)
        assert code(raw.login(user())) == 0
        data = bytearray()
        for _ in range(20):
            body = bytearray(rng.choice(good))
            for _ in range(rng.randint(1, 4)):
                body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
            data += frame(bytes(body))
        send_on(raw, bytes(data) + b"\0\0\0\0")  # ends the connection in any case
        until_closed(raw)


def test_bombs(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    bomb = zlib.compress(bytes(90_000_000), 9)
    nested = b"\x81\xa1z" + b"\x91" * 90_000
    empties = b"\x83\xa2to\xa1b\xa7content\xa1x\xa8mentions\xdd\0\1\0\0" + b"\xa0" * 65_536
    maps = b"\x83\xa2to\xa1b\xa7content\xa1x\xa1z\xdd\0\1\0\0" + b"\x80" * 65_536
    for n in range(10):
        assert code(raw.ask_any(t.MSG_SINGLE_CHAT, bomb[:99_000], flags=COMPRESS_ZLIB)) == 41
        assert code(raw.ask_any(t.MSG_SINGLE_CHAT, nested, pack_id=f"n{n}")) == 42
        assert code(raw.ask_any(t.MSG_SINGLE_CHAT, empties, pack_id=f"e{n}")) == 42
        assert code(raw.ask_any(t.MSG_SINGLE_CHAT, maps, pack_id=f"m{n}")) == 41


def test_a_flood_of_what_nobody_knows(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    unknown = frame(any_body(MSGPACK, 99, b"", "p"))
    reading = gevent.spawn(lambda: [raw.pack().type for _ in range(10_000)])
    send_on(raw, (unknown + frame(any_body(MSGPACK, 99, b"", "p", flags=ACK))) * 10_000)
    assert reading.get(timeout=20) == [99] * 10_000


def test_names_that_would_forge_the_log(system: System) -> None:
    line = "x\n2026-11-24T00:00:00.000Z error edge-1 forged\x1b[2J"
    for field in ("clientId", "deviceId"):
        login = {"clientId": "a", "deviceType": 5, "deviceId": "d", "userName": line, "deviceName": line}
        raw = system.connect()
        assert code(raw.ask_any(t.LOGIN, login | {field: line})) == 20
        until_closed(raw)
    assert "forged" not in system.log


def test_a_storm_of_logins_of_one_user(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raws = [system.connect() for _ in range(150)]
    for raw in raws:
        raw.send_any(t.LOGIN, {"clientId": alice, "deviceType": 5, "deviceId": "d"}, pack_id="login")
    for raw in raws:
        assert code(raw.answer("login")) == 0
    ended = [raw for raw in raws if not raw.silent(0.02)]
    wait_until(lambda: len(ended) == 149, "all but one are out")
    for raw in ended:
        assert [pack.type for pack in raw.rest()] == [t.KICKOUT]


# ---- who does not read


def test_a_reader_that_never_reads_is_cut_and_loses_nothing(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    b.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    content = "x" * 60_000
    seqs: list[int] = []

    def cut() -> bool:
        try:
            b.send_bytes(ALIVE)
        except (BrokenPipeError, ConnectionResetError):
            return True
        ack = a.text(bob, content)
        assert code(ack) == 0
        seqs.append(ack.seq_id)
        return False

    wait_until(cut, "the reader is cut", 20)
    got: list[int] = []
    try:
        while (pack := b.receive()) is not None:
            got.append(decode(pack).seq_id)
    except Violation:
        pass
    assert got == seqs[: len(got)] and len(got) < len(seqs)

    again = system.client(bob)
    found: list[int] = []
    while part := again.history(single_session(alice, bob), seq=found[-1] - 1 if found else 0):
        found += [m.seq_id for m in part]
    assert found == seqs[::-1]


@pytest.mark.parametrize("size", [0, 90_000])
def test_one_that_asks_and_does_not_read_the_answers(system: System, user: Callable[[], str], size: int) -> None:
    raw = system.client(user())
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ping = frame(any_body(MSGPACK, t.PING, {"x": "y" * size}, "p"))
    many = ping * max(1, 100_000 // len(ping))
    raw.sock.settimeout(10)

    def cut() -> bool:
        try:
            raw.send_bytes(many)
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    wait_until(cut, "the connection is cut", 30)


def test_one_that_sends_and_never_reads_its_acks(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    for n in range(2000):  # 50 may be under way
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}")
    acks = [a.answer(f"m{n}") for n in range(2000)]
    stored = [ack.seq_id for ack in acks if code(ack) == 0]
    assert {code(ack) for ack in acks} <= {0, 7}
    assert stored == sorted(set(stored))
