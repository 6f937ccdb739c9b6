"""When to look at many sockets: at once while little comes, at intervals while much does.

What comes one by one is worked off one by one, and each process behind wakes up for it: ten times the CPU of a message
among many. So a node that has time takes all of its core, however much or little comes. With a pause of a few
milliseconds before the next look, as network cards make one before they interrupt, messages travel together from the
first read on (`docs/performance.md`).
"""

from __future__ import annotations

from collections.abc import Callable

import gevent

from mesh.loop import now

READ = 1  # libev's event mask
WINDOW_SECONDS = 0.05
"""How long is counted what comes."""
ENOUGH = 8
"""So many events must be expected within an interval to wait for them; each comes later by half of it on average."""


class Pace:
    """Whether to wait before the next look; `interval` in seconds, 0: never. A look finds `most` events at most."""

    __slots__ = ("_count", "_interval", "_many", "_most", "_since")

    def __init__(self, most: int, interval: float, time: float) -> None:
        self._most = most
        self._interval = interval
        self._many = False
        self._count = 0
        self._since = time

    def waits(self, count: int, time: float) -> bool:
        """Note a look at `time` (seconds of any clock) that found `count` events."""
        self._count += count
        passed = time - self._since
        if passed >= WINDOW_SECONDS:
            self._many = self._count * self._interval >= ENOUGH * passed
            self._count, self._since = 0, time
        return self._many and 0 < count < self._most


class PacedReader:
    """Calls `read` when `fd` is readable, and waits in between as `Pace` says. `read(most)` looks once and returns how
    many events it found, `most` at most."""

    __slots__ = ("_closed", "_most", "_pace", "_read", "_timer", "_watcher")

    def __init__(self, fd: int, read: Callable[[int], int], most: int, interval: float) -> None:
        loop = gevent.get_hub().loop
        self._closed = False
        self._read = read
        self._most = most
        self._pace = Pace(most, interval, now())
        self._timer = loop.timer(interval, interval)
        self._watcher = loop.io(fd, READ)
        self._watcher.start(self._ready)

    def _ready(self) -> None:
        if self._look():
            self._watcher.stop()
            self._timer.again(self._due, update=False)  # from the beginning of this turn on

    def _due(self) -> None:
        go_on = False
        try:
            go_on = self._look()
        finally:
            if not go_on and not self._closed:
                self._timer.stop()
                self._watcher.start(self._ready)

    def _look(self) -> bool:
        return self._pace.waits(self._read(self._most), now()) and not self._closed  # a read may lead to its end

    def close(self) -> None:
        self._closed = True
        for watcher in (self._watcher, self._timer):
            watcher.stop()
            watcher.close()
