"""Messages of sessions: storing them, reading them back, and what a user sees of his sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from store import entries
from store.entries import Entry
from store.keys import Keys
from store.redis import Redis
from store.scripts import COMMIT, OVERVIEW, RECENT

STORED, REPEATED, CONFLICT, NOT_FRIENDS, BLOCKED, FAILED = 1, 2, 3, 4, 5, 0
"""What became of a message (`Stored.status`)."""

BATCH = 64
"""Messages per script call: Redis answers other clients between two of them."""


class Message(NamedTuple):
    """A message to store. `peer` is "" where no relation is checked; `crc` tells a repeat from another content.
    `priority`: it also goes to the queue of its group of what must not be missed."""

    session: str
    sender: str
    peer: str
    pack_id: str
    crc: bytes
    countable: bool
    tail: bytes
    priority: bool = False


class Stored(NamedTuple):
    """The outcome for one message; `text` only when it FAILED."""

    status: int
    seq: int
    prev: int
    text: str


class Overview(NamedTuple):
    """A session as one user sees it."""

    session: str
    stamp: int
    read_seq: int
    unread: int
    newest: Entry | None


StoredDone = Callable[[Sequence[Stored] | None, "Exception | None"], None]


class Sessions:
    """Sessions in the hot store."""

    def __init__(self, writes: Redis, reads: Redis, keys: Keys, *, dedup_seconds: int, log_seconds: int) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys
        self._floor = 0  # the largest number seen from the store; new ones are above it, whatever became of the data
        self._dedup_seconds = dedup_seconds
        self._log_keep_ms = log_seconds * 1000

    def commit(self, messages: Sequence[Message], require_friend: bool, done: StoredDone) -> None:
        """Store messages, in order and atomically each; the outcomes come in the same order. Harmless when repeated.

        `messages` are at most `BATCH`. An error of `done` means that nothing is known of any of them.
        """
        tag_of = self._keys.session_tag
        args: list[Any] = [self._floor, 1 if require_friend else 0, self._dedup_seconds, self._log_keep_ms]
        for m in messages:
            args += (
                tag_of(m.session), m.session, m.sender, m.peer, m.pack_id, m.crc, m.countable + 2 * m.priority, m.tail
            )  # fmt: skip

        def stored(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            outcomes = []
            fields = iter(reply)
            for status, seq, prev, text in zip(fields, fields, fields, fields, strict=True):
                outcomes.append(Stored(status, seq, prev, text.decode() if status == FAILED else ""))
                if seq > self._floor:
                    self._floor = seq
            done(outcomes, None)

        self._writes.evaluate(stored, COMMIT, (f"{tag_of(messages[0].session)}:log",), args)

    def touch(self, activity: Sequence[tuple[str, str]]) -> None:
        """Note (user, session) activity for the users' recent sessions. Fire and forget: repeated after a crash."""
        keys = self._keys
        by_shard: dict[str, list[str]] = {}
        for user, session in activity:
            by_shard.setdefault(keys.user_tag(user), []).extend((keys.recent(user), session))
        for tag, args in by_shard.items():
            self._writes.evaluate(_ignore, RECENT, (f"{tag}:stamp",), args)

    def page(self, session: str, below: int, count: int, done: Callable[[list[Entry] | None, Any], None]) -> None:
        """Messages of `session` with seqId <= `below` (<= 0: from the newest), newest first, at most `count`."""

        def read(reply: Any, error: Exception | None) -> None:
            done(None if error is not None else [entries.parse(e) for e in reply], error)

        top = below if below > 0 else "+inf"
        self._reads.command(read, "ZREVRANGEBYSCORE", self._keys.history(session), top, "-inf", "LIMIT", 0, count)

    def recent(
        self, user: str, after: int, count: int, done: Callable[[list[tuple[str, int]] | None, int, Any], None]
    ) -> None:
        """The user's sessions with a stamp above `after`, ascending, at most `count`, as (session, stamp); and the
        store's time in µs, read before them."""
        clock = 0

        def timed(reply: Any, error: Exception | None) -> None:
            nonlocal clock
            if error is None:
                clock = int(reply[0]) * 1_000_000 + int(reply[1])

        def read(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, 0, error)
                return
            fields = iter(reply)
            done([(s.decode(), int(stamp)) for s, stamp in zip(fields, fields, strict=True)], clock, None)

        self._reads.command(timed, "TIME")
        self._reads.command(
            read, "ZRANGEBYSCORE", self._keys.recent(user), f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, count
        )

    def overview(
        self, user: str, sessions: Sequence[tuple[str, int]], done: Callable[[list[Overview] | None, Any], None]
    ) -> None:
        """What `user` sees of these (session, stamp), in their order."""
        if not sessions:
            done([], None)
            return
        args: list[Any] = [user]
        for session, _ in sessions:
            args += (self._keys.session_tag(session), session)

        def read(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            found = []
            fields = iter(reply)
            rows = zip(fields, fields, fields, fields, fields, strict=True)
            for (session, stamp), (n, read_seq, read_n, gone, newest) in zip(sessions, rows, strict=True):
                unread = max(0, int(n) - int(read_n) - gone)
                found.append(
                    Overview(session, stamp, int(read_seq), unread, entries.parse(newest) if newest else None)
                )
            done(found, None)

        self._reads.evaluate(read, OVERVIEW, (f"{args[1]}:log",), args)


def _ignore(reply: Any, error: Exception | None) -> None:
    """The outcome of a write that is repeated anyway when it was lost."""
