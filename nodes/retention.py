"""How long messages are kept: the settings of the olap node, and what deletes those that are older, everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
import msgspec

from mesh.log import Log
from mesh.loop import now
from mesh.stats import Stats
from store.archive import retention
from store.archive.database import Archive
from store.errors import StoreError
from store.window import Window

SINGLE, GROUP, NOTICE = "SC_", "GC_", "BM_"
"""With what the ids of sessions begin (`packs/ids.py`)."""
SECONDS_PER_DAY = 86_400
PASS_SECONDS = 600.0
"""From one look at the archive to the next."""
STEP_MESSAGES = 500
STEP_SECONDS = 0.02
"""Pause between two steps: the drain writes on the same thread."""


class OlapSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The archive, and how long messages are kept. 0 days: for ever."""

    search: bool = True
    """false: messages are not indexed and searches answered with 6. Turned on again, all are indexed."""
    keep_single_days: float = 0.0
    """Days after which messages of single chats are deleted, in Redis and in the archive."""
    keep_group_days: float = 0.0
    """The same for groups."""
    keep_notice_days: float = 0.0
    """The same for business notices."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for key in ("keep_single_days", "keep_group_days", "keep_notice_days"):
            if not 0 <= getattr(self, key) < 100_000:
                yield key, "must be at least 0"

    @property
    def seconds(self) -> dict[str, int]:
        """Seconds by prefix of session ids, of what is not kept for ever."""
        days = {SINGLE: self.keep_single_days, GROUP: self.keep_group_days, NOTICE: self.keep_notice_days}
        return {prefix: max(1, int(of_kind * SECONDS_PER_DAY)) for prefix, of_kind in days.items() if of_kind}


class Retention:
    """Deletes what is too old. `run` in a greenlet of its own."""

    def __init__(self, settings: OlapSettings, archive: Archive, window: Window, stats: Stats, log: Log) -> None:
        self._seconds = settings.seconds
        self._archive = archive
        self._stats = stats
        self._log = log
        self._done: dict[str, int] = {}  # days before which the archive was looked at
        self._anew_at = 0.0  # when to begin with the oldest again: old messages may come late, by an import
        window.forget(self._seconds)

    def run(self) -> None:
        """For ever; at once when nothing is ever deleted."""
        while self._seconds:
            if now() >= self._anew_at:
                self._done = dict.fromkeys(self._seconds, 0)
                self._anew_at = now() + SECONDS_PER_DAY
            for prefix, seconds in self._seconds.items():
                try:
                    self._expire(prefix, seconds)
                except StoreError as error:
                    self._log.limited("retention", 60, "old messages are not deleted now", error=error)
            gevent.sleep(PASS_SECONDS)

    def _expire(self, prefix: str, seconds: int) -> None:
        before = int((time.time() - seconds) * 1_000_000)
        step, deleted = retention.Step(retention.start_of(self._done[prefix]), True, 0), 0
        while step.more:
            step = self._archive.write(retention.expire, prefix, step.at, before, STEP_MESSAGES)
            deleted += step.deleted
            self._stats.counts["expired"] += step.deleted
            gevent.sleep(STEP_SECONDS)
        self._done[prefix] = before // (SECONDS_PER_DAY * 1_000_000)
        if deleted:
            self._log.info("old messages are deleted", sessions=f"{prefix}*", messages=deleted)
