"""Logins that end without anybody left to say so: their broker died. Other systems, where any are told, are told of it.

User nodes note in the store which brokers they see. One that none of them has seen for a while is dead, and whoever
finds that ends its logins.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

import gevent

from mesh.loop import now
from store.errors import StoreError

if TYPE_CHECKING:
    from mesh.fanout import Fanout
    from mesh.log import Log
    from mesh.stats import Stats
    from store.standing import Brokers, Standing

BEATS = 5
"""How often a broker is noted in the time after which it counts as dead."""
LOST_FACTOR = 4
"""That time, in times after which a link counts as lost."""


class Departures:
    """Of one user node."""

    def __init__(self, standing: Standing, fanout: Fanout, lost_after: float, stats: Stats, log: Log) -> None:
        """`lost_after`: seconds after which a silent link counts as lost."""
        self._standing = standing
        self._fanout = fanout
        self._dead_ms = int(lost_after * LOST_FACTOR * 1000)
        self._stats = stats
        self._log = log
        self._noted = 0.0  # when the brokers were noted last
        self._quiet_until = 0.0  # until then others may not have noted theirs
        self._swept = False  # once, for those that died while nobody looked
        self._dead: dict[str, int] = {}  # swept, to be forgotten

    def run(self) -> None:
        """For ever; in a greenlet."""
        while True:
            try:
                self._look()
            except StoreError as error:
                self._log.limited("departures", 10, "logins whose broker died are not looked for", error=error)
            gevent.sleep(self._dead_ms / 1000 / BEATS)

    def _look(self) -> None:
        if not self._fanout.complete:
            return
        clock = now()
        here = self._fanout.subscribers()
        brokers = self._standing.note(here, self._dead)
        self._dead.clear()
        if clock - self._noted > self._dead_ms / 2000:  # the first time, or the store was away, for others as well
            self._quiet_until = clock + self._dead_ms / 1000
        self._noted = clock
        if clock >= self._quiet_until:
            self._sweep(brokers, here)

    def _sweep(self, brokers: Brokers, here: Set[str]) -> None:
        limit = brokers.now - self._dead_ms
        dead = {broker: last for broker, last in brokers.last.items() if last < limit}
        if self._swept and not dead:
            return
        ended = self._standing.end((brokers.last.keys() | here) - dead.keys(), brokers, limit)
        self._swept, self._dead = True, dead
        if ended:
            self._stats.counts["logins.ended"] += ended
            self._log.info("logins ended with their broker", logins=ended, brokers=len(dead))
