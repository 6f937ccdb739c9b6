"""Messages that are kept for a while only: taken out of the archive in small steps, oldest first."""

from __future__ import annotations

from typing import NamedTuple

import peewee

from store.archive import messages


class Step(NamedTuple):
    """How far it is: all messages up to `seq` were looked at; whether there are more; how many were deleted."""

    seq: int
    more: bool
    deleted: int


def expire(db: peewee.Database, prefix: str, after: int, before: int, count: int) -> Step:
    """Delete messages of the sessions whose ids begin with `prefix`, stored after `after` and before `before` (µs).

    Looks at about `count` messages, in the order in which they were stored, and deletes in one transaction.
    """
    between = f"seq > {db.param} AND seq < {db.param}"
    edge = db.execute_sql(
        f"SELECT seq FROM messages WHERE {between} ORDER BY seq LIMIT 1 OFFSET {count - 1}", (after, before)
    ).fetchone()
    last = edge[0] if edge else before - 1
    found = db.execute_sql(f"SELECT session, seq FROM messages WHERE {between}", (after, last + 1)).fetchall()
    places = [(session, seq) for session, seq in found if session.startswith(prefix)]
    if places:
        messages.remove(db, places)
    return Step(last, edge is not None, len(places))
