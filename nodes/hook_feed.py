"""From the log to events: messages that were stored or changed, and what nodes noted. One process feeds at a time, so
that order stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import msgspec

from nodes.lease import Lease
from nodes.reading import original_of
from nodes.rest.sessions import message_of
from packs.errors import PayloadError
from store.entries import DELETED, OVERRIDDEN, REVOKED
from store.errors import StoreError
from store.events import Event
from store.log import Consumer, Message, Row, noted_of
from store.log import message_of as row_message

if TYPE_CHECKING:
    from mesh.log import Log
    from mesh.stats import Stats
    from store.events import Events

ROWS = 250
"""Rows in Redis read at once, of up to 8 messages each."""
IDLE_SECONDS = 0.1
STORE_SECONDS = 0.5
TRIM_SECONDS = 5.0
CONSUMER = "feed"
"""One name for all processes: who feeds next goes on with what the last one was given."""
_encode = msgspec.json.Encoder().encode


class Feed:
    """Reads the log while this process has the lease."""

    def __init__(
        self, consumer: Consumer, events: Events, lease: Lease, stats: Stats, log: Log, *, trims: bool
    ) -> None:
        """`trims`: nobody else cuts the log."""
        self._consumer = consumer
        self._events = events
        self._lease = lease
        self._stats = stats
        self._log = log
        self._trims = trims
        self._trim_at = 0.0
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until `stop`; in a greenlet."""
        opened = False
        while not self._stopping:
            try:
                if not self._lease.held():
                    opened = False
                    gevent.sleep(STORE_SECONDS)
                    continue
                if not opened:
                    self._consumer.open("$")
                    opened = True
                if not self._move():
                    gevent.sleep(IDLE_SECONDS)
            except StoreError as error:
                self._log.limited("feed", 10, "events wait for the store", error=error)
                gevent.sleep(STORE_SECONDS)

    def _move(self) -> bool:
        rows = self._consumer.read(ROWS)
        if rows:
            events = [event for row in rows if (event := self._event(row)) is not None]
            if not self._lease.good:
                self._consumer.release(rows)  # whoever has it now reads them again
                return False
            try:
                self._events.add(events)
            except StoreError:
                self._consumer.take_back(rows)  # some may have been added: a repeated one has the same id
                raise
            self._consumer.ack(rows)
            self._stats.counts["events"] += len(events)
        if self._trims and self._lease.clock >= self._trim_at:
            self._trim_at = self._lease.clock + TRIM_SECONDS
            self._consumer.trim()
        return bool(rows)

    def _event(self, row: Row) -> Event | None:
        if (noted := noted_of(row)) is not None:
            return Event(noted.type, noted.key, noted.id, noted.data)
        found = row_message(row)
        if found is None:
            return None
        event_id = f"{row.tag.strip('{}')}-{row.name}"
        try:
            data: Any = message_of(original_of(found.entry)) if not found.entry.revision else _changed(found)
        except (PayloadError, msgspec.DecodeError):
            self._log.limited("row", 10, "a row of the log cannot be read", row=event_id)
            return None
        kind = "message.changed" if found.entry.revision else "message.sent"
        return Event(kind, found.session, event_id, _encode(data))


def _changed(found: Message) -> dict[str, Any]:
    entry = found.entry
    return {
        "id": entry.pack_id, "session_id": found.session, "seq_id": entry.seq, "operator": found.operator,
        "revision": entry.revision, "timestamp": entry.changed, "revoked": bool(entry.state & REVOKED),
        "overridden": bool(entry.state & OVERRIDDEN), "deleted": bool(entry.state & DELETED), "content": entry.content,
    }  # fmt: skip
