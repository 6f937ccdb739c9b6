"""What the rollups say, and what processes report of their own counters.

Times are seconds since the epoch; `since` and `until` (not included) are multiples of the span.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import peewee

from store.archive.database import MYSQL, kind_of, writing
from store.archive.rollups import Kind

STARTS_AT_ONCE = 500
"""Buckets asked for by one statement."""

Numbers = tuple[int, int, int, int, int]
"""messages, revoked, overridden, deleted, users"""
By = dict[int, "Counter[str]"]
"""Numbers by bucket and name."""


def series(db: peewee.Database, kind: Kind, name: str, span: int, starts: Sequence[int]) -> dict[int, Numbers]:
    """The rollups of one name, by start; buckets without any are not there."""
    found: dict[int, Numbers] = {}
    for i in range(0, len(starts), STARTS_AT_ONCE):
        some = starts[i : i + STARTS_AT_ONCE]
        sql = (
            "SELECT start, messages, revoked, overridden, deleted, users FROM rollups "
            f"WHERE kind = {kind:d} AND span = {span} AND start IN ({', '.join(map(str, some))}) "
            f"AND subject = {db.param}"
        )
        for start, *numbers in db.execute_sql(sql, (name,)).fetchall():
            found[start] = tuple(numbers)
    return found


def by_type(db: peewee.Database, span: int, since: int, until: int) -> By:
    """Messages of each type (its number as a text)."""
    sql = f"SELECT start, subject, messages FROM rollups WHERE {_range(Kind.TYPE, span, since, until)}"
    found: By = defaultdict(Counter)
    for start, name, messages in db.execute_sql(sql).fetchall():
        found[start][name] += messages
    return found


def in_groups(db: peewee.Database, user: str, span: int, since: int, until: int) -> Counter[int]:
    """How many of a user's messages were in groups, by start."""
    sql = (
        f"SELECT start, SUM(messages) FROM rollups WHERE {_range(Kind.PART, span, since, until)} "
        f"AND subject > {db.param} AND subject < {db.param} GROUP BY start"
    )  # no id has a blank, or a character as low as "!"
    return Counter({start: int(n) for start, n in db.execute_sql(sql, (f"{user} ", f"{user}!")).fetchall()})


def active(db: peewee.Database, span: int, since: int, until: int) -> int:
    """Users that sent anything, each once."""
    sql = f"SELECT COUNT(DISTINCT subject) FROM rollups WHERE {_range(Kind.USER, span, since, until)} AND messages > 0"
    found: int = db.execute_sql(sql).fetchone()[0]
    return found


def top(db: peewee.Database, kind: Kind, span: int, since: int, until: int, count: int) -> list[tuple[str, int]]:
    """Who sent, or had, the most messages, with their number."""
    sql = (
        f"SELECT subject, SUM(messages) AS total FROM rollups WHERE {_range(kind, span, since, until)} "
        f"GROUP BY subject ORDER BY total DESC, subject LIMIT {count}"
    )
    return [(name, int(total)) for name, total in db.execute_sql(sql).fetchall()]


def new_users(db: peewee.Database, span: int, since: int, until: int) -> Counter[int]:
    """Users that sent their first message, by start."""
    sql = f"SELECT first, COUNT(1) FROM senders WHERE first >= {since} AND first < {until} GROUP BY first"
    found: Counter[int] = Counter()
    for hour, number in db.execute_sql(sql).fetchall():
        found[hour // span * span] += number
    return found


def outcomes(db: peewee.Database, span: int, since: int, until: int) -> By:
    """What was reported: numbers by start and name."""
    where = f"hour >= {since} AND hour < {until}"
    sql = f"SELECT hour, outcome, SUM(total) FROM outcomes WHERE {where} GROUP BY hour, outcome"
    found: By = defaultdict(Counter)
    for hour, name, total in db.execute_sql(sql).fetchall():
        found[hour // span * span][name] += int(total)
    return found


def report(db: peewee.Database, source: str, totals: Sequence[tuple[int, str, int]]) -> None:
    """What one life of a process has counted so far, as (hour, name, total). A total only grows, so what is reported
    twice, or late, counts once."""
    if kind_of(db) == MYSQL:
        rest = "ON DUPLICATE KEY UPDATE total = GREATEST(total, VALUES(total))"
    else:
        rest = "ON CONFLICT (hour, source, outcome) DO UPDATE SET total = MAX(total, excluded.total)"
    sql = f"INSERT INTO outcomes (hour, source, outcome, total) VALUES ({', '.join([db.param] * 4)}) {rest}"
    with writing(db):
        db.cursor().executemany(sql, sorted((hour, source, name, total) for hour, name, total in totals))


def _range(kind: Kind, span: int, since: int, until: int) -> str:
    return f"kind = {kind:d} AND span = {span} AND start >= {since} AND start < {until}"
