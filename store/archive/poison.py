"""Rows of the log that cannot be written: set aside, so that those behind them can be, and to be looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import peewee

from store.archive.models import Poison
from store.log import Row

ERROR_CHARACTERS = 1000


def put(db: peewee.Database, rows: Sequence[tuple[Row, Exception]]) -> None:
    """Set rows aside, with what was wrong. Harmless when repeated."""
    clock = int(time.time() * 1000)
    for row, error in rows:
        aside = {
            "tag": row.tag, "entry": row.name, "time": clock, "fields": msgspec.msgpack.encode(row.fields),
            "error": f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS],
        }  # fmt: skip
        Poison.insert(aside).on_conflict_replace().execute(db)


def newest(db: peewee.Database, count: int) -> list[tuple[str, str, int, str]]:
    """tag, id, time (ms) and error of those set aside last."""
    query = Poison.select().order_by(Poison.time.desc()).limit(count)
    return [(row.tag, row.entry, row.time, row.error) for row in query.execute(db)]


def count(db: peewee.Database) -> int:
    """How many there are."""
    found: int = Poison.select(peewee.fn.COUNT(1)).scalar(db)
    return found
