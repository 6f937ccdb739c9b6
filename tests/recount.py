"""Statistics counted again, from the messages: nothing here goes through the code that keeps the rollups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import peewee

Rollups = dict[tuple[int, int, int, str], tuple[int, int, int, int, int]]
COLUMNS = "kind, span, start, subject, messages, revoked, overridden, deleted, users"


def recount(db: peewee.Database) -> tuple[Rollups, dict[str, int]]:
    """Rollups and first hours of senders, as the messages in the archive make them."""
    return _count(db.execute_sql("SELECT session, seq, type, sender, state FROM messages").fetchall())


def kept(db: peewee.Database) -> tuple[Rollups, dict[str, int]]:
    """The same, as they are kept."""
    rows = db.execute_sql(f"SELECT {COLUMNS} FROM rollups").fetchall()
    senders = db.execute_sql("SELECT sender, first FROM senders").fetchall()
    return {tuple(row[:4]): tuple(row[4:]) for row in rows}, dict(senders)


def _count(messages: Iterable[tuple[str, int, int, str, int]]) -> tuple[Rollups, dict[str, int]]:
    numbers: defaultdict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    users: defaultdict[Any, set[str]] = defaultdict(set)
    first: dict[str, int] = {}
    for session, seq, kind, sender, state in messages:
        for span in (3600, 86400):
            start = seq // (span * 1_000_000) * span
            places = [(0, span, start, ""), (1, span, start, str(kind))]
            if kind != 16:
                places.append((2, span, start, sender))
                users[span, start].add(sender)
            if session.startswith("GC_"):
                places.append((3, span, start, session))
                users[span, start, session].add(sender)
                numbers[4, span, start, f"{sender} {session}"][0] += 1
            for place in places:
                for i, one in enumerate((1, state & 1, state >> 1 & 1, state >> 2 & 1)):
                    numbers[place][i] += one
        if kind != 16:
            hour = seq // 3_600_000_000 * 3600
            first[sender] = min(hour, first.get(sender, hour))
    rollups = {}
    for place, n in numbers.items():
        who = users[place[1:3]] if place[0] == 0 else users[place[1:]] if place[0] == 3 else ()
        rollups[place] = (*n, len(who))
    return rollups, first  # type: ignore[return-value]


def differences(db: peewee.Database) -> list[str]:
    """What is kept otherwise than it should be."""
    found = []
    for should, have in zip(recount(db), kept(db), strict=True):
        assert isinstance(should, dict) and isinstance(have, dict)
        wrong = [key for key in {*should, *have} if should.get(key) != have.get(key)]
        found += [f"{key}: {have.get(key)} instead of {should.get(key)}" for key in wrong]
    return sorted(found)[:20]
