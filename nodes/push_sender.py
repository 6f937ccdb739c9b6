"""Sends what lies in the queue of one outlet. Each outlet has its own sender, so none waits for another's vendor.

An entry is read, its pushes go out in calls together with those of other entries, and once all have an outcome it is
settled: what is to be tried again goes back to wait, the rest is recorded. What is under way when the process dies is
read again, so it may be sent twice; its id and what it replaces stay the same, so vendors and phones can tell.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import gevent
import msgspec
from gevent.event import Event
from gevent.pool import Pool

from mesh.loop import now
from nodes import push_entries
from nodes.push_entries import EXPIRED, READ, REVOKED, Entry, Note, Target
from push.flow import pause_before_retry
from push.model import Outcome, Push, Verdict
from push.outlet import Outlet
from store import entries
from store.errors import StoreError
from store.pushes import Outgoing, Waiting
from store.unread import Unread

if TYPE_CHECKING:
    from mesh.log import Log
    from mesh.stats import Stats

IDLE_SECONDS = 0.25
"""How often an empty queue is looked at; what this process adds wakes it at once."""
STORE_SECONDS = 0.5
"""Pause after the store failed."""
READ_AT_ONCE = 50
"""Entries."""
BADGES_AT_ONCE = 50
"""Users: Redis answers others between two such parts."""
DUE_SECONDS = 0.5
SETTLE_AT_ONCE = 100
ALARM_SECONDS = 60.0
"""A wrong key or app is told so often."""
REASONS_MAX, REASON_LENGTH = 100, 40
_ODD = re.compile("[^A-Za-z0-9_-]+")


class _Job:
    """An entry under way."""

    __slots__ = ("again", "entry", "id", "missing", "rows")

    def __init__(self, id_: bytes, entry: Entry) -> None:
        self.id = id_
        self.entry = entry
        self.missing = 0
        self.rows: list[tuple[Note, Target, Verdict, int]] = []
        self.again: dict[Outcome, tuple[float, list[tuple[Note, Target]]]] = {}


_Item = tuple[_Job, Note, Target, Push]


class Sender:
    """The sender of one outlet. `forget(user, field, token, since)` unregisters a dead token; `failed` is told of
    pushes that never arrive."""

    def __init__(
        self, outlet: Outlet, queue: Outgoing, unread: Unread, stats: Stats, log: Log,
        forget: Callable[[str, str, str, int], object], failed: Callable[[str, Note, Target, Verdict], None],
    ) -> None:  # fmt: skip
        self.outlet = outlet
        self.queue = queue
        self.waiting = Waiting(0, 0, 0, b"")
        self.oldest = 0.0
        """Seconds since the queueing of the oldest push that is not settled, nearly."""
        self._unread = unread
        self._stats = stats
        self._log = log
        self._forget = forget
        self._failed = failed
        self._calls = Pool(outlet.vendor.settings.concurrency)
        self._limit = outlet.vendor.settings.concurrency + 2 * outlet.vendor.batch
        self._under_way = 0
        self._usual = 1.0  # pushes of an entry, by what was read last
        self._jobs: dict[bytes, _Job] = {}
        self._settled: list[_Job] = []
        self._wake, self._freed, self._done = Event(), Event(), Event()
        self._stopping = False
        self._alarm_at = 0.0
        self._reasons: set[str] = set()

    # ---- life

    def run(self) -> None:
        """Send until `stop`; in a greenlet."""
        opened = False
        while not self._stopping:
            try:
                if not opened:
                    self.queue.open()
                    opened = True
                self._turn()
            except StoreError as error:
                self._log.warning("the queue of pushes cannot be read", outlet=self.outlet.name, error=error)
                opened = False  # its data may be gone
                gevent.sleep(STORE_SECONDS)

    def settle(self) -> None:
        """Settle what is done, until `stop`; in a greenlet."""
        while not (self._stopping and not self._jobs):
            self._done.wait(DUE_SECONDS)
            self._done.clear()
            while self._settled:
                done, self._settled = self._settled[:SETTLE_AT_ONCE], self._settled[SETTLE_AT_ONCE:]
                self._patient(lambda done=done: self._settle(done))  # type: ignore[misc]

    def due(self) -> None:
        """Bring back what has waited long enough, until `stop`; in a greenlet."""
        while not self._stopping:
            try:
                self.waiting = self.queue.due()
                self.oldest = self._age()
            except StoreError:
                pass  # the next look tells
            if self.waiting.queued:
                self._wake.set()
            gevent.sleep(DUE_SECONDS)

    def _age(self) -> float:
        """In the queue they lie in order; of those that wait, the next one has waited longest, nearly."""
        clock = int(time.time() * 1000)
        began = [self.waiting.since or clock]
        with contextlib.suppress(msgspec.MsgspecError):
            began += [push_entries.decode(self.waiting.next).queued] if self.waiting.next else []
        return max(0, clock - min(began)) / 1000

    def wake(self) -> None:
        """Something was added."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """Read nothing more; wait for what is under way. Blocks."""
        self._stopping = True
        self._wake.set()
        self._freed.set()
        limit = now() + seconds
        while self._jobs and now() < limit:
            gevent.sleep(0.02)
        self.outlet.close()

    def _patient(self, function: Callable[[], object]) -> None:
        """Until it works, or we stop."""
        while True:
            try:
                function()
                return
            except StoreError as error:
                self._log.warning("the queue of pushes cannot be written", outlet=self.outlet.name, error=error)
                if self._stopping:
                    return
                gevent.sleep(STORE_SECONDS)

    # ---- out

    def _turn(self) -> None:
        breaker = self.outlet.breaker
        if breaker.seconds:
            gevent.sleep(min(breaker.seconds, IDLE_SECONDS))
            return
        limit = 1 if breaker.trying else self._limit
        if self._under_way >= limit:
            self._freed.clear()
            self._freed.wait(IDLE_SECONDS)
            return
        self._wake.clear()
        count = 1 if breaker.trying else max(1, min(READ_AT_ONCE, int((limit - self._under_way) / self._usual)))
        found = [(id_, entry) for id_, entry in self.queue.read(count) if id_ not in self._jobs]
        if not found:
            self._wake.wait(IDLE_SECONDS)
            return
        jobs = [job for id_, entry in found if (job := self._job(id_, entry)) is not None]
        pushes = sum(len(note.targets) for job in jobs for note in job.entry.notes)
        self._usual = max(1.0, pushes / len(found))
        self._begin(jobs)

    def _job(self, id_: bytes, entry: bytes) -> _Job | None:
        """None for an entry that another version wrote and this one cannot read: it would come again for ever."""
        try:
            return _Job(id_, push_entries.decode(entry))
        except msgspec.MsgspecError as error:
            self._log.error("an entry of the queue is dropped", outlet=self.outlet.name, error=error)
            self._stats.counts["drops.push.unreadable"] += 1
            self.queue.settle([id_], (), b"")
            return None

    def _begin(self, jobs: list[_Job]) -> None:
        clock = time.time()
        rows: list[tuple[_Job, Note, Target]] = []
        for job in jobs:
            self._jobs[job.id] = job
            for note in job.entry.notes:
                if note.expires <= clock:
                    self._drop(job, note, note.targets, EXPIRED)
                else:
                    rows += [(job, note, target) for target in note.targets]
        try:
            rows = self._still_wanted(rows)
            badges = self._badges(rows)
        except StoreError:
            for job in jobs:
                del self._jobs[job.id]
            self.queue.again()
            raise
        items: list[_Item] = []
        for job, note, target in rows:
            job.missing += 1
            badge = note.badge if note.badge >= 0 else badges.get(target.user, -1)
            items.append((job, note, target, note.push(target, badge)))
        for job in jobs:
            if not job.missing:
                self._finish(job)
        self._under_way += len(items)
        for numbers in self.outlet.calls([item[3] for item in items]):
            if self.outlet.breaker.trying:
                self._call([items[n] for n in numbers])  # one tries; what it finds decides how the others go on
            else:
                self._calls.spawn(self._call, [items[n] for n in numbers])

    def _drop(self, job: _Job, note: Note, targets: Sequence[Target], verdict: Verdict) -> None:
        job.rows += [(note, target, verdict, job.entry.tries) for target in targets]
        self._stats.counts[f"drops.push.{verdict.reason}"] += len(targets)

    def _badges(self, rows: Sequence[tuple[_Job, Note, Target]]) -> dict[str, int]:
        if not self.outlet.vendor.wants_badge:
            return {}
        users = list(dict.fromkeys(target.user for _, note, target in rows if note.badge < 0))
        found: dict[str, int] = {}
        for start in range(0, len(users), BADGES_AT_ONCE):
            part = users[start : start + BADGES_AT_ONCE]
            found.update(zip(part, self._unread.totals(part), strict=True))
        return found

    def _still_wanted(self, rows: list[tuple[_Job, Note, Target]]) -> list[tuple[_Job, Note, Target]]:
        """Without what was read or revoked while it waited."""
        late = [row for row in rows if row[0].entry.tries and row[1].seq]
        if not late:
            return rows
        read = self._unread.positions([(note.about, target.user) for _, note, target in late])
        messages = list(dict.fromkeys((note.about, note.seq) for _, note, _ in late))
        state = dict(zip(messages, self._unread.entries(messages), strict=True))
        gone: set[int] = set()
        for row, position in zip(late, read, strict=True):
            job, note, target = row
            entry = state[note.about, note.seq]
            if position >= note.seq:
                self._drop(job, note, (target,), READ)
            elif entry is not None and entry.state & entries.REVOKED and note.kind != "withdrawn":
                self._drop(job, note, (target,), REVOKED)
            else:
                continue
            gone.add(id(row))
        return [row for row in rows if id(row) not in gone]

    def _call(self, items: list[_Item]) -> None:
        began = now()
        try:
            verdicts = self.outlet.call([item[3] for item in items])
        except Exception as error:
            # One push that cannot be made into a call must not hold up the others for ever.
            self._log.error("a push failed", outlet=self.outlet.name, error=error)
            verdicts = [Verdict(Outcome.BAD, type(error).__name__)] * len(items)
        name = self.outlet.name.replace("/", ".")
        self._stats.histograms[f"push.{name}.seconds"].add(now() - began)
        dead = self._dead(items, verdicts)
        for item, verdict in zip(items, verdicts, strict=True):
            self._stats.counts[f"push.{name}.{verdict.outcome.value}"] += 1
            if verdict.outcome is not Outcome.ACCEPTED:
                self._stats.counts[f"refused.push.{name}.{self._reason(verdict)}"] += 1
            self._judge(item, verdict)
        self._under_way -= len(items)
        self._freed.set()
        for _, _, target, since in dead:
            self._patient(lambda t=target, s=since: self._forget(t.user, t.field, t.token, s))  # type: ignore[misc]

    def _reason(self, verdict: Verdict) -> str:
        """The vendor's word for it, as part of a counter's name; there are not too many of them."""
        reason = _ODD.sub("_", verdict.reason)[:REASON_LENGTH].strip("_") or verdict.outcome.value
        if len(self._reasons) < REASONS_MAX:
            self._reasons.add(reason)
        return reason if reason in self._reasons else "other"

    def _dead(self, items: Sequence[_Item], verdicts: Sequence[Verdict]) -> Sequence[tuple[_Job, Note, Target, int]]:
        """Those whose tokens are to be unregistered."""
        accepted = sum(v.outcome in (Outcome.ACCEPTED, Outcome.SKIPPED) for v in verdicts)
        dead = [
            (job, note, target, v.since)
            for (job, note, target, _), v in zip(items, verdicts, strict=True)
            if v.outcome is Outcome.DEAD
        ]
        if not accepted and not dead:
            return []
        return self.outlet.dead.note(accepted, dead)

    def _judge(self, item: _Item, verdict: Verdict) -> None:
        job, note, target, _ = item
        tries = job.entry.tries + 1
        if verdict.outcome is Outcome.CONFIG and now() >= self._alarm_at:
            self._alarm_at = now() + ALARM_SECONDS
            self._log.error("pushes are refused: look at the topology", outlet=self.outlet.name, reason=verdict.reason)
        if verdict.outcome in job.again:
            pause: float | None = job.again[verdict.outcome][0]
        else:
            pause = pause_before_retry(verdict, tries, self.outlet.vendor.server_pause)
        if pause is None:
            job.rows.append((note, target, verdict, tries))
        elif time.time() + pause >= note.expires:
            self._drop(job, note, (target,), EXPIRED._replace(reason=f"expired.{verdict.outcome.value}"))
        else:
            job.again.setdefault(verdict.outcome, (pause, []))[1].append((note, target))
        job.missing -= 1
        if not job.missing:
            self._finish(job)

    def _finish(self, job: _Job) -> None:
        self._settled.append(job)
        self._done.set()

    def _settle(self, jobs: list[_Job]) -> None:
        clock = time.time()
        again = []
        for job in jobs:
            for pause, items in job.again.values():
                notes: dict[int, tuple[Note, list[Target]]] = {}
                for note, target in items:
                    notes.setdefault(id(note), (note, []))[1].append(target)
                whole = tuple(note._replace(targets=tuple(targets)) for note, targets in notes.values())
                entry = Entry(job.entry.tries + 1, job.entry.queued, whole)
                again.append((int((clock + pause) * 1000), push_entries.encode(entry)))
        rows = [(row, job.entry.queued) for job in jobs for row in job.rows]
        record = push_entries.record(rows, int(clock * 1000)) if rows else b""
        for (note, target, verdict, _), _ in rows:
            if verdict.outcome not in (Outcome.ACCEPTED, Outcome.SKIPPED):
                self._failed(self.outlet.name, note, target, verdict)
        self.queue.settle([job.id for job in jobs], again, record)
        for job in jobs:
            self._jobs.pop(job.id, None)
