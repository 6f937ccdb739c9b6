"""Messages that are kept for a while only: taken out of the archive in small steps, oldest first."""

from __future__ import annotations

from typing import NamedTuple

import peewee

from store.archive import messages


class Step(NamedTuple):
    """How far it is: all messages up to the position `at` were looked at; whether there are more; how many of them were
    deleted."""

    at: int
    more: bool
    deleted: int


def start_of(day: int) -> int:
    """The position before the messages of a day (since the epoch)."""
    return (day << messages.DIGEST_BITS) - 1


def expire(db: peewee.Database, prefix: str, at: int, before: int, count: int) -> Step:
    """Delete messages of the sessions whose ids begin with `prefix`, stored before `before` (µs), from a position on.

    Looks at about `count` messages, day by day, and deletes in one transaction. A position is a value of `known_by`,
    whose index knows the days.
    """
    end = start_of(before // messages.US_PER_DAY + 1)
    between = f"known_by > {db.param} AND known_by <= {db.param}"
    edge = db.execute_sql(
        f"SELECT known_by FROM messages WHERE {between} ORDER BY known_by LIMIT 1 OFFSET {count - 1}", (at, end)
    ).fetchone()
    last = edge[0] if edge else end
    found = db.execute_sql(f"SELECT session, seq FROM messages WHERE {between}", (at, last)).fetchall()
    places = [(session, seq) for session, seq in found if seq < before and session.startswith(prefix)]
    if places:
        messages.remove(db, places)
    return Step(last, edge is not None, len(places))
