"""Whose archive this is: the id that Redis has, too (`store.keys.DATASET`)."""

from __future__ import annotations

import time

import peewee

from store.archive.models import Dataset, Drained, Message


def read(db: peewee.Database) -> str:
    """The id, "" for a new archive."""
    found = Dataset.select().limit(1).execute(db)
    return next((row.id for row in found), "")


def write(db: peewee.Database, id: str, shards: int) -> None:
    """Mark a new archive. Harmless when repeated."""
    Dataset.insert({"id": id, "shards": shards}).on_conflict_replace().execute(db)


def has_messages(db: peewee.Database) -> bool:
    """Whether there is anything to restore."""
    return bool(next(iter(Message.select(Message.seq).limit(1).tuples().execute(db)), None))


def note_drained(db: peewee.Database, process: str, waiting: int) -> None:
    """Note how many rows of the log are not archived yet, so that a rebuild can tell."""
    row = {"process": process, "time": int(time.time() * 1000), "waiting": waiting}
    Drained.insert(row).on_conflict_replace().execute(db)
