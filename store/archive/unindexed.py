"""Messages that the search index does not know yet: what was written since, and what was there before it.

`messages.put` notes what it writes in its own transaction, one row per batch, so a crash loses none. What this process
wrote itself lies in `Fresh` until then, and is not read back. What was there before the index, or before `restart`, is
filled in by and by, in the order of its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import peewee

from store.archive.models import Fill, Message, Unindexed

BATCHES, MOST = 50, 1000
FRESH_MAX = 10_000
"""Messages kept in memory, 8 MB; with more the index is far behind anyway."""
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
        self._rows: dict[bytes, Sequence[Row]] = {}
        self._count = 0

    def keep(self, noted: bytes, rows: Sequence[Row]) -> None:
        """These rows were written and noted."""
        self.take(noted)
        if self._count + len(rows) > FRESH_MAX:
            self._rows.clear()
            self._count = 0
        self._rows[noted] = rows
        self._count += len(rows)

    def take(self, noted: bytes) -> Sequence[Row] | None:
        """The rows of a batch, once; None when they are not here."""
        rows = self._rows.pop(noted, None)
        self._count -= len(rows or ())
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
    """These messages were written; in the transaction that writes them. Returns what is noted."""
    noted: bytes = _encode(places)
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
            places += _decode(batch.places)
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
