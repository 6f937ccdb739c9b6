"""What must not be missed: high-priority messages and controls, in a queue per user and one per group.

An item of a queue is
    a pack (its first byte is 0x95)     a control, as it is delivered
    "<seqId> <session>"                 a high-priority message: it is read when it is asked for, so that a revoked one
                                        has no content and a deleted one is gone
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from store import entries
from store.away import Away
from store.client import Call, Client
from store.entries import DELETED, Entry
from store.keys import Keys
from store.scripts import ENQUEUE, PRIORITY

KEPT_SECONDS = 30 * 24 * 3600
"""How long an item is kept."""
SETTLED_US = 5_000_000
"""Stamps this close to the present may still be joined by lower ones, so a last page's cursor stays below."""
CHUNK = 20
"""Messages read at once: a page may be full before all are needed."""

Item = bytes | Entry
"""A pack, or a message."""
Archived = Callable[[list[tuple[str, int]]], list["Entry | None"]]
"""Reads the message of each (session, seqId) from the archive; None where there is none. In a greenlet."""


class Page(NamedTuple):
    """Items in order. `cursor`: where to go on. `cut`: there are more, and this page has fewer than asked for."""

    items: list[Item]
    cursor: int
    cut: bool


def message_item(session: str, seq: int) -> bytes:
    """The item of a high-priority message, as queues hold it."""
    return f"{seq} {session}".encode()


