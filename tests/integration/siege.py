"""Normal clients that chat while a test does its worst to the same system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent

from packs import table as t
from packs.flags import COUNTER
from packs.structs import MsgReq
from tests.raw import code, opened
from tests.system import System
from tests.waiting import wait_until

PAIRS = 4
ROUNDS = 5
"""Messages that each pair must exchange after the worst is over."""


@contextmanager
def besieged(system: System, user: Callable[[], str]) -> Iterator[None]:
    """While the block runs, pairs of clients chat: no error, no loss, no change of order. Nothing is left behind."""
    before = system.descriptors()
    rounds = [0] * PAIRS
    ended = False

    def chat(n: int) -> None:
        alice, bob = user(), user()
        a, b = system.client(alice), system.client(bob)
        previous = 0
        while not ended:
            ack = a.ask(t.MSG_SINGLE_CHAT, MsgReq(to=bob, content=f"{alice} {rounds[n]}"), flags=COUNTER)
            assert code(ack) == 0 and ack.prev_seq_id == previous
            got = b.push(t.MSG_SINGLE_CHAT)
            assert (got.content, got.seq_id, got.prev_seq_id) == (f"{alice} {rounds[n]}", ack.seq_id, previous)
            previous = ack.seq_id
            rounds[n] += 1
            assert a.silent(0.01) and code(b.ask(t.PING)) == 0
        found = a.history(ack.session_id)
        assert [m.content for m in found] == [f"{alice} {i}" for i in reversed(range(rounds[n]))][:200]

    with system.unharmed():
        jobs = [gevent.spawn(chat, n) for n in range(PAIRS)]
        try:
            wait_until(lambda: all(rounds), "all chat")
            yield
            over = list(rounds)
            wait_until(
                lambda: (
                    all(job.ready() for job in jobs)
                    or all(now >= then + ROUNDS for now, then in zip(rounds, over, strict=True))
                ),
                "all chat on",
            )
        finally:
            ended = True
            gevent.joinall(jobs, timeout=10)
            while opened:
                opened.pop().close()
        for job in jobs:
            job.get(block=False)
    wait_until(lambda: system.descriptors() <= before, "the connections of this test are gone", 12)
