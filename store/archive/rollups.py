"""Rollups: what was sent per hour and day, counted once for each message, and so exact.

A message counts once, in the buckets of the moment it was stored (its seqId) and under the type, sender and group that
it has; that it was revoked, overridden or deleted since counts in the same buckets. Buckets are of UTC. Whoever writes
messages says which are new and what the others were before (`messages.put`); nothing here looks at a message twice.

What a batch adds is noted in one row, in the transaction that writes its messages (`note`). A moment later the notes of
many batches are added to the rollups and deleted, in another one (`fold`): the rows of a hundred thousand users lie all
over their table, and a batch of a thousand messages that touched them wrote more pages than rows.

A fold is one statement per bucket, kind and column, with a row per name. The rows of all (`Kind.ALL`) are written
first: each bucket has one, so of several writers the second waits there until the first has committed, none of them
locks another one out further on, and what is read behind it stays so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

import msgspec
import peewee

from store.archive.database import MYSQL, kind_of, unhurried, writing
from store.archive.models import Uncounted
from store.entries import DELETED, OVERRIDDEN, REVOKED
from store.keys import GROUP_PREFIX

T = TypeVar("T")
HOUR, DAY = 3600, 86_400
"""Spans of the buckets, in seconds."""
US_PER_HOUR = HOUR * 1_000_000
NOTICE = 16
"""The type of messages whose sender is an app, and no user."""
MESSAGES, USERS = "messages", "users"
STATES = {"revoked": REVOKED, "overridden": OVERRIDDEN, "deleted": DELETED}
"""Columns that count messages in a state."""
NOTES_AT_ONCE = 50
"""Notes, of a batch each, that one fold takes: the drain waits for it."""
NAMES_AT_ONCE = 500
"""Names in one statement: PyMySQL makes one of many rows only when they are all parameters, which costs three times as
much as these."""


_encode = msgspec.msgpack.Encoder().encode


class Kind(IntEnum):
    """What a rollup is of; its `subject` is "", the number of a pack type, a user, a group, or "user group" for what a
    user sent in a group, of which `messages` are counted only."""

    ALL = 0
    TYPE = 1
    USER = 2
    GROUP = 3
    PART = 4


Sent = tuple[str, int, int, str, int]
"""A message, as far as it is counted: session, seqId, type, sender, state."""


class Bucket(NamedTuple):
    """Where something is counted. `span` and `start` (since the epoch) are in seconds."""

    kind: Kind
    span: int
    start: int
    column: str


_decode = msgspec.msgpack.Decoder(list[tuple[Kind, int, str, dict[str, int]]]).decode

Tally = Mapping[Bucket, Mapping[str, int]]
"""What is added to each name of a bucket."""


def note(db: peewee.Database, new: Sequence[Sent], later: Sequence[tuple[Sent, int]]) -> None:
    """These messages were written, `later` ones over what they were before, with the state in which they were counted;
    in the transaction that writes them."""
    if tally := _tally(new, later):
        noted = [(bucket.kind, bucket.start, bucket.column, names) for bucket, names in tally.items()]
        Uncounted.insert({"tally": _encode(noted)}).execute(db)


def fold(db: peewee.Database) -> bool:
    """Add what was noted first to the rollups, in one transaction; whether there is more."""
    with unhurried(db), writing(db):
        lock = " FOR UPDATE" if kind_of(db) == MYSQL else ""
        noted = db.execute_sql(f"SELECT id, tally FROM uncounted ORDER BY id LIMIT {NOTES_AT_ONCE}{lock}").fetchall()
        if noted:
            tally: defaultdict[Bucket, Counter[str]] = defaultdict(Counter)
            for _, written in noted:
                for kind, start, column, names in _decode(bytes(written)):
                    tally[Bucket(kind, HOUR, start, column)].update(names)
                    tally[Bucket(kind, DAY, start // DAY * DAY, column)].update(names)
            _add_all(db, tally)
            db.execute_sql(f"DELETE FROM uncounted WHERE id IN ({', '.join(str(number) for number, _ in noted)})")
    return len(noted) == NOTES_AT_ONCE


def _add_all(db: peewee.Database, tally: Tally) -> None:
    rest = []
    for bucket in sorted(tally):
        if bucket.kind == Kind.ALL:
            _add(db, bucket, tally[bucket])
        else:
            rest.append(bucket)
    _count_users(db, tally)
    for bucket in rest:
        _add(db, bucket, tally[bucket])


def _tally(new: Sequence[Sent], later: Sequence[tuple[Sent, int]]) -> Tally:
    """What messages add to the buckets of hours."""
    found: defaultdict[Bucket, Counter[str]] = defaultdict(Counter)
    _tally_column(found, MESSAGES, new, 1)
    changed = [(m, 0) for m in new if m[-1]] + [(m, before) for m, before in later if m[-1] != before]
    if changed:
        for column, bit in STATES.items():
            now = [m for m, before in changed if m[-1] & bit and not before & bit]
            no_more = [m for m, before in changed if before & bit and not m[-1] & bit]
            _tally_column(found, column, now, 1)
            _tally_column(found, column, no_more, -1)
    return found


def _tally_column(found: Mapping[Bucket, Counter[str]], column: str, messages: Sequence[Sent], times: int) -> None:
    for hour, some in _by_hour(messages):
        sessions, _, types, senders, _ = zip(*some, strict=True)
        by_type = Counter(types)
        users = [m[3] for m in some if m[2] != NOTICE] if NOTICE in by_type else senders
        groups = [session for session in sessions if session.startswith(GROUP_PREFIX)]
        parts = [f"{m[3]} {m[0]}" for m in some if m[0].startswith(GROUP_PREFIX)] if groups else []
        for kind, names in (
            (Kind.ALL, {"": len(some)}),
            (Kind.TYPE, {str(number): count for number, count in by_type.items()}),
            (Kind.USER, Counter(users)),
            (Kind.GROUP, Counter(groups)),
            (Kind.PART, Counter(parts) if column == MESSAGES else {}),
        ):
            if names:
                add = names if times == 1 else {name: times * n for name, n in names.items()}
                found[Bucket(kind, HOUR, hour, column)].update(add)


def _by_hour(messages: Iterable[Sent]) -> Iterator[tuple[int, list[Sent]]]:
    found: defaultdict[int, list[Sent]] = defaultdict(list)
    for message in messages:
        found[message[1] // US_PER_HOUR].append(message)
    for hour, some in found.items():
        yield hour * HOUR, some


def _count_users(db: peewee.Database, tally: Tally) -> None:
    """Count users in the buckets in which they have sent nothing before, of all and of groups."""
    first: dict[str, int] = {}
    for bucket, users in _newcomers(db, tally, Kind.USER):
        if users:
            _add(db, bucket._replace(kind=Kind.ALL, column=USERS), {"": len(users)})
        if bucket.span == HOUR:
            first.update(dict.fromkeys(users, bucket.start))
    if first:
        _note_senders(db, first)
    for bucket, parts in _newcomers(db, tally, Kind.PART):
        groups = Counter([part.partition(" ")[2] for part in parts])
        if groups:
            _add(db, bucket._replace(kind=Kind.GROUP, column=USERS), groups)


def _newcomers(db: peewee.Database, tally: Tally, kind: Kind) -> Iterator[tuple[Bucket, set[str]]]:
    """Who has sent nothing before in a bucket: the latest hour first, then days. Who has a row of an hour has one of
    its day, and is a known sender since that hour at the latest."""
    of_days: defaultdict[Bucket, set[str]] = defaultdict(set)
    for bucket in sorted(tally, reverse=True):
        if bucket[:2] == (kind, HOUR) and bucket.column == MESSAGES:
            new = _without_row(db, bucket, tally[bucket])
            of_days[bucket._replace(span=DAY, start=bucket.start // DAY * DAY)] |= new
            yield bucket, new
    for bucket, names in sorted(of_days.items()):
        yield bucket, _without_row(db, bucket, names)


def _without_row(db: peewee.Database, bucket: Bucket, names: Collection[str]) -> set[str]:
    found = set(names)
    for some in _parts(sorted(names), NAMES_AT_ONCE):
        sql = (
            f"SELECT subject FROM rollups WHERE kind = {bucket.kind:d} AND span = {bucket.span} "
            f"AND start = {bucket.start} AND subject IN ({', '.join([db.param] * len(some))})"
        )
        found.difference_update(name for (name,) in db.execute_sql(sql, some).fetchall())
    return found


def _add(db: peewee.Database, bucket: Bucket, names: Mapping[str, int]) -> None:
    kind, span, start, column = bucket
    if kind_of(db) == MYSQL:
        rest = f"ON DUPLICATE KEY UPDATE {column} = {column} + VALUES({column})"
    else:
        rest = f"ON CONFLICT (kind, span, start, subject) DO UPDATE SET {column} = {column} + excluded.{column}"
    for some in _parts(sorted(names.items()), NAMES_AT_ONCE):
        rows = ", ".join([f"({kind:d}, {span}, {start}, {db.param}, {db.param})"] * len(some))
        sql = f"INSERT INTO rollups (kind, span, start, subject, {column}) VALUES {rows} {rest}"
        db.execute_sql(sql, [value for item in some for value in item])


def _note_senders(db: peewee.Database, first: Mapping[str, int]) -> None:
    if kind_of(db) == MYSQL:
        rest = "ON DUPLICATE KEY UPDATE first = LEAST(first, VALUES(first))"
    else:
        rest = "ON CONFLICT (sender) DO UPDATE SET first = excluded.first WHERE excluded.first < first"
    for some in _parts(sorted(first.items()), NAMES_AT_ONCE):
        rows = ", ".join([f"({db.param}, {db.param})"] * len(some))
        sql = f"INSERT INTO senders (sender, first) VALUES {rows} {rest}"
        db.execute_sql(sql, [value for item in some for value in item])


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for i in range(0, len(items), size):
        yield items[i : i + size]
