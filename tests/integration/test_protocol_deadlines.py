"""Deadlines of connections. Each takes seconds, so all of them pass at the same time, before the first test."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import gevent
import pytest

from packs import table as t
from packs.codec import MSGPACK
from tests.raw import Raw, any_body
from tests.system import System

LOGIN, FRAME, IDLE = 1.5, 1.0, 3.0
"""Seconds: the deadlines of the fixture `strict`; the last is two heartbeats."""
LATE = 1.7
"""Seconds by which a deadline may be noticed late: it is looked for once a second."""
WATCHED = 6.0
"""Seconds after which a connection counts as kept."""


def frame(*header: Any, **more: Any) -> bytes:
    body = any_body(MSGPACK, *header, **more)
    return struct.pack(">I", len(body) + 4) + body


PING = frame(t.PING, b"", "p")
ACKNOWLEDGE = frame(t.MSG_SINGLE_CHAT, b"", "p", flags=1)
HALF = frame(t.PING, b"x" * 5000, "p")[:5]


def seconds_kept(raw: Raw, sent: Iterable[bytes], every: float) -> float:
    """How long the server keeps a connection that is sent this, piece by piece; `WATCHED` if it does not close it."""
    started = time.monotonic()
    for data in itertools.chain(sent, itertools.repeat(b"")):
        if time.monotonic() - started > WATCHED:
            break
        try:
            raw.send_bytes(data)
            if not raw.silent(every) and raw.receive() is None:
                break
        except (BrokenPipeError, ConnectionResetError):
            break
    return min(WATCHED, time.monotonic() - started)


class Case(NamedTuple):
    logged_in: bool
    sent: Iterable[bytes]
    every: float
    kept: float


CASES = {
    "no login": Case(False, [], 1.0, LOGIN),
    "no login, a length": Case(False, [HALF[:4]], 1.0, FRAME),
    "no login, half a frame": Case(False, [HALF], 1.0, FRAME),
    "no login, drips": Case(False, itertools.chain([HALF], itertools.repeat(b"x")), 0.1, FRAME),
    "no login, acknowledges": Case(False, itertools.repeat(ACKNOWLEDGE), 0.1, LOGIN),
    "half a frame": Case(True, [HALF], 1.0, FRAME),
    "a frame drips": Case(True, itertools.chain([HALF], itertools.repeat(b"x")), 0.1, FRAME),
    "each packet ends a frame and begins one": Case(
        True, itertools.chain([PING[:7]], itertools.repeat(PING[7:] + PING[:7])), 0.2, WATCHED
    ),
    "silence": Case(True, [], 1.0, IDLE),
    "acknowledges": Case(True, itertools.repeat(ACKNOWLEDGE), 0.5, WATCHED),
    "pings": Case(True, itertools.repeat(PING), 0.75, WATCHED),
}


@pytest.fixture(scope="module")
def kept(strict: System) -> dict[str, float]:
    raws = {name: strict.client(f"late-{i}" if case.logged_in else "") for i, (name, case) in enumerate(CASES.items())}
    jobs = {name: gevent.spawn(seconds_kept, raws[name], case.sent, case.every) for name, case in CASES.items()}
    gevent.joinall(jobs.values(), timeout=2 * WATCHED, raise_error=True)
    return {name: job.get(block=False) for name, job in jobs.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_connection_is_kept_as_long_as_it_may_be(name: str, kept: dict[str, float]) -> None:
    expected = CASES[name].kept
    assert expected - 0.5 <= kept[name] <= expected + LATE