class Priority:
    """The queues in the hot store."""

    def __init__(self, writes: Client, reads: Client, keys: Keys) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys
        self._away = Away()

    # ---- writing

    def add(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Put (user, item) into the users' queues; an item that is there already stays where it is. Fire and forget: it
        is repeated after a crash."""
        for script, keys, args in self._shards(items):
            self._writes.evaluate(_ignore, script, keys, args)

    def add_now(self, items: Sequence[tuple[str, bytes]]) -> None:
        """`add`, and wait until it is done. In a greenlet. Raises `StoreError`."""
        self._writes.run_all(self._shards(items))

    def add_each(self, items: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """`add_now`; returns those whose server, one of a Cluster, does not answer, or did not a moment ago."""
        near: list[tuple[str, bytes]] = []
        left: list[tuple[str, bytes]] = []
        for item in items:
            (left if self._keys.user_tag(item[0]) in self._away else near).append(item)
        calls = self._shards(near)
        replies = zip(calls, self._writes.run_each(calls), strict=True)
        failed = {call[2][0] for call, reply in replies if isinstance(reply, Exception)}
        self._away.note(failed)
        return left + [item for item in near if self._keys.user_tag(item[0]) in failed]

    def _shards(self, items: Sequence[tuple[str, bytes]]) -> list[Call]:
        """The script with its arguments, for each shard."""
        by_shard: dict[str, list[Any]] = {}
        for user, item in items:
            tag = self._keys.user_tag(user)
            args = by_shard.setdefault(tag, [tag, self._keys.stamp_step, KEPT_SECONDS])
            args += (self._keys.user_priority(user), item)
        return [(ENQUEUE, (args[3],), args) for args in by_shard.values()]

    # ---- reading

    def page(self, user: str, after: int, count: int, size: int, archived: Archived) -> Page:
        """What `user` must not miss with a stamp above `after`, ascending. In a greenlet. Raises `StoreError`.

        `archived` reads messages that lie in the archive.

        It has `count` items, and those with the same stamp as the last of them; fewer when more would not fit `size`
        bytes. The cursor of such a page is its largest stamp (not above the store's time: lower ones may still come
        below that). Any other page is the last, and its cursor stays `SETTLED_US` behind the present.
        """
        clock, groups = self._start(user)
        items: list[Item] = []
        largest = settled = position = after
        whole = False
        while not whole:
            batch, position, whole = self._batch(user, groups, position, count, size)
            for stamp, same in groupby(self._resolved(batch, archived), key=itemgetter(0)):
                found = [item for _, item in same if item is not None]
                size -= sum(map(_size, found))
                if len(items) >= count or (items and size < 0):
                    return Page(items, settled, cut=len(items) < count)
                items += found
                largest = stamp
                settled = stamp if stamp <= clock else settled
        if len(items) >= count:
            return Page(items, settled, cut=False)
        return Page(items, max(after, min(largest, clock - SETTLED_US)), cut=False)

    def _start(self, user: str) -> tuple[int, list[tuple[str, int]]]:
        """The store's time in µs, read before anything else, and the user's groups with the stamps of his joining."""
        commands = (("TIME",), ("ZRANGE", self._keys.my_groups(user), 0, -1, "WITHSCORES"))
        (seconds, micros), groups = self._reads.ask_all(commands)
        fields = iter(groups)
        joined = [(group.decode(), int(stamp)) for group, stamp in zip(fields, fields, strict=True)]
        return int(seconds) * 1_000_000 + int(micros), joined

    def _batch(
        self, user: str, groups: list[tuple[str, int]], after: int, count: int, size: int
    ) -> tuple[list[tuple[int, bytes]], int, bool]:
        """(stamp, item) of all queues, ascending; the stamp up to which they are complete; whether that is all."""
        keys = self._keys
        common = (user, count, max(size, 1), KEPT_SECONDS)
        by_shard: dict[str, list[Any]] = {keys.user_tag(user): [*common, keys.user_priority(user), after, ""]}
        for group, joined in groups:
            tag = keys.session_tag(group)
            args = by_shard.setdefault(tag, [*common])
            args += (keys.group_priority(group), max(after, joined), f"{tag}:p:{group}")
        replies = self._reads.run_all([(PRIORITY, (args[len(common)],), args) for args in by_shard.values()])
        found: list[tuple[int, bytes]] = []
        horizon = 0  # of the queues that hold more, the lowest stamp up to which they were read
        for queue in (queue for reply in replies for queue in reply):
            rows = list(zip(map(int, queue[::2]), queue[1::2], strict=True))
            found += rows
            if rows and (len(rows) >= count or sum(len(item) for _, item in rows) >= common[2]):
                horizon = min(horizon or rows[-1][0], rows[-1][0])
        found.sort(key=itemgetter(0))
        if not horizon:
            return found, found[-1][0] if found else after, True
        return [row for row in found if row[0] <= horizon], horizon, False

    def _resolved(self, batch: list[tuple[int, bytes]], archived: Archived) -> Iterator[tuple[int, Item | None]]:
        """(stamp, item), messages read a few at a time; None for those that are gone."""
        for i in range(0, len(batch), CHUNK):
            chunk = batch[i : i + CHUNK]
            places = [_place(item) for _, item in chunk if item[0] != _PACK]
            messages = iter(self._messages(places, archived))
            for stamp, item in chunk:
                yield stamp, item if item[0] == _PACK else next(messages)

    def _messages(self, places: list[tuple[str, int]], archived: Archived) -> list[Entry | None]:
        """The message at each (session, seqId); None for those that are gone."""
        reads: list[tuple[Any, ...]] = []
        for session, seq in places:
            reads += (
                ("ZRANGEBYSCORE", self._keys.history(session), seq, seq),
                ("ZCOUNT", self._keys.tombstones(session), seq, seq),
                ("HGET", self._keys.meta(session), "a"),
            )
        replies = iter(self._reads.ask_all(reads))
        found: dict[tuple[str, int], Entry | None] = {}
        elsewhere = []
        for place, row, gone, edge in zip(places, replies, replies, replies, strict=True):
            found[place] = entries.parse(row[0]) if row else None
            if not row and not gone and edge is not None and place[1] <= int(edge):
                elsewhere.append(place)
        for place, entry in zip(elsewhere, archived(elsewhere) if elsewhere else [], strict=True):
            found[place] = entry if entry is not None and not entry.state & DELETED else None
        return [found[place] for place in places]


def _place(item: bytes) -> tuple[str, int]:
    seq, _, session = item.decode().partition(" ")
    return session, int(seq)


_PACK = 0x95
"""First byte of a pack: an array of 5."""


def _size(item: Item) -> int:
    return len(item) if isinstance(item, bytes) else len(item.payload) + len(item.content.encode())


def _ignore(reply: Any, error: Exception | None) -> None:
    """The outcome of a write that is repeated anyway when it was lost."""
