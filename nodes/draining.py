"""How the log is drained into the archive: what is read at once, what is tried again and when, what is set aside.

    read -> sort and upsert in one transaction -> COMMIT -> what a crash may have cut off behind a message -> XACK

A batch that SQL cannot take now (no server, a locked file) is kept and tried again, for ever. One that it refuses is
halved until the rows are found that it will not have; these go into the table `poison`, and the log goes on.

Nobody waits for the drain. In a flood, when others want the same core, it rests for a second behind each batch and
leaves the rest in the log, for a while.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import gevent.event
import msgspec

from mesh.contention import Contention
from mesh.log import Log
from mesh.loop import now
from mesh.stats import Stats
from store.archive import messages, poison, things
from store.archive.database import REFUSALS, Archive
from store.archive.unindexed import Fresh
from store.errors import StoreError
from store.log import ARCHIVE, NOTED, Consumer, Progress, Row
from store.log import State as LogState
from store.marks import State, Thing, things_of

R = TypeVar("R")
READ = 500
"""Rows read from the log at once, about: Redis, which messages wait for, is busy with them for 1 ms."""
BATCH, BATCH_BYTES = 8000, 32 << 20
"""Rows and bytes of one transaction, about. Rows of a session lie together, so what a commit writes is a page for each
session that had a message since the last one: the more rows, the fewer pages each."""
CONTENDED = 0.5
"""Share of its time that this process waits for a core from which on it leaves it to those that somebody waits for."""
FLOOD = 2
"""Full batches one behind the other, from which on it does so: with less it keeps up anyway."""
PATIENT_ROWS, PATIENT_SECONDS = 500_000, 30.0
"""With more in the log, or further behind, it steps back no more."""
POLL_SECONDS = 0.5
"""Pause when the log gave little."""
MANY, COLLECT_SECONDS = 200, 1.5
"""With so many rows the pause is longer: messages wait for each commit, for its core and for the disk that Redis' fsync
needs too, of a commit of 100 rows half the CPU is its own, and each finds the caches full of what others need."""
STEP_BACK_SECONDS = 1.0
"""Pause behind each batch while it steps back."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Pauses between tries while SQL or Redis is away, doubling."""
LOOK_SECONDS = 1.0
"""How often the log is cut and looked at."""
LOST_IN_DETAIL = 20
"""Rows set aside that are logged one by one."""

Rows = list[tuple[Row, Any]]
"""Rows of the log, each with what is written for it."""
Bad = list[tuple[Row, Exception]]


class _Stopped(Exception):
    """There is no time left to try."""


