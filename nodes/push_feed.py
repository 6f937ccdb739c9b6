"""From the log to the queues: which messages are pushed to whom.

    row of the log -> rests (`[push] rest`) -> burst: the first message of a session at once, what follows it within
    `[push] burst` as one summary -> recipients that are not there and have not read it -> their devices -> queues

A row is acknowledged when what it leads to is queued, so a crash loses nothing; what is queued twice has the same name
there. Somebody is there while brokers hold his topic (with a phone: `m:<user>`): this process sees subscriptions. Whose
last connection breaks without LOGOUT may have been gone for a while: `push_missed.py` looks again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gevent

from mesh.loop import now
from nodes import push_settings
from nodes.push_recipients import Notice
from packs.codec import decode_payload
from packs.errors import PayloadError
from packs.flags import COUNTER
from packs.structs import MsgReq
from packs.table import MSG_BIZ_NOTIFY, MSG_GROUP_CHAT, MSG_SINGLE_CHAT
from store.entries import DELETED, HIDDEN, OVERRIDDEN, REVOKED, Entry
from store.errors import StoreError
from store.log import Consumer, Row, message_of

if TYPE_CHECKING:
    from mesh.log import Log
    from mesh.stats import Stats
    from nodes.push_recipients import Recipients
    from nodes.push_settings import PushSettings

TYPES = (MSG_SINGLE_CHAT, MSG_GROUP_CHAT, MSG_BIZ_NOTIFY)
ROWS = 250
"""Rows in Redis read at once, of up to 8 messages each."""
MAX_HELD = 50_000
"""Rows that rest or are gathered; more stay in the log."""
IDLE_SECONDS = 0.1
STORE_SECONDS = 0.5
TRIM_SECONDS = 5.0
GONE = REVOKED | DELETED


class _Held:
    """A message that rests. Most are never decoded: whoever is there needs no push."""

    __slots__ = ("content", "due", "entry", "kind", "row", "session")

    def __init__(self, row: Row, session: str, entry: Entry, due: float, kind: str = "") -> None:
        self.row = row
        self.session = session
        self.entry: Entry | None = entry  # None: it is no more
        self.due = due
        self.kind = kind
        self.content: str | None = None  # in place of its own


class _Burst:
    """Messages of one session after a push of it."""

    __slots__ = ("count", "mentions", "newest", "rows", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.count = 0
        self.newest: Notice | None = None
        self.mentions: set[str] = set()
        self.rows: list[Row] = []


class Feed:
    """Reads the log for one push node."""

    def __init__(
        self, consumer: Consumer, recipients: Recipients, settings: PushSettings, stats: Stats, log: Log, trims: bool
    ) -> None:
        """`trims`: nobody else cuts the log."""
        self._consumer = consumer
        self._recipients = recipients
        self._settings = settings
        self._stats = stats
        self._log = log
        self._trims = trims
        self._trim_at = 0.0
        self._resting: deque[_Held] = deque()
        self._by_message: dict[tuple[str, int], _Held] = {}
        self._bursts: dict[tuple[str, str], _Burst] = {}
        self._gathered = 0
        self._stopping = False

    def holds(self, session: str, user: str, seq: int) -> bool:
        """Whether it will still push this message to him, or a newer one of the session, if he is away."""
        bursts = (self._bursts.get((session, to)) for to in (user, ""))
        gathered = any(b is not None and b.newest is not None and b.newest.seq >= seq for b in bursts)
        return gathered or (session, seq) in self._by_message

    @property
    def held(self) -> int:
        """Rows that rest or are gathered."""
        return len(self._resting) + self._gathered

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until `stop`; in a greenlet. What rests then is read again after the next start."""
        opened = False
        while not self._stopping:
            try:
                if not opened and not self._recipients.wanted():
                    gevent.sleep(STORE_SECONDS)
                    continue
                if not opened:
                    self._consumer.open()
                    opened = True
                if not self._turn():
                    gevent.sleep(IDLE_SECONDS)
            except StoreError as error:
                self._log.warning("the log cannot be read for pushes", error=error)
                gevent.sleep(STORE_SECONDS)

    # ---- rows

    def _turn(self) -> bool:
        """Whether there was something to do."""
        rows = self._consumer.read(ROWS) if self.held < MAX_HELD else []
        done = [row for row in rows if not self._take(row)]
        if done:
            self._consumer.ack(done)
        sent = self._send_due() if self._recipients.complete else False
        if self._trims and now() >= self._trim_at:
            self._trim_at = now() + TRIM_SECONDS
            self._consumer.trim()
        return bool(rows) or sent

    def _take(self, row: Row) -> bool:
        """Whether it is kept; else it is done with."""
        message = message_of(row)
        if message is None or message.entry.type not in TYPES:
            return False
        session, entry = message.session, message.entry
        if entry.state:
            return self._changed(row, session, entry)
        if entry.seq / 1e6 + self._settings.ttl <= time.time():
            self._stats.counts["drops.push.old"] += 1
            return False
        held = _Held(row, session, entry, now() + self._settings.rest)
        self._resting.append(held)
        self._by_message[session, entry.seq] = held
        return True

    def _changed(self, row: Row, session: str, entry: Entry) -> bool:
        """A message was revoked, overridden or deleted."""
        held = self._by_message.get((session, entry.seq))
        if held is not None:
            if entry.state & GONE:
                held.entry = None
            elif entry.state & OVERRIDDEN:
                held.content = entry.content
            return False
        if self._settings.revoked == push_settings.OFF or not entry.state & (REVOKED | OVERRIDDEN):
            return False
        withdrawn = bool(entry.state & (REVOKED | HIDDEN))
        changed = _Held(row, session, entry, now(), "withdrawn" if withdrawn else f"changed {entry.revision}")
        changed.content = "" if withdrawn else entry.content
        self._resting.appendleft(changed)
        return True

    # ---- what is due

    def _send_due(self) -> bool:
        clock = now()
        notices: list[Notice] = self._recipients.digests()
        done: list[Row] = []
        late = 0.0
        self._end_bursts(clock, notices, done)
        while self._resting and (self._resting[0].due <= clock or self._resting[0].entry is None):
            held = self._resting.popleft()
            notice = self._notice(held)
            if not held.kind:
                self._by_message.pop((held.session, _seq_of(held.row)), None)
            if notice is None or not self._gather(held, notice, clock):
                done.append(held.row)
                if notice is not None:
                    notices.append(notice)
                    late = max(late, 0.0 if held.kind else time.time() - notice.seq / 1e6 - self._settings.rest)
        if notices:
            self._queue(notices, late)
        if done:
            self._consumer.ack(done)
        return bool(done)

    def _notice(self, held: _Held) -> Notice | None:
        """What is to be said of a message, None when nobody needs to hear of it."""
        session, entry = held.session, held.entry
        if entry is None or (entry.type != MSG_GROUP_CHAT and not self._recipients.is_any_away(session)):
            return None
        try:
            message = decode_payload(MsgReq, entry.payload)
        except PayloadError:
            self._log.error("a stored message does not decode", session=session, seq=entry.seq)
            return None
        own = message.push_info
        if not entry.flags & COUNTER and not (own.title or own.summary):
            return None  # what does not count as unread is no news, unless its sender says so
        expires = entry.seq / 1e6 + self._settings.ttl
        group = session if entry.type == MSG_GROUP_CHAT else ""
        content = message.content if held.content is None else held.content
        return Notice(session, entry.seq, group, message, content, 1, expires, tuple(message.mentions), held.kind)

    def _gather(self, held: _Held, notice: Notice, clock: float) -> bool:
        """Whether it waits for the end of a burst."""
        if notice.kind or not self._settings.burst:
            return False
        key = (notice.session, "" if notice.group else notice.message.to)
        burst = self._bursts.get(key)
        if burst is None:
            self._bursts[key] = _Burst(clock + self._settings.burst)
            return False
        burst.count += 1
        burst.newest = notice
        burst.mentions.update(notice.mentions)
        burst.rows.append(held.row)
        self._gathered += 1
        return True

    def _end_bursts(self, clock: float, notices: list[Notice], done: list[Row]) -> None:
        for key in [key for key, burst in self._bursts.items() if burst.until <= clock]:
            burst = self._bursts.pop(key)
            if burst.newest is not None:
                mentions = tuple(sorted(burst.mentions))
                notices.append(burst.newest._replace(messages=burst.count, mentions=mentions))
                done += burst.rows
                self._gathered -= len(burst.rows)
                self._bursts[key] = _Burst(clock + self._settings.burst)

    def _queue(self, notices: Sequence[Notice], late: float) -> None:
        """Until it works: the rows are done afterwards."""
        while True:
            try:
                self._recipients.queue(notices, late)
                return
            except StoreError as error:
                self._log.warning("pushes cannot be queued", error=error)
                gevent.sleep(STORE_SECONDS)
                if self._stopping:
                    raise


def _seq_of(row: Row) -> int:
    message = message_of(row)
    assert message is not None
    return message.entry.seq
