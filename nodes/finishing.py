"""What follows the storing of a message, done again: whoever stored it may have died before he did it.

A sender that gets no answer sends again, and then it is done too; this is for those who never come back.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.loop import now
from mesh.stats import Stats
from packs.flags import HIGH_PRIORITY
from packs.ids import parties
from store.archive.messages import Row
from store.errors import StoreError
from store.hot import HotStore
from store.priority import message_item

FLUSH_SECONDS = 5.0
"""Recent sessions are compared so often: once per user and session, not per message."""
LEFT_MAX = 100_000
"""Sessions that wait while a server, one of a Cluster, is down; behind that many, what is left is left."""
SESSION, SEQ, FLAGS, SENDER, REVISION = 0, 1, 5, 6, 11
"""Columns of a row."""


class Finisher:
    """Sees to recent sessions and queues of single chats and notices, for messages that are archived. In greenlets;
    raises `StoreError`."""

    def __init__(self, store: HotStore, stats: Stats) -> None:
        self._store = store
        self._stats = stats
        self._newest: dict[str, int] = {}  # session -> seqId
        self._flush_at = now() + FLUSH_SECONDS

    def after(self, rows: Sequence[Row]) -> set[tuple[str, int]]:
        """These messages were written; they are acknowledged behind this, but for those returned, by session and seqId:
        a server, one of a Cluster, did not answer."""
        urgent: dict[tuple[str, bytes], tuple[str, int]] = {}
        newest = self._newest
        for row in rows:
            if row[REVISION]:
                continue
            session, seq, flags = row[SESSION], row[SEQ], row[FLAGS]
            if seq > newest.get(session, 0):
                newest[session] = seq
            if flags & HIGH_PRIORITY:
                users = parties(session)
                others = [user for user in users if user != row[SENDER]] or users
                urgent |= {(user, message_item(session, seq)): (session, seq) for user in others}
        return {urgent[item] for item in self._store.priority.add_each(list(urgent))} if urgent else set()

    def flush(self) -> None:
        """Compare recent sessions, if it is time."""
        if now() < self._flush_at:
            return
        self._flush_at = now() + FLUSH_SECONDS
        newest, self._newest = self._newest, {}
        found = [(user, session, seq) for session, seq in newest.items() for user in parties(session)]
        try:
            repaired, left = self._store.sessions.repair(found)
        except StoreError:
            self._newest = {**newest, **self._newest}
            raise
        self._stats.counts["repaired"] += repaired
        if len(self._newest) < LEFT_MAX:
            self._newest = {**{session: seq for _, session, seq in left}, **self._newest}