class Drain:
    """Moves rows from the log to the archive. `fresh` keeps messages for the search index; `read_things` says what
    things are now; `after` does what follows messages, once they are safe. Both may raise `StoreError`, and then run
    again."""

    def __init__(
        self, consumer: Consumer, archive: Archive, fresh: Fresh | None, stats: Stats, log: Log,
        read_things: Callable[[Sequence[Thing]], list[State | None]],
        after: Callable[[Sequence[messages.Row]], set[tuple[str, int]]],
    ) -> None:  # fmt: skip
        self.state = LogState(0, {})
        self.trouble = ""
        """Why the archive does not take anything now, "" when it does."""
        self.behind = False
        """More waits in the log than is taken at once."""
        self.poisoned = 0
        self._consumer = consumer
        self._archive = archive
        self._put = partial(messages.put, fresh=fresh)
        self._stats = stats
        self._log = log
        self._read_things = read_things
        self._after = after
        self._stopping = gevent.event.Event()
        self._stopped = gevent.event.Event()
        self._look_at = 0.0
        self._in_row = 1.0  # rows that shared one in Redis, of late
        self._contention = Contention()

    @property
    def progress(self) -> Progress:
        """How far the archive is."""
        return self.state.groups.get(ARCHIVE, Progress(0, 0.0, 0))

    def run(self) -> None:
        """Until `stop`; in a greenlet of its own."""
        full = 0
        try:
            while not self._stopping.is_set():
                rows, more = self._read()
                full = full + 1 if more else 0
                self.behind = full > 0
                self._look()  # before the batch: on a busy core it takes seconds
                if rows:
                    self._drain(rows)
                contended = self._contention.share() > CONTENDED
                patient = self.state.length < PATIENT_ROWS and self.progress.lag < PATIENT_SECONDS
                self._archive.gives_way = patient and not self._stopping.is_set()
                if not full:
                    self._wait(COLLECT_SECONDS if len(rows) >= MANY else POLL_SECONDS)
                elif full >= FLOOD and contended and patient:
                    self._wait(STEP_BACK_SECONDS)
        except _Stopped:
            pass
        finally:
            self._stopped.set()

    def stop(self) -> None:
        """End behind the batch that is under way. What was not acknowledged is drained at the next start."""
        self._archive.gives_way = False
        self._stopping.set()
        self._stopped.wait()

    # ---- a batch

    def _read(self) -> tuple[list[Row], bool]:
        """What waits, as far as it fits a batch, and whether there may be more."""
        rows: list[Row] = []
        size = 0
        while len(rows) < BATCH and size < BATCH_BYTES:
            asked = max(1, int(READ / self._in_row))
            some = self._persist(self._consumer.read, asked)
            rows += some
            size += sum([len(field) for row in some for field in row.fields])
            if some:
                self._in_row = len(some) / max(1, sum(not row.part for row in some))
            if len(some) < asked:
                return rows, False
        return rows, True

    def _drain(self, rows: Sequence[Row]) -> None:
        parsed, marks, bad = _parse(rows)
        late: list[Row] = []  # they must come again: a server, one of a Cluster, did not answer
        self._write(self._put, parsed, bad)
        if marks:
            self._write(things.put, self._states(marks, late), bad)
        if bad:
            self._set_aside(bad)
        if parsed:
            again = self._persist(self._after, [row for _, row in parsed])
            if again:
                late += [row for row, (session, seq, *_) in parsed if (session, seq) in again]
        if late:
            self._consumer.release(late)
            self._stats.counts["late"] += len(late)
            left = {(row.tag, row.id) for row in late}
            rows = [row for row in rows if (row.tag, row.id) not in left]
            bad = [(row, error) for row, error in bad if (row.tag, row.id) not in left]
        self._persist(self._consumer.ack, rows)
        self._stats.counts["archived"] += len(rows) - len(bad)

    def _states(self, marks: dict[Thing, Row], late: list[Row]) -> Rows:
        """What the marked things are now, each with a row that marks it; of which nobody can say it now are `late`."""
        found = zip(marks.values(), self._persist(self._read_things, list(marks)), strict=True)
        states: Rows = []
        for row, state in found:
            if state is None:
                late.append(row)
            else:
                states.append((row, state))
        return states

    def _write(self, put: Callable[..., None], rows: Rows, bad: Bad) -> None:
        """Write all rows but those that SQL refuses, which go to `bad`."""
        if not rows:
            return
        try:
            self._persist(self._archive.write, put, [row for _, row in rows])
        except REFUSALS as error:
            if len(rows) == 1:
                bad.append((rows.pop()[0], error))
                return
            half = len(rows) // 2
            first, second = rows[:half], rows[half:]
            self._write(put, first, bad)
            self._write(put, second, bad)
            rows[:] = first + second

    def _set_aside(self, bad: Bad) -> None:
        self._persist(self._archive.write, poison.put, bad)
        self.poisoned += len(bad)
        self._stats.counts["poisoned"] += len(bad)
        for row, error in bad[:LOST_IN_DETAIL]:
            self._log.error("a row is set aside", shard=row.tag, row=row.name, error=error)

    # ---- until it works

    def _persist(self, function: Callable[..., R], *args: Any) -> R:
        """Call until no store is in the way, or raise `_Stopped`."""
        pause = FIRST_PAUSE
        while True:
            try:
                result = function(*args)
            except StoreError as error:
                if not self.trouble:
                    self._log.warning("the archive waits", error=error)
                self.trouble = str(error)
                self._stats.counts["waits"] += 1
            else:
                if self.trouble:
                    self._log.info("the archive goes on")
                self.trouble = ""
                return result
            self._wait(pause)
            self._look()
            pause = min(2 * pause, LONGEST_PAUSE)

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _Stopped

    def _look(self) -> None:
        """Cut the log, and see how long it is."""
        if now() < self._look_at:
            return
        self._look_at = now() + LOOK_SECONDS
        try:
            self.state = self._consumer.trim()
        except StoreError:
            return  # whoever reads the log finds the same trouble
        for group, progress in self.state.groups.items():
            if progress.passed:
                self._stats.counts[f"passed.{group}"] += progress.passed
                self._log.limited(group, 60, "rows passed over", group=group, rows=progress.passed)


def _parse(rows: Sequence[Row]) -> tuple[Rows, dict[Thing, Row], Bad]:
    """Rows that are messages, things that are marked, and rows that cannot be read."""
    parsed: Rows = []
    marks: dict[Thing, Row] = {}
    bad: Bad = []
    row_of = messages.row_of
    for number, row in enumerate(rows, 1):
        if not number % READ:
            gevent.sleep(0)  # others of this process have something to do
        fields = row.fields
        kind = fields[0]
        try:
            if kind == b"s":
                operator = fields[5].decode() if len(fields) > 4 else ""
                parsed.append((row, row_of(fields[1].decode(), fields[3], operator)))
            elif kind == b"k":
                marks[things_of(fields[1].decode(), fields[3])] = row
            elif kind != NOTED:  # which is for other systems
                raise ValueError("neither a message nor a mark")
        except (ValueError, LookupError, struct.error, msgspec.MsgspecError) as error:
            bad.append((row, error))
    return parsed, marks, bad
