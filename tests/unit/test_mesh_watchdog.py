"""Who blocks the loop is named."""

from __future__ import annotations

import time as patched_time

import pytest
from gevent import monkey

from mesh.log import get_log
from mesh.watchdog import Watchdog
from tests.logs import own_logs
from tests.waiting import wait_until

really_sleep = monkey.get_original("time", "sleep")


def guilty_function() -> None:
    really_sleep(0.6)  # blocks the thread, not only this greenlet


def test_a_blocked_loop_is_logged_with_the_stack_of_who_blocks_it(capfd: pytest.CaptureFixture[str]) -> None:
    watchdog = Watchdog(get_log("test"), blocked_after=0.2)
    try:
        with own_logs():
            patched_time.sleep(0.1)
            guilty_function()
            wait_until(lambda: watchdog.worst() > 0.3, "the lag to be measured")
        lines = [line for line in capfd.readouterr().err.splitlines() if "the loop is blocked" in line]
        # A busy machine may block it, too, and no less to its peers.
        assert ["guilty_function" in line for line in lines].count(True) == 1, lines
        assert watchdog.blocked >= 1
    finally:
        watchdog.stop()


def test_a_process_that_starts_may_take_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    watchdog = Watchdog(get_log("test"))
    try:
        with own_logs():
            patched_time.sleep(0.1)
            guilty_function()
            wait_until(lambda: watchdog.worst() > 0.3, "the lag to be measured")
            assert "guilty_function" not in capfd.readouterr().err
            watchdog.started()
            guilty_function()
            wait_until(lambda: watchdog.worst() > 0.3, "the lag to be measured")
        assert "guilty_function" in capfd.readouterr().err
    finally:
        watchdog.stop()
