"""Whether others want the same core."""

from __future__ import annotations

import os
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Event

import pytest

from mesh.contention import Contention

LIMIT = 20.0


def _spin(core: int, stop: Event) -> None:
    os.sched_setaffinity(0, {core})
    while not stop.is_set():
        pass


def test_nothing_is_waited_for_while_this_process_sleeps() -> None:
    contention = Contention()
    contention.share()
    assert 0.0 <= contention.share() <= 1.0


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="the system does not tell")
def test_others_on_the_same_core_are_seen() -> None:
    context = get_context("spawn")
    stop = context.Event()
    before = os.sched_getaffinity(0)
    core = min(before)
    others = [context.Process(target=_spin, args=(core, stop), daemon=True) for _ in range(3)]
    for other in others:
        other.start()
    try:
        os.sched_setaffinity(0, {core})
        contention, limit = Contention(), time.monotonic() + LIMIT
        while contention.share() < 0.4:
            assert time.monotonic() < limit
            sum(range(300_000))
    finally:
        os.sched_setaffinity(0, before)
        stop.set()
        for other in others:
            other.join()


def test_where_the_system_does_not_tell_nobody_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    monkeypatch.setattr("mesh.contention._SCHEDSTAT", Path("/nowhere"))
    contention = Contention()
    assert contention.share() == 0.0
