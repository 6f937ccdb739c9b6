"""Messages in the archive: written in batches below the ORM (4 times cheaper), read in pages.

A write is harmless when repeated, in any order: of two rows of a message the one with the higher revision stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import peewee
import pymysql

from store import entries
from store.archive import rollups, unindexed
from store.archive.database import MYSQL, kind_of, writing
from store.archive.models import Message
from store.archive.rollups import Sent
from store.entries import DELETED, REVOKED, Entry
from store.keys import dedup_field

DIGEST_BITS = 48
US_PER_DAY = 86_400_000_000
DAYS_AT_ONCE = 200
PAGE_BYTES = 1_000_000
"""Of a page: it fits a message of the mesh."""
REVOKED_OR_DELETED = REVOKED | DELETED
CHANGING = ("payload", "state", "revision", "changed", "content", "operator")
"""What differs between the revisions of a message."""
COLUMNS = tuple(Message._meta.sorted_field_names)
ENTRY_COLUMNS = "seq, prev, n, type, flags, pack_id, payload, state, revision, changed, content"
_REVISION = COLUMNS.index("revision")
_place = itemgetter(0, 1)
_counted: Callable[[Row], Sent] = itemgetter(*map(COLUMNS.index, ("session", "seq", "type", "sender", "state")))

Row = tuple[Any, ...]
"""The columns of a message, in the order of the model."""
Place = tuple[str, int]
Known = dict[Place, tuple[int, int]]
"""State and revision of messages that are there, by session and seqId."""
DUPLICATES = (sqlite3.IntegrityError, pymysql.IntegrityError)
"""What an INSERT raises of rows that are there, among other things."""
PLACES_AT_ONCE = 100
"""Messages looked up by one statement."""


class _Said(msgspec.Struct):
    """What of a payload is looked at here."""

    sender: str = msgspec.field(name="from", default="")


_said = msgspec.msgpack.Decoder(_Said).decode


class Found(NamedTuple):
    """A message that was stored before: its numbers, and whether it is still as it was sent. A deleted one has lost its
    payload."""

    seq: int
    prev: int
    changed: bool
    deleted: bool
    flags: int
    payload: bytes


def known_by(seq: int, session: str, sender: str, pack_id: str) -> int:
    """What a repeat is found by. The day comes first, so that new rows lie together in the index, however many there
    are: an index of digests alone is written all over."""
    digest = int.from_bytes(dedup_field(session, sender, pack_id)[: DIGEST_BITS // 8], "big")
    return (seq // US_PER_DAY) << DIGEST_BITS | digest


def row_of(session: str, entry: bytes, operator: str) -> Row:
    """The row of an entry, as it lies in the log. Raises an exception of msgspec or struct when it is none."""
    seq, prev, n, kind, flags, pack_id, payload, *changes = entries.parse(entry)
    sender = _said(payload).sender
    known = known_by(seq, session, sender, pack_id)
    return (session, seq, prev, n, kind, flags, sender, pack_id, known, payload, *changes, operator)


def put(db: peewee.Database, rows: Sequence[Row], fresh: unindexed.Fresh | None = None) -> None:
    """Write rows, and note them for the rollups and the search index, in one transaction. `fresh` keeps them for the
    index.

    An INSERT that works proves its rows new, so usually nothing has to be looked up. When it does not work, or a row is
    a later revision, what is there is read, and locked, first. Rows are sorted, so that two writers do not lock each
    other out.
    """
    rows = sorted(rows, key=_place)
    if len({_place(row) for row in rows}) < len(rows):
        rows = _newest(rows)
    doubtful: Sequence[Place] = [_place(row) for row in rows if row[_REVISION]]
    every: Sequence[Place] = ()
    there: Known = {}
    while True:
        known = len(there)
        try:
            with writing(db):
                there = _known(db, doubtful)
                written = _write(db, rows, there)
                noted = unindexed.note(db, list(map(_place, written)))
            if fresh is not None and written:
                fresh.keep(noted, written)
            return
        except DUPLICATES:
            if every and len(there) == known:
                raise  # it is no duplicate that is in the way
            doubtful = every = list(map(_place, rows))


def _newest(rows: Iterable[Row]) -> list[Row]:
    """Of rows of the same message the one with the highest revision, the last one of equal ones; in their order."""
    newest: dict[Any, Row] = {}
    for row in rows:
        place = _place(row)
        if place not in newest or row[_REVISION] >= newest[place][_REVISION]:
            newest[place] = row
    return list(newest.values())


def remove(db: peewee.Database, places: Sequence[tuple[str, int]]) -> None:
    """Delete the rows of (session, seqId) in one transaction: nothing of them is left."""
    with db.atomic():
        where = f"session = {db.param} AND seq = {db.param}"
        db.cursor().executemany(f"DELETE FROM messages WHERE {where}", sorted(places))
        unindexed.note(db, places)


def _known(db: peewee.Database, places: Sequence[Place]) -> Known:
    """State and revision of the messages that are there, locked until the transaction ends."""
    found: Known = {}
    lock = " FOR UPDATE" if kind_of(db) == MYSQL else ""
    for i in range(0, len(places), PLACES_AT_ONCE):
        some = places[i : i + PLACES_AT_ONCE]
        where = " OR ".join([f"(session = {db.param} AND seq = {db.param})"] * len(some))
        sql = f"SELECT session, seq, state, revision FROM messages WHERE {where}{lock}"
        for session, seq, state, revision in db.execute_sql(sql, [part for place in some for part in place]).fetchall():
            found[session, seq] = state, revision
    return found


def _write(db: peewee.Database, rows: Sequence[Row], there: Known) -> Sequence[Row]:
    """Insert the rows that are not there, replace those of a lower revision, count both; returns both."""
    new = rows
    later: list[Row] = []
    if there:
        new = [row for row in rows if _place(row) not in there]
        later = [row for row in rows if _place(row) in there and row[_REVISION] > there[_place(row)][1]]
    columns, marks = ", ".join(COLUMNS), ", ".join([db.param] * len(COLUMNS))
    insert = f"INSERT INTO messages ({columns}) VALUES ({marks})"
    if new:
        db.cursor().executemany(insert, new)
    if later:
        db.cursor().executemany(f"{insert} {_replacing(kind_of(db))}", later)
    rollups.note(db, list(map(_counted, new)), [(_counted(row), there[_place(row)][0]) for row in later])
    return [*new, *later] if later else new


def _replacing(kind: str) -> str:
    if kind == MYSQL:
        return "ON DUPLICATE KEY UPDATE " + ", ".join(f"{c} = VALUES({c})" for c in CHANGING)
    return "ON CONFLICT (session, seq) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in CHANGING)


def page(db: peewee.Database, session: str, below: int, count: int, size: int = PAGE_BYTES) -> list[bytes]:
    """Entries with seqId <= `below`, newest first, at most `count`, without deleted ones; not more, but for the first,
    than make up `size` bytes."""
    where = f"session = {db.param} AND seq <= {db.param} AND state & {DELETED} = 0"
    found = _entries(db, f"WHERE {where} ORDER BY seq DESC LIMIT {db.param}", (session, below, count))
    sizes = accumulate(map(len, found))
    return [entry for entry, total in zip(found, sizes, strict=True) if total <= size] or found[:1]


def newest(db: peewee.Database, session: str, count: int) -> list[bytes]:
    """The newest entries, deleted ones too, newest first."""
    return _entries(db, f"WHERE session = {db.param} ORDER BY seq DESC LIMIT {db.param}", (session, count))


def greatest(db: peewee.Database, session: str, seq: int) -> tuple[int, int]:
    """seqId and n of the newest message up to `seq`, deleted ones included; zeros when there is none."""
    sql = f"SELECT seq, n FROM messages WHERE session = {db.param} AND seq <= {db.param} ORDER BY seq DESC LIMIT 1"
    found = db.execute_sql(sql, (session, seq)).fetchone()
    return tuple(found) if found else (0, 0)


def get(db: peewee.Database, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
    """The entry of each (session, seqId), tombstones included; None where there is none."""
    found = []
    for session, seq in wanted:
        rows = _entries(db, f"WHERE session = {db.param} AND seq = {db.param}", (session, seq))
        found.append(rows[0] if rows else None)
    return found


def find(db: peewee.Database, session: str, sender: str, pack_id: str, today: int) -> Found | None:
    """The message that `sender` stored in `session` with this packId, up to the day of `today` (µs)."""
    first = db.execute_sql(f"SELECT MIN(seq) FROM messages WHERE session = {db.param}", (session,)).fetchone()[0]
    if first is None:
        return None
    days = range(today // US_PER_DAY, first // US_PER_DAY - 1, -1)
    digest = known_by(0, session, sender, pack_id)
    for i in range(0, len(days), DAYS_AT_ONCE):
        some = days[i : i + DAYS_AT_ONCE]
        marks = ", ".join([db.param] * len(some))
        sql = (
            "SELECT seq, prev, state, flags, payload FROM messages "
            f"WHERE known_by IN ({marks}) AND session = {db.param} AND sender = {db.param} AND pack_id = {db.param}"
        )
        args = [day << DIGEST_BITS | digest for day in some]
        row = db.execute_sql(sql, (*args, session, sender, pack_id)).fetchone()
        if row is not None:
            return Found(row[0], row[1], row[2] != 0, bool(row[2] & DELETED), row[3], bytes(row[4]))
    return None


def _entries(db: peewee.Database, rest: str, args: Iterable[Any]) -> list[bytes]:
    rows = db.execute_sql(f"SELECT {ENTRY_COLUMNS} FROM messages {rest}", args).fetchall()
    return [entries.build(Entry(*row)) for row in rows]
