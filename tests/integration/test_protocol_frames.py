"""Frames on TCP: lengths, limits, halves."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.frames import MAX_FRAME, MAX_FRAME_BEFORE_LOGIN
from tests.raw import any_body, code
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")
CODECS = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)


def login_body(user: str, size: int) -> bytes:
    """A LOGIN of `size` bytes, at least a few hundred."""

    def filled(fill: int) -> bytes:
        login = {"clientId": user, "deviceType": 5, "deviceId": "d", "deviceName": "x" * fill}
        return any_body(MSGPACK, t.LOGIN, login, "p")

    body = filled(300 + size - len(filled(300)))
    assert len(body) == size
    return body


def ping_frame(size: int) -> bytes:
    """A PING whose whole frame has `size` bytes."""
    head = any_body(MSGPACK, t.PING, b"", "p")[:-2]
    fill = size - 4 - len(head) - 5 - 1 - 5 - 2  # bin32, map of one, str32, its key
    payload = b"\x81\xa1x\xdb" + struct.pack(">I", fill) + b"y" * fill
    body = head + b"\xc6" + struct.pack(">I", len(payload)) + payload
    assert len(body) + 4 == size
    return struct.pack(">I", size) + body


@pytest.mark.parametrize("length", [0, 1, 4, MAX_FRAME_BEFORE_LOGIN + 1, MAX_FRAME, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_length_that_cannot_be_closes_before_anything_follows(system: System, length: int) -> None:
    raw = system.connect()
    raw.send_bytes(struct.pack(">I", length))
    assert raw.rest() == []


@pytest.mark.parametrize("length", [0, 4, MAX_FRAME + 1, 2**32 - 1])
def test_the_same_after_login(system: System, user: Callable[[], str], length: int) -> None:
    raw = system.client(user())
    raw.send_bytes(struct.pack(">I", length))
    assert raw.rest() == []


def test_the_smallest_frame_is_read_whole(system: System) -> None:
    raw = system.connect()
    raw.send_bytes(struct.pack(">I", 5))
    assert raw.silent()  # 5 is a good length: the server waits for the byte
    raw.send_bytes(b"\x95")
    assert raw.rest() == []  # and a header of one byte does not decode


def test_the_largest_frame_before_login(system: System, user: Callable[[], str]) -> None:
    raw = system.connect()
    raw.send_body(login_body(user(), MAX_FRAME_BEFORE_LOGIN - 4))
    assert code(raw.answer("p")) == 0


def test_the_largest_frame_after_login(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    raw.send_bytes(ping_frame(MAX_FRAME))
    assert code(raw.answer("p")) == 0
    raw.send_bytes(ping_frame(MAX_FRAME + 1)[:100])
    assert raw.rest() == []


@CODECS
def test_a_frame_byte_by_byte(system: System, user: Callable[[], str], codec: Codec) -> None:
    raw = system.connect(codec=codec)
    login = any_body(codec, t.LOGIN, {"clientId": user(), "deviceType": 5, "deviceId": "d"}, "p")
    for byte in struct.pack(">I", len(login) + 4) + login:
        raw.send_bytes(bytes((byte,)))
    assert code(raw.answer("p")) == 0


def test_frames_cut_anywhere(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    bodies = [any_body(MSGPACK, t.MSG_SINGLE_CHAT, {"to": bob, "content": str(n)}, f"q{n}") for n in range(60)]
    stream = b"".join(struct.pack(">I", len(body) + 4) + body for body in bodies)
    for start in range(0, len(stream), 37):
        a.send_bytes(stream[start : start + 37])
    assert [code(a.answer(f"q{n}")) for n in range(60)] == [0] * 60
    assert [b.push(t.MSG_SINGLE_CHAT).content for _ in range(60)] == [str(n) for n in range(60)]


def test_what_comes_before_a_bad_length_is_answered(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    ping = any_body(MSGPACK, t.PING, b"", "p")
    raw.send_bytes(struct.pack(">I", len(ping) + 4) + ping + struct.pack(">I", 3))
    (answer,) = raw.rest()
    assert (answer.type, answer.pack_id) == (t.PING, "p")
