"""Counters, gauges and histograms of one node, mergeable over processes, published every second (`docs/operations.md`).

Histograms have fixed bounds, so that those of several processes merge by adding. Counters only grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from typing import Any

BOUNDS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Upper bounds of the latency buckets, in milliseconds, inclusive; one more bucket takes what is above."""


class Histogram:
    """Durations in fixed buckets."""

    __slots__ = ("counts", "total_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.total_ms = 0.0

    def add(self, seconds: float) -> None:
        milliseconds = seconds * 1000.0
        self.counts[bisect_left(BOUNDS_MS, milliseconds)] += 1
        self.total_ms += milliseconds

    def dump(self) -> dict[str, Any]:
        return {"bounds_ms": list(BOUNDS_MS), "counts": list(self.counts), "total_ms": round(self.total_ms, 3)}


class Stats:
    """What one node (or the process itself) counts. Names are dotted; drops are `drops.<queue>.<reason>`."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.histograms: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._gauges: dict[str, Callable[[], float]] = {}

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Register a value that is read when the statistics are published."""
        self._gauges[name] = read

    def dump(self) -> dict[str, Any]:
        return {
            "counters": dict(self.counts),
            "gauges": {name: read() for name, read in self._gauges.items()},
            "histograms": {name: h.dump() for name, h in self.histograms.items()},
        }
