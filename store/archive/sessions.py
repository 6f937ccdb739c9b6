"""What a rebuild reads of the archive beside things: the sessions, and what was not archived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import peewee

from store.archive import messages
from store.archive.models import Drained
from store.settings import LEAST


class Waiting(NamedTuple):
    """What a drain had not archived when it last looked (ms): lost, if Redis was emptied after that."""

    process: str
    time: int
    rows: int


def undrained(db: peewee.Database) -> list[Waiting]:
    """What each olap node said last of the rows that were not archived yet."""
    return [Waiting(row.process, row.time, row.waiting) for row in Drained.select().execute(db)]


def heads(db: peewee.Database) -> list[tuple[str, int, int]]:
    """session, newest seqId, n of each session."""
    return [tuple(row) for row in db.execute_sql("SELECT session, MAX(seq), MAX(n) FROM messages GROUP BY session")]


def newest(db: peewee.Database, sessions: Sequence[str]) -> list[list[bytes]]:
    """The newest entries of each session, deleted ones too, newest first."""
    return [messages.newest(db, session, LEAST) for session in sessions]


def sent(db: peewee.Database) -> list[tuple[Any, ...]]:
    """session, sender, seqId and n of what each sender sent last."""
    sql = "SELECT session, sender, MAX(seq), MAX(n) FROM messages GROUP BY session, sender"
    return list(db.execute_sql(sql))


def gone(db: peewee.Database) -> list[tuple[str, int]]:
    """Countable messages that were revoked or deleted."""
    sql = f"SELECT session, seq FROM messages WHERE state & {messages.REVOKED_OR_DELETED} <> 0 AND flags & 4 <> 0"
    return list(db.execute_sql(sql))
