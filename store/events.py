"""Events for other systems: one stream of what happened, how far each endpoint has got, what was decided on messages.

    imesh:events            stream   the events, the newest so many: t type, k what orders them, i id, d data (JSON)
    imesh:events:at         hash     endpoint -> id in the stream up to which all is delivered
    imesh:events:said:...   string   what was decided on a message before it was stored; expires

An event that was added twice has the same id both times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from store.client import Client

STREAM, POSITIONS = "imesh:events", "imesh:events:at"
START = "0-0"


class Event(NamedTuple):
    """What happened. Events of the same `key` keep their order; `data` is JSON."""

    type: str
    key: str
    id: str
    data: bytes


class Place(NamedTuple):
    """An event in the stream. `at` orders them."""

    at: str
    event: Event

    @property
    def time(self) -> int:
        """When it was added, ms since the epoch."""
        return int(self.at.partition("-")[0])


class Events:
    """All methods block their greenlet and raise `StoreError`."""

    def __init__(self, writes: Client, reads: Client, *, keep: int, said_seconds: int) -> None:
        """`keep`: events in the stream, about."""
        self._writes = writes
        self._reads = reads
        self._keep = keep
        self._said_seconds = said_seconds

    # ---- the stream

    def add(self, events: Sequence[Event]) -> None:
        """Add events, in order."""
        if events:
            self._writes.ask_all([self._adding(event) for event in events])

    def _adding(self, event: Event) -> tuple[object, ...]:
        fields = ("t", event.type, "k", event.key, "i", event.id, "d", event.data)
        return ("XADD", STREAM, "MAXLEN", "~", self._keep, "*", *fields)

    def after(self, at: str, count: int) -> list[Place]:
        """At most `count` events behind `at`, oldest first."""
        found = []
        for place, fields in self._reads.ask("XRANGE", STREAM, f"({at}", "+", "COUNT", count):
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            event = Event(values[b"t"].decode(), values[b"k"].decode(), values[b"i"].decode(), values[b"d"])
            found.append(Place(place.decode(), event))
        return found

    def newest(self) -> str:
        """Where the stream ends."""
        found = self._reads.ask("XREVRANGE", STREAM, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else START

    # ---- how far who delivers is

    def position(self, endpoint: str) -> str:
        """Up to where an endpoint has everything; a new one has what there is now."""
        self._writes.ask("HSETNX", POSITIONS, endpoint, self.newest())
        found: bytes = self._writes.ask("HGET", POSITIONS, endpoint)
        return found.decode()

    def move(self, endpoint: str, at: str) -> None:
        """Note how far it is."""
        self._writes.ask("HSET", POSITIONS, endpoint, at)

    # ---- what was decided

    def said(self, message: str) -> bytes | None:
        """What was decided on a message, None when nothing was."""
        found: bytes | None = self._reads.ask("GET", f"imesh:events:said:{message}")
        return found

    def say(self, message: str, decision: bytes) -> bytes:
        """Keep a decision unless there is one; the one that stands."""
        key = f"imesh:events:said:{message}"
        self._writes.ask("SET", key, decision, "NX", "EX", self._said_seconds)
        found: bytes | None = self._writes.ask("GET", key)
        return decision if found is None else found
