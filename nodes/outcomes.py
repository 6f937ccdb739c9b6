"""What a node counts in memory, kept for ever: its counters go to the archive, by the hour.

A report says what this life of the process has counted so far, so it may be lost, repeated or late. What was counted
since the last one is lost with a process that is killed: at most `REPORT_SECONDS` of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import gevent.event

from mesh.contract import start
from mesh.loop import Every
from mesh.node import Node
from nodes.contracts_statistics import Statistics, Total

LOOK_SECONDS = 1.0
"""How precisely a count belongs to an hour."""
REPORT_SECONDS = 5
LAST_SECONDS = 1.0
"""How long a process that stops waits for its last report."""
HOUR = 3600
SOURCE_LENGTH = 64

Counted = dict[tuple[int, str], int]
"""Totals by hour (s since the epoch) and name."""


class Outcomes:
    """Reports of one node. `read` gives its counters, which only grow, under the names that they are kept under."""

    def __init__(self, node: Node, olap: Statistics, read: Callable[[], Mapping[str, int]]) -> None:
        self._olap = olap
        self._read = read
        self._source = f"{node.process.name}/{node.process.start_id}"[-SOURCE_LENGTH:]
        self._seen: dict[str, int] = {}
        self._totals: Counted = {}
        self._kept: Counted = {}  # what the archive has
        self._under_way = False
        self._looks = 0
        self._last = gevent.event.Event()
        self._timer = Every(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Report for the last time. In a greenlet."""
        self._timer.stop()
        self._count()
        self._last.clear()
        if self._report():
            self._last.wait(LAST_SECONDS)

    def _look(self) -> None:
        self._count()
        self._looks += 1
        if self._looks % REPORT_SECONDS == 0 and not self._under_way:
            self._report()

    def _count(self) -> None:
        hour = int(time.time()) // HOUR * HOUR
        for name, number in self._read().items():
            grown = number - self._seen.get(name, 0)
            if grown:
                self._seen[name] = number
                self._totals[hour, name] = self._totals.get((hour, name), 0) + grown

    def _report(self) -> bool:
        """Send what the archive does not have; False when it has all."""
        sent = {place: total for place, total in self._totals.items() if self._kept.get(place) != total}
        if not sent:
            return False

        def done(_: None, error: Exception | None) -> None:
            self._under_way = False
            if error is None:  # else the next report says it
                self._kept.update(sent)
                self._forget()
            self._last.set()

        self._under_way = True
        start(self._olap.report, done, self._source, tuple(Total(*place, total) for place, total in sent.items()))
        return True

    def _forget(self) -> None:
        """Hours that are over and kept."""
        newest = max(hour for hour, _ in self._totals)
        for place, total in list(self._kept.items()):
            if place[0] < newest and self._totals[place] == total:
                del self._totals[place], self._kept[place]
