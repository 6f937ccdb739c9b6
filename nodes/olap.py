"""The olap node: the archive. It drains the log into SQL (`nodes/draining.py`) and reads what is there.

The mesh may have several: they share the rows of the log, and each answers any question.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from zlib import crc32

import gevent

from mesh.errors import AppError, ConfigError, Timeout
from nodes import cold, hot
from nodes import contracts as c
from nodes.contracts_search import Search, SearchPage, SearchQuery
from nodes.draining import Drain
from nodes.erasures import ErasureAnswers
from nodes.finishing import Finisher
from nodes.indexing import Indexer
from nodes.packs import Item, PackNode, handles
from nodes.reading import pack_of
from nodes.retention import OlapSettings, Retention
from nodes.searching import Page, Searcher
from nodes.statistics import StatisticsAnswers
from packs.codes import Code
from packs.ids import is_user_id
from packs.structs_social import SearchResp
from packs.table import SEARCH
from store import copying, entries, marks
from store.archive import dataset, messages, poison, rollups
from store.archive.unindexed import Fresh
from store.errors import StoreError
from store.log import ARCHIVE

PAGE_MAX = 1000
FOLD_SECONDS = 2.0
"""Between two times that statistics are brought up to date."""
SWEEP_SECONDS = 1.0
TRIM_EVERY = 32
"""Messages of a session after which its window is looked at: each look costs Redis 5 µs."""
REMEMBERED = 20_000
"""Sessions whose messages are counted for that."""
ALARMS = (0.75, 0.5, 0.25)
"""Parts of `[store] log_rows` from which on `status` shows an alarm."""


class OlapNode(PackNode, StatisticsAnswers, ErasureAnswers, c.Archive, Search):
    """Cold storage."""

    Settings = OlapSettings
    sections = hot.SECTIONS
    background = True
    workers = 16

    def start(self) -> None:
        self._store = hot.opened(self.process)
        self._archive = self.process.shared(cold.cold_store)
        consumer = self._store.consumer(ARCHIVE, self.process.name)
        consumer.open()
        self._written: Counter[str] = Counter()  # messages by session, since its window was looked at
        self._copy()
        things = partial(marks.read, self._store.reads, self._store.keys)
        self._finisher = Finisher(self._store, self.stats)
        fresh = Fresh()
        kept = fresh if self.settings.search else None
        self._drain = Drain(consumer, self._archive, kept, self.stats, self.log, things, self._after)
        self._retention = Retention(self.settings, self._archive, self._store.window, self.stats, self.log)
        self._drain.poisoned = self._archive.read(poison.count)
        self.prepare_erasures()
        self._indexer = Indexer(
            self._archive, fresh, self.stats, self.log, lambda: self._drain.behind, self.settings.search
        )
        self._searcher = Searcher(self._store, partial(self._ask, self._archive.read))
        self.stats.gauge("unindexed", lambda: self._indexer.waiting)
        self.stats.gauge("log.rows", lambda: self._drain.state.length)
        self.stats.gauge("lag_seconds", lambda: self._drain.progress.lag)
        self.stats.gauge("poisoned", lambda: self._drain.poisoned)

    def _copy(self) -> None:
        """What was stored while nobody archived is in the log no more."""
        try:
            if not self._store.is_archived():
                found, others = copying.copy(self._store.reads, self._store.keys, self._archive)
                self._store.set_archived()
                self.log.info("what Redis held was archived", messages=found, others=others)
        except StoreError as error:
            raise ConfigError(f"[store] archive: {error}") from None

    def serve(self) -> None:
        self.spawn(self._drain.run)
        self._background = [self.spawn(self._sweep), self.spawn(self._fold), self.spawn(self._retention.run)]
        self._background.append(self.spawn(self.work_on_erasures))
        self.spawn(self._indexer.run)

    def drain(self) -> None:
        gevent.killall(self._background)
        self._drain.stop()
        self._indexer.stop()

    def describe(self) -> dict[str, Any]:
        state, progress = self._drain.state, self._drain.progress
        found: dict[str, Any] = {
            "archive": repr(self._archive.address),
            "log": f"{state.length} rows, the archive is {progress.lag:.1f} s behind",
        }
        if self._drain.trouble:
            found["trouble"] = self._drain.trouble
        if self._drain.poisoned:
            found["poisoned"] = f"{self._drain.poisoned} rows set aside: imesh db status"
        if self._indexer.progress:
            found["search"] = self._indexer.progress
        for part in ALARMS:
            if state.length >= part * self._store.settings.log_rows:
                found["alarm"] = f"the log is full to {part:.0%}: messages are refused when it is full"
                break
        return found

    def _after(self, rows: Sequence[messages.Row]) -> set[tuple[str, int]]:
        """What follows rows that are in the archive now: those of the batch before are acknowledged. Returns those that
        must come again, by session and seqId."""
        self._indexer.kick()
        written = self._written
        sessions = [row[0] for row in rows]
        written.update(sessions)
        full = [session for session in set(sessions) if written[session] >= TRIM_EVERY]
        if len(written) > REMEMBERED:
            written.clear()  # the sweep finds them
        for session in full:
            written.pop(session, None)
        self._store.window.trim(full)
        return self._finisher.after(rows)

    def _sweep(self) -> None:
        """Note how far the archive is, and take old messages out of sessions in which nothing happens."""
        while True:
            gevent.sleep(SWEEP_SECONDS)
            with suppress(StoreError):
                self._archive.write(dataset.note_drained, self.process.name, self._drain.state.length)
                self._finisher.flush()
                self.stats.counts["trimmed"] += self._store.window.sweep()

    def _fold(self) -> None:
        """Count what was written, a moment later."""
        while True:
            gevent.sleep(FOLD_SECONDS)
            with suppress(StoreError):
                while self._archive.write(rollups.fold):
                    pass

    # ---- 75

    @handles(SEARCH)
    def _search(self, item: Item) -> SearchResp:
        m = item.message
        asked = SearchQuery(m.text, m.session_id, m.sender_id, m.since, m.until, m.cursor, m.count)
        page = self._found(item.origin.user, asked)
        return SearchResp(msgs=[pack_of(entry) for _, entry in page.messages], cursor=page.cursor)

    def _found(self, user: str, query: SearchQuery) -> Page:
        if not self._indexer.wanted:
            raise AppError(Code.UNAVAILABLE, "[node.olap] search is off")
        self.stats.counts["searches"] += 1
        return self._searcher.find(user, query)

    # ---- for others

    def save_msg(self, session: str, entry: bytes) -> None:
        try:
            row = messages.row_of(session, entry, "")
        except Exception as error:
            raise AppError(Code.PARAM, f"no entry: {type(error).__name__}") from None
        self._ask(self._archive.write, messages.put, [row])

    def page(self, session: str, below: int, count: int) -> tuple[bytes, ...]:
        return tuple(self._ask(self._archive.read, messages.page, session, below, min(count, PAGE_MAX)))

    def entries(self, wanted: tuple[tuple[str, int], ...]) -> tuple[bytes, ...]:
        return tuple(entry or b"" for entry in self._ask(self._archive.read, messages.get, wanted))

    def greatest(self, session: str, seq: int) -> tuple[int, int]:
        seq_n: tuple[int, int] = self._ask(self._archive.read, messages.greatest, session, seq)
        return seq_n

    def find(self, session: str, sender: str, pack_id: str, crc: bytes) -> c.Repeat:
        if self._drain.progress.lag > self._store.settings.dedup_seconds:
            raise Timeout("the archive is too far behind to know what was sent before")
        today = int(time.time() * 1_000_000)
        found = self._ask(self._archive.read, messages.find, session, sender, pack_id, today)
        if found is None:
            return c.Repeat(0, 0, False, False)
        same = found.deleted or crc32(found.payload, found.flags).to_bytes(4, "big") == crc
        return c.Repeat(found.seq, found.prev, found.changed, same)

    def search(self, user: str, query: SearchQuery) -> SearchPage:
        if not is_user_id(user):
            raise AppError(Code.PARAM, "user is malformed")
        try:
            page = self._found(user, query)
        except StoreError as error:
            raise Timeout(str(error)) from None
        return SearchPage(tuple((session, entries.build(entry)) for session, entry in page.messages), page.cursor)

    def _ask(self, run: Any, function: Any, *args: Any) -> Any:
        """What the archive says. Raises `Timeout` when it cannot say it now."""
        try:
            return run(function, *args)
        except StoreError as error:
            raise Timeout(str(error)) from None
