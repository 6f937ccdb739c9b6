"""The log: every stored row, in one stream per shard, read by several groups of consumers, each at its own pace.

    consumer = store.consumer(PUSH, process.name)      # the name stays the same over restarts
    consumer.open()                                    # once, in a greenlet; so are all calls here
    while True:
        rows = consumer.read(1000)                     # about so many, of all shards; [] when there is nothing
        handle(rows)                                   # to the end: what is durable is durable now
        consumer.ack(rows)                             # or `release`, and they come again later
        if not rows:
            gevent.sleep(0.1)
    consumer.trim()                                    # about every second; returns how far the groups are

What a consumer may rely on:
- **Every row comes at least once.** A row that was read and not acknowledged comes again, with those that share it in
  Redis: to the same consumer when it starts again, to any consumer of the group once it lay for `idle` seconds (whoever
  held it is taken for dead). So handling a row twice must do no harm.
- Rows of one shard come in the order in which they were stored, but for those that come again. Two consumers of a group
  share the shards' rows, and then there is no order at all: go by `Entry.revision`, where the higher one is right.
- Nothing is cut before every group has done it, or, but for `ARCHIVE`, is further behind than `[store] log_seconds`
  (`Progress.passed` counts what was passed over). A group that is new starts at what the log holds, with `start="$"`
  at what comes from then on.

What is noted for other systems (`Noter`, `happened.lua`) is in the log of the shard of its key, a session or a user,
behind what was stored before it: fields `h` key, `t` type, `i` id, `d` data. `noted_of` reads it.

A row of a message has the fields `s` session, `e` entry (`store/entries.py`), and when it was changed, `o` who changed
it: `message_of` reads it, and returns None for rows that tell of something else. Messages of a shard that were stored
together share a row in Redis, up to 8 (`commit.lua`): `m` session, `e` entry, `e` entry, `s` session, `e` entry ... A
consumer makes a row of each, its `part` counted from 0; in Redis they are acknowledged when all of them are.

Positions are kept by Redis: rows given out are pending until they are acknowledged (XREADGROUP, XACK), and the log is
cut with XTRIM MINID at the oldest row that some group has not done, never with XDEL.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from mesh.loop import now
from store import entries
from store.away import Away
from store.client import Call, Client
from store.entries import Entry
from store.errors import StoreError, StoreRefused
from store.keys import Keys
from store.scripts import LOG_OPEN, LOG_TRIM, Script

ARCHIVE, PUSH, HOOKS = "archive", "push", "hooks"
"""The groups. ARCHIVE is never passed over."""
IDLE_SECONDS = 60.0
"""How long a row may lie with a consumer until others of its group take it."""
CLAIM_SECONDS = 5.0
"""How often a consumer looks for such rows."""
NEW = ">"
LOG = ":log"
"""What the key of a shard's log has behind its tag."""
CLAIM_ROWS = 200
"""Rows of one shard taken over at once."""


_new = tuple.__new__
NOTED = b"h"
"""First field of rows that are notes."""


SEVERAL = b"m"
"""First field of rows in Redis that hold several messages."""


class Row(NamedTuple):
    """A row of the log of the shard `tag`. `fields`: names and values alternately. Those of one id differ in `part`."""

    tag: str
    id: bytes
    fields: Sequence[bytes]
    part: int = 0

    @property
    def name(self) -> str:
        """What no other row of the shard is called."""
        return f"{self.id.decode()}-{self.part}" if self.part else self.id.decode()

    @property
    def stored(self) -> int:
        """When it was stored, ms since the epoch, by the store's clock."""
        return int(self.id.partition(b"-")[0])


class Message(NamedTuple):
    """What the row of a message says. `operator`: who changed it, "" for a new one."""

    session: str
    entry: Entry
    operator: str


class Progress(NamedTuple):
    """How far a group is, in all shards, in rows of Redis: given out and not acknowledged, seconds since the oldest
    one that it has not done was stored (0: there is none), those that it was passed over by this look."""

    pending: int
    lag: float
    passed: int


