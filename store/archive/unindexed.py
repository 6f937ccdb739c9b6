"""Messages that the search index does not know yet: what was written since, and what was there before it.

`messages.put` notes what it writes in its own transaction, one row per batch, so a crash loses none. What this process
wrote itself lies in `Fresh` until then, and is not read back. What was there before the index, or before `restart`, is
filled in by and by, in the order of its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from random import SystemRandom
from typing import Any, NamedTuple

import msgspec
import peewee

from store.archive.models import Fill, Message, Unindexed

BATCHES, MOST = 50, 1000
FRESH_BYTES = 48 << 20
"""Of messages kept in memory; with more the index is far behind anyway."""
ROW_BYTES = 600
"""What a message takes beside its payload."""
_PAYLOAD = tuple(Message._meta.sorted_field_names).index("payload")
_random = SystemRandom()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, int]]).decode

_place = itemgetter(0, 1)

Place = tuple[str, int]
"""Session and seqId of a message."""
Row = tuple[Any, ...]
"""A message: the columns of its model (`messages.Row`)."""


class Fresh:
    """What this process wrote and the index does not know yet, by what was noted of each batch. One thread uses it."""

    def __init__(self) -> None:
        self._rows: dict[bytes, tuple[Sequence[Row], int]] = {}  # and their size; oldest first
        self._size = 0

    def keep(self, noted: bytes, rows: Sequence[Row]) -> None:
        """These rows were written and noted. The oldest ones go when it is too much."""
        size = sum(len(row[_PAYLOAD]) for row in rows) + ROW_BYTES * len(rows)
        self._rows[noted] = rows, size
        self._size += size
        while self._size > FRESH_BYTES:
            self.take(next(iter(self._rows)))

    def take(self, noted: bytes) -> Sequence[Row] | None:
        """The rows of a batch, once; None when they are not here."""
        rows, size = self._rows.pop(noted, (None, 0))
        self._size -= size
        return rows


class Noted(NamedTuple):
    """Batches that wait: their ids, their messages, and these themselves, None when they must be read."""

    numbers: list[int]
    places: list[Place]
    rows: list[Row] | None


class Filling(NamedTuple):
    """So many of `total` messages that were there before the index are in it. `session`, `seq`: the last of them."""

    session: str
    seq: int
    done: int
    total: int


def note(db: peewee.Database, places: Sequence[Place]) -> bytes:
    """These messages were written; in the transaction that writes them. Returns what is noted: no other note is like
    it, for there is a number in front that was drawn at random, as a place without a session."""
    noted: bytes = _encode([("", _random.getrandbits(63)), *places])
    if places:
        Unindexed.insert({"places": noted}).execute(db)
    return noted


def oldest(db: peewee.Database, fresh: Fresh) -> Noted:
    """The batches that were noted first, about `MOST` messages."""
    numbers: list[int] = []
    places: list[Place] = []
    rows: list[Row] | None = []
    for batch in Unindexed.select().order_by(Unindexed.id).limit(BATCHES).execute(db):
        numbers.append(batch.id)
        found = fresh.take(bytes(batch.places))
        if found is None:
            rows = None
            places += [place for place in _decode(batch.places) if place[0]]
        else:
            places += map(_place, found)
            if rows is not None:
                rows += found
        if len(places) >= MOST:
            break
    return Noted(numbers, list(dict.fromkeys(places)), rows)


def forget(db: peewee.Database, numbers: Sequence[int]) -> None:
    """These batches are in the index; in the transaction that wrote it."""
    Unindexed.delete().where(Unindexed.id.in_(numbers)).execute(db)


def pass_over(db: peewee.Database) -> None:
    """Index nothing, and everything when that is wanted again."""
    with db.atomic():
        Unindexed.delete().execute(db)
        now = filling(db)
        if now is None or now.done:
            restart(db)


def count(db: peewee.Database) -> int:
    """Batches that wait."""
    found: int = Unindexed.select(peewee.fn.COUNT(1)).scalar(db)
    return found


# ---- what was there before


def filling(db: peewee.Database) -> Filling | None:
    """How far the index is filled; None when all is in."""
    row = next(iter(Fill.select().limit(1).execute(db)), None)
    return Filling(row.session, row.seq, row.done, row.total) if row is not None else None


def after(db: peewee.Database, session: str, seq: int, most: int) -> list[Place]:
    """The messages that come next."""
    places = Message.select(Message.session, Message.seq).tuples()
    same = places.where((Message.session == session) & (Message.seq > seq)).order_by(Message.seq)
    found = list(same.limit(most).execute(db))
    if len(found) < most:
        others = places.where(Message.session > session).order_by(Message.session, Message.seq)
        found += others.limit(most - len(found)).execute(db)
    return found


def filled(db: peewee.Database, found: Filling | None) -> None:
    """The index is filled so far; None: all is in. In the transaction that wrote it."""
    if found is None:
        Fill.delete().execute(db)
    else:
        Fill.update(session=found.session, seq=found.seq, done=found.done).execute(db)


def restart(db: peewee.Database) -> None:
    """Have the index made again for all messages, while it is in use."""
    total = Message.select(peewee.fn.COUNT(1)).scalar(db)
    with db.atomic():
        Fill.delete().execute(db)
        if total:
            Fill.insert({"id": 1, "session": "", "seq": 0, "done": 0, "total": total}).execute(db)
