"""The launcher ends, gently or not: what it started ends in order, and what was acknowledged is there afterwards."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from packs import structs as s
from packs import table as t
from tests.integration.launching import is_running
from tests.integration.test_faults_kill import topology
from tests.load import Load
from tests.system import System, free_port, running, topology_text
from tests.waiting import wait_until

ORPHAN_SECONDS = 5.0
"""How long processes may go on without a launcher."""
STOP_SECONDS = 15.0


@contextmanager
def under_load(layout: str) -> Iterator[tuple[System, Load]]:
    port = free_port()
    with running(topology(layout, port)) as system:
        load = Load([f"127.0.0.1:{port}"], pairs=20, sdk=False)
        load.start()
        wait_until(lambda: load.acked > 200, "the load to run")
        yield system, load
        before = load.acked
        wait_until(lambda: load.acked > before, "the load to go on")
        assert load.finish() == []
        load.close()


def ended_in_order(nodes: list[int], redis: int) -> bool:
    """Whether all have ended; Redis must not before the others."""
    redis_runs = is_running(redis)
    nodes_run = any(map(is_running, nodes))
    assert redis_runs or not nodes_run, "Redis ended before the nodes"
    return not redis_runs and not nodes_run


def test_killed_it_leaves_nobody_behind_and_a_new_one_goes_on() -> None:
    with under_load("default") as (system, load):
        nodes, redis = [system.pid(p) for p in system.status()], system.pid("redis")
        idle = system.client("idle")
        assert system.launcher is not None
        wait_until(lambda: load.in_flight, "messages to be under way")
        started = time.monotonic()
        system.launcher.kill()
        system.launcher.wait()
        wait_until(lambda: ended_in_order(nodes, redis), "the orphans to end", 2 * ORPHAN_SECONDS)
        assert time.monotonic() - started < ORPHAN_SECONDS
        assert idle.receive() is None
        system.up()


def test_killed_the_next_one_waits_for_what_is_left() -> None:
    """Both would write to the same data otherwise."""
    with under_load("default") as (system, _):
        redis, main = system.pid("redis"), system.pid("main-1")
        assert system.launcher is not None
        system.signal(main, signal.SIGSTOP)  # so that it is still there when the next one comes
        system.launcher.kill()
        system.launcher.wait()
        assert is_running(redis)
        system.launch()
        wait_until(lambda: "waiting for processes of an earlier launcher" in system.log, "it waits")
        system.signal(main, signal.SIGCONT)
        system.wait_serving()
        assert not is_running(redis)


def test_what_is_left_without_redis_ends_too() -> None:
    """With requests that wait for it."""
    with running(topology_text("default")) as system:
        raw, redis, main = system.client("ann"), system.pid("redis"), system.pid("main-1")
        assert system.launcher is not None
        system.signal(main, signal.SIGSTOP)
        system.launcher.kill()
        system.launcher.wait()
        wait_until(lambda: not is_running(redis), "Redis ends without its launcher")
        raw.request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0))
        raw.request(t.FRIEND_SYNC, s.FriendSyncReq(timestamp=0))
        system.signal(main, signal.SIGCONT)
        wait_until(lambda: not is_running(main), "the process ends", STOP_SECONDS)
        system.launch()
        system.wait_serving()


@pytest.mark.parametrize("layout", ["default", "split"])
def test_told_to_stop_it_stops_all_in_order(layout: str) -> None:
    with under_load(layout) as (system, load):
        names = list(system.status())
        nodes, redis = [system.pid(p) for p in names], system.pid("redis")
        idle = system.client("idle")
        wait_until(lambda: load.in_flight, "messages to be under way")
        assert system.launcher is not None
        started = time.monotonic()
        system.launcher.send_signal(signal.SIGTERM)
        wait_until(lambda: ended_in_order(nodes, redis), "all to end", STOP_SECONDS)
        assert system.launcher.wait(STOP_SECONDS) == 0
        assert time.monotonic() - started < STOP_SECONDS
        assert idle.receive() is None
        for name in names:
            assert re.search(rf" {name} mesh stopped ", system.log), f"{name} was not given the time to finish"
        assert not re.search(r" (error|killed) ", system.log), system.log
        system.up()