class State(NamedTuple):
    """The log after it was cut: its rows, as Redis has them, and the groups by name."""

    length: int
    groups: dict[str, Progress]


def _by_shard(rows: Iterable[Row]) -> dict[str, dict[bytes, int]]:
    """The ids of rows by their tags, and of each a bit for each part."""
    found: defaultdict[str, dict[bytes, int]] = defaultdict(dict)
    for tag, row, _, part in rows:
        ids = found[tag]
        ids[row] = ids.get(row, 0) | 1 << part
    return found


def rows_of(tag: str, row: bytes, fields: Sequence[bytes]) -> list[Row]:
    """The rows of one in Redis."""
    if fields[0] != SEVERAL:
        return [_new(Row, (tag, row, fields, 0))]
    rows: list[Row] = []
    session = b""
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"e":
            rows.append(_new(Row, (tag, row, (b"s", session, b"e", value), len(rows))))
        else:
            session = value
    return rows or [_new(Row, (tag, row, fields, 0))]


def message_of(row: Row) -> Message | None:
    """The message that a row tells of, None when it tells of something else."""
    fields = row.fields
    if fields[0] != b"s":
        return None
    operator = fields[5].decode() if len(fields) > 4 else ""
    return Message(fields[1].decode(), entries.parse(fields[3]), operator)


class Noted(NamedTuple):
    """What a node noted for other systems. Notes of one `key` keep their order; a repeated one has the same `id`."""

    key: str
    type: str
    id: str
    data: bytes


def noted_of(row: Row) -> Noted | None:
    """The note that a row is, None when it is something else."""
    fields = row.fields
    if fields[0] != NOTED:
        return None
    return Noted(fields[1].decode(), fields[3].decode(), fields[5].decode(), fields[7])


