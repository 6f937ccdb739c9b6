"""Notices when something blocks the loop, and says what: a native thread watches a timestamp that the loop renews.

All other greenlets wait while one blocks; to its peers, a loop blocked for `lost_after` seconds is a dead process.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from gevent import monkey

from mesh.log import Log
from mesh.loop import Every, now

TICK = 0.05
"""Seconds between the loop's signs of life."""
BLOCKED_AFTER = 0.25
"""Seconds without a sign of life after which the stack of the loop's thread is logged, once per blockage."""
STARTING = 2.0
"""The same while a process starts: it imports, connects and collects, beside others that do the same."""

_start_thread: Callable[..., Any] = monkey.get_original("_thread", "start_new_thread")
_get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
_sleep: Callable[[float], None] = monkey.get_original("time", "sleep")


class Watchdog:
    """Measures hub lag (`worst`, reset at each reading) and logs who blocks."""

    def __init__(self, log: Log, blocked_after: float = STARTING) -> None:
        self._log = log
        self._blocked_after = blocked_after
        self._thread_id = _get_ident()
        self._last = now()
        self._worst = 0.0
        self.blocked = 0  # times that the loop was blocked for longer than `blocked_after`
        self._running = True
        self._timer = Every(TICK, self._alive)
        _start_thread(self._watch, ())

    def _alive(self) -> None:
        time = now()
        lag = time - self._last - TICK
        if lag > self._worst:
            self._worst = lag
        self._last = time

    def worst(self) -> float:
        """The longest lag in seconds since the last reading."""
        worst, self._worst = self._worst, 0.0
        return worst

    def started(self) -> None:
        """The process serves: from now on nothing may take long."""
        self._last = now()
        self._blocked_after = BLOCKED_AFTER

    def stop(self) -> None:
        self._running = False
        self._timer.stop()

    def _watch(self) -> None:
        reported = 0.0
        while self._running:
            _sleep(TICK)
            last = self._last
            silence = now() - last
            if silence > self._blocked_after and reported != last:
                reported = last
                self.blocked += 1
                frame = sys._current_frames().get(self._thread_id)
                stack = "".join(traceback.format_stack(frame, limit=12)) if frame is not None else ""
                self._log.warning("the loop is blocked", seconds=round(silence, 3), stack=stack)
