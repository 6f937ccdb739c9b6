"""How the search index follows the archive: what the drain has written, then what was there before the index.

It runs beside the drain and yields to it: rows are written first, and searched a moment later. While much comes, what
came in a few seconds is indexed at once; in between it leaves the core and its caches to others. While the archive is
behind the log, a batch is indexed now and then.
"""

from __future__ import annotations

from collections.abc import Callable

import gevent.event

from mesh.log import Log
from mesh.loop import now
from mesh.stats import Stats
from nodes.terms import terms_of
from store.archive import search, unindexed
from store.archive.database import REFUSALS, Archive
from store.archive.unindexed import Filling
from store.errors import StoreError

FILL_ROWS = 500
"""Older messages indexed in one transaction; the drain waits for one at most."""
IDLE_SECONDS = 1.0
"""How often is looked for what another node has written."""
MANY, LUMP_SECONDS = 500.0, 5.0
"""With so many messages a second, the pause when all are in. Work that touches as much memory as this one pushes out of
the caches what others have there, and finds nothing there itself: the less often, the cheaper for both."""
QUIET_SECONDS = 3.5
"""When nothing was written for so long, that pause ends. While much comes, the drain writes every two seconds or so."""
BEHIND_SECONDS = 2.0
"""Pause while the archive is behind the log: it goes first."""
PASS_SECONDS = 60.0
"""Between two times that an unwanted index is cleared of what it should have had."""
TROUBLE_SECONDS = 2.0
"""Pause while SQL does not take anything."""


class Indexer:
    """Keeps the index, unless it is not `wanted`. `behind` tells whether the archive is behind the log."""

    def __init__(
        self, archive: Archive, fresh: unindexed.Fresh, stats: Stats, log: Log, behind: Callable[[], bool],
        wanted: bool,
    ) -> None:  # fmt: skip
        self.wanted = wanted
        self.waiting = 0
        """Batches that are not in the index."""
        self.filling: Filling | None = None
        """How far older messages are in it; None: all are."""
        self._archive = archive
        self._fresh = fresh
        self._stats = stats
        self._log = log
        self._behind = behind
        self._paused_at = now()
        self._indexed = 0  # messages since then
        self._stopping = gevent.event.Event()
        self._wake = gevent.event.Event()
        self._stopped = gevent.event.Event()

    def run(self) -> None:
        """Until `stop`; in a greenlet of its own."""
        try:
            while not self._stopping.is_set():
                try:
                    self._step()
                except search.Elsewhere:
                    self._stopping.wait(IDLE_SECONDS)
                except (StoreError, *REFUSALS) as error:
                    self._log.limited("search", 60, "the search index waits", error=error)
                    self._stopping.wait(TROUBLE_SECONDS)
        finally:
            self._stopped.set()

    def _step(self) -> None:
        if not self.wanted:
            self._archive.write(unindexed.pass_over)
            self._stopping.wait(PASS_SECONDS)
            return
        begun = now()
        count = self._archive.write(search.index_noted, terms_of, self._fresh)
        self.waiting = self._archive.read(unindexed.count)
        if not count:
            was = self.filling
            self.filling = self._archive.write(search.fill, terms_of, FILL_ROWS)
            if self.filling is None:
                if was is not None:
                    self._log.info("the search index has all messages")
                self._pause()
                return
            count = FILL_ROWS
        else:
            self._indexed += count
        self._stats.counts["indexed"] += count
        if self._behind():
            self._stopping.wait(BEHIND_SECONDS)
        elif self.filling is not None:
            self._stopping.wait(now() - begun)  # as long as it took: the archive has other things to do

    def _pause(self) -> None:
        """All are in: until more come, but while much comes for longer."""
        much = self._indexed >= MANY * max(now() - self._paused_at, IDLE_SECONDS)
        self._paused_at, self._indexed = now(), 0
        if not much:
            self._wake.wait(IDLE_SECONDS)
        else:
            limit = now() + LUMP_SECONDS
            while (left := limit - now()) > 0 and self._wake.wait(min(left, QUIET_SECONDS)):
                if self._stopping.is_set():
                    return
                self._wake.clear()
        self._wake.clear()

    def kick(self) -> None:
        """A batch was written."""
        if self.wanted:
            self.waiting += 1
            self._wake.set()

    def stop(self) -> None:
        """End behind the batch that is under way; the rest is indexed at the next start."""
        self._stopping.set()
        self._wake.set()
        self._stopped.wait()

    @property
    def progress(self) -> str:
        """For people: what is not in the index; "" when all is."""
        filling = self.filling
        if filling is None:
            return f"batches that wait for the search index: {self.waiting}" if self.waiting else ""
        return f"{min(filling.done / filling.total, 1):.0%} of the older messages are in the search index"