class Noter:
    """Adds notes to the logs; where a script does what they tell of, it does so itself (`happened.lua`)."""

    def __init__(self, redis: Client, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def of_user(self, noted: Noted) -> None:
        """Add one whose key is a user. In a greenlet. Raises `StoreError`."""
        fields = (NOTED, noted.key, "t", noted.type, "i", noted.id, "d", noted.data)
        self._redis.ask("XADD", f"{self._keys.user_tag(noted.key)}:log", "*", *fields)


class Consumer:
    """One consumer of a group. All methods block their greenlet and raise `StoreError`; one greenlet uses it."""

    def __init__(
        self, redis: Client, tags: Sequence[str], group: str, name: str, *, keep_seconds: float,
        idle: float = IDLE_SECONDS,
    ) -> None:  # fmt: skip
        self.group = group
        self.remade = 0
        """Shards in which the group had to be made again: their log was lost, with whatever was in it."""
        self._redis = redis
        self._tags = list(tags)
        self._name = name
        self._keep_ms = int(keep_seconds * 1000)
        self._idle_ms = int(idle * 1000)
        self._held: defaultdict[str, dict[bytes, int]] = defaultdict(dict)  # given out: tag -> id -> parts not done
        self._done: defaultdict[str, set[bytes]] = defaultdict(set)  # all parts are done, and Redis may not know it
        self._left: dict[str, str] = {}  # where rows may be given out to us that we have not: tag -> id that is read
        self._claim_at = 0.0  # when to look for rows of dead consumers
        self._away = Away()
        self._reconnects = 0
        self._archived = group == ARCHIVE  # there is an archive: a log that it does not know is not cut
        self._first = 0  # the shard to begin with: a busy one must not starve those behind it

    def open(self, start: str = "0") -> int:
        """Make the group where it is missing, from what the log holds on ("$": from what comes now on).

        Returns the number of shards in which it is new. What an earlier life of this consumer left is read first.
        """
        made: int = sum(self._run(LOG_OPEN, (self.group, start), self._tags))
        self._left = dict.fromkeys(self._tags, "0")
        self._claim_at = now() + CLAIM_SECONDS
        return made

    def read(self, count: int) -> list[Row]:
        """Rows, of at most `count` in Redis: what was given out and did not arrive or was left by an earlier life, what
        dead consumers left, then new ones: with less than `count` of these there are no more now."""
        try:
            reconnects = sum(server.reconnects for server in self._redis.servers())
            if reconnects != self._reconnects:  # what was under way ran once more: the first reply may have had rows
                self._reconnects = reconnects
                self._left = dict.fromkeys(self._tags, "0")
            return self._next(count)
        except StoreError:
            self._left = dict.fromkeys(self._tags, "0")  # the reply that was lost may have had rows
            raise

    def _next(self, count: int) -> list[Row]:
        if self._left:
            rows = self._read_left(count)
            if rows:
                return rows
        if now() >= self._claim_at:
            self._claim_at = now() + CLAIM_SECONDS
            rows = self._claim()
            if rows:
                return rows
        tags = self._tags[self._first :] + self._tags[: self._first]
        self._first = (self._first + count) % len(self._tags)  # where not all can be asked, all have their turn
        return self._take(self._read(dict.fromkeys(tags, NEW), count))

    def ack(self, rows: Iterable[Row]) -> None:
        """These are done. Harmless when repeated. What a call could not say because it raised, the next one says, too.
        Those of a server, one of a Cluster, that does not answer come again, with those that share their ids."""
        for tag, ids in _by_shard(rows).items():
            held = self._held[tag]
            for row, parts in ids.items():
                if row in held:
                    held[row] &= ~parts
                    if not held[row]:
                        self._done[tag].add(row)
        self._redis.ask_each([("XACK", tag + LOG, self.group, *ids) for tag, ids in self._done.items()])
        done, self._done = self._done, defaultdict(set)
        self._hold_no_more(done)

    def release(self, rows: Iterable[Row]) -> None:
        """These are not done: they come again when they have lain for `idle` seconds, to whichever consumer, with
        those that share their ids."""
        self._hold_no_more(_by_shard(rows))

    def take_back(self, rows: Iterable[Row]) -> None:
        """These are not done: the next `read` begins with them, and those that share their ids."""
        by_shard = _by_shard(rows)
        self._hold_no_more(by_shard)
        self._left.update(dict.fromkeys(by_shard, "0"))

    def trim(self) -> State:
        """Cut what all groups have done; how far they are."""
        length = 0
        pending: dict[str, int] = {}
        passed: dict[str, int] = {}
        oldest: dict[str, int] = {}
        sure = int(self._archived)
        for reply in self._run(LOG_TRIM, (ARCHIVE, sure, self._keep_ms), self._tags):
            length += reply[0]
            fields = iter(reply[2:])
            for name, waiting, ms, over in zip(fields, fields, fields, fields, strict=True):
                group = name.decode()
                pending[group] = pending.get(group, 0) + waiting
                passed[group] = passed.get(group, 0) + over
                if ms:
                    oldest[group] = min(oldest.get(group, int(ms)), int(ms))
        self._archived |= ARCHIVE in pending
        clock = time.time()
        lags = {group: max(0.001, clock - ms / 1000) for group, ms in oldest.items()}
        return State(length, {g: Progress(n, lags.get(g, 0.0), passed[g]) for g, n in pending.items()})

    # ---- inside

    def _take(self, rows: list[Row]) -> list[Row]:
        for tag, ids in _by_shard(rows).items():
            self._held[tag].update(ids)
        return rows

    def _hold_no_more(self, by_shard: Mapping[str, Iterable[bytes]]) -> None:
        for tag, ids in by_shard.items():
            held = self._held[tag]
            for row in ids:
                held.pop(row, None)

    def _read(self, starts: dict[str, str], count: int) -> list[Row]:
        """Rows behind `starts`, the same number of each shard first, then more of those that have more."""
        rows: list[Row] = []
        tags = [tag for part in self._parts(list(starts)) for tag in part]
        while tags and len(rows) < count:
            left = count - len(rows)
            asked, tags = tags[:left], tags[left:]
            share = left // len(asked)
            parts = self._parts(asked)
            try:
                replies = self._redis.ask_each([self._reading(starts, part, share) for part in parts])
            except StoreRefused as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self.remade += sum(self._run(LOG_OPEN, (self.group, "0"), self._tags))
                self._left = dict.fromkeys(self._tags, "0")  # other parts gave us theirs
                break
            for name, found in chain.from_iterable(reply or () for _, reply in self._reached(parts, replies)):
                tag = name[: -len(LOG)].decode()
                for row, values in found:
                    if values:
                        rows += rows_of(tag, row, values)
                if len(found) == share and starts[tag] == NEW:
                    tags.append(tag)
        return rows

    def _reading(self, starts: dict[str, str], tags: Sequence[str], count: int) -> tuple[Any, ...]:
        """The command. It gives `count` rows of each stream; as a script, Lua would copy each field once more."""
        ids = [starts[tag] for tag in tags]
        keys = [tag + LOG for tag in tags]
        return ("XREADGROUP", "GROUP", self.group, self._name, "COUNT", count, "STREAMS", *keys, *ids)

    def _read_left(self, count: int) -> list[Row]:
        """What was given out to us and never came, or was not acknowledged by an earlier life."""
        while self._left:
            left = self._left
            rows = self._read(left, count)
            if self._left is not left:
                continue  # a group was made again: all is left anew
            ends = {row.tag: row.id.decode() for row in rows}
            if len(rows) < count:  # all shards were asked: those that gave nothing have no more
                self._left = {tag: "0" for tag in self._left if tag in ends or tag in self._away}
            self._left.update(ends)
            fresh = [row for row in rows if row.id not in self._held[row.tag]]
            if fresh:
                return self._take(fresh)
            if not rows:
                break
        return []

    def _claim(self) -> list[Row]:
        """Rows that lie too long with whoever holds them; those that this consumer still works on stay out."""
        tags = [tag for part in self._parts(self._tags) for tag in part]
        commands = [
            ("XAUTOCLAIM", tag + LOG, self.group, self._name, self._idle_ms, "0", "COUNT", CLAIM_ROWS)
            for tag in tags
        ]
        rows = []
        for tag, reply in zip(tags, self._redis.ask_all(commands), strict=True):
            rows += [row for found in reply[1] if found and found[1] for row in rows_of(tag, found[0], found[1])]
        return self._take([row for row in rows if row.id not in self._held[row.tag]])

    def _run(self, script: Script, common: Sequence[Any], tags: Sequence[str]) -> list[Any]:
        """Replies of a script whose last arguments are tags."""
        parts = self._parts(tags)
        return [reply for _, reply in self._each(parts, lambda part: (script, (part[0] + LOG,), (*common, *part)))]

    def _parts(self, tags: Sequence[str]) -> list[Sequence[str]]:
        """The tags as they may be given to one script, but for those that were out of reach a moment ago."""
        return [part for part in self._redis.parts(tags, str) if part[0] not in self._away]

    def _each(
        self, parts: Sequence[Sequence[str]], call: Callable[[Sequence[str]], Call]
    ) -> Iterator[tuple[Sequence[str], Any]]:
        """Run a script on all parts at once; each part that could be reached, and the reply."""
        return self._reached(parts, self._redis.run_each([call(part) for part in parts]))

    def _reached(
        self, parts: Sequence[Sequence[str]], replies: Sequence[Any]
    ) -> Iterator[tuple[Sequence[str], Any]]:
        """Each part that could be reached, and the reply. Others are left alone for a while."""
        for part, reply in zip(parts, replies, strict=True):
            if isinstance(reply, Exception):
                self._away.note(part)
                self._left.update(dict.fromkeys(part, "0"))
            else:
                yield part, reply
