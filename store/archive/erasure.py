"""What the archive knows of a user who is erased: where he appears, and what is counted of him."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import peewee

from store.archive.database import writing
from store.archive.models import Message
from store.archive.rollups import Kind
from store.entries import DELETED

OWN = ("attributes", "blocks", "profiles", "requests", "tokens", "user_groups")
"""Tables of things that are a user's own."""
START = ("", 0)
"""The place before all messages."""


class Sent(NamedTuple):
    """A message: where it lies, its sender (an app's id for a notice), and whether it is deleted."""

    session: str
    seq: int
    type: int
    sender: str
    pack_id: str
    deleted: bool


class Traces(NamedTuple):
    """Where others' data name a user: who has blocked him, whom he asks to be his friend, the groups that he is in, the
    sessions in which he has said up to where he read."""

    blockers: list[str]
    asked: list[str]
    groups: list[str]
    read: list[str]


def traces(db: peewee.Database, user: str) -> Traces:
    """Reads all of four tables: no index knows this side of them."""
    where = (("user", "blocks", "blocked"), ("user", "requests", "asker"), ("group_id", "members", "user"),
             ("session", "positions", "user"))  # fmt: skip
    found = []
    for column, table, named in where:
        sql = f"SELECT {column} FROM {table} WHERE {named} = {db.param} AND gone = 0"
        found.append([row[0] for row in db.execute_sql(sql, (user,)).fetchall()])
    return Traces(*found)


def page(db: peewee.Database, place: tuple[str, int], count: int) -> Sequence[Sent]:
    """The next `count` messages of all, behind a place, in the order of session and seqId."""
    at, above = place
    columns = Message.select(
        Message.session, Message.seq, Message.type, Message.sender, Message.pack_id, Message.state
    ).tuples()
    same = columns.where((Message.session == at) & (Message.seq > above)).order_by(Message.seq)
    found = list(same.limit(count).execute(db))
    if len(found) < count:
        others = columns.where(Message.session > at).order_by(Message.session, Message.seq)
        found += others.limit(count - len(found)).execute(db)
    return [
        Sent(session, seq, kind, sender, pack_id, bool(state & DELETED))
        for session, seq, kind, sender, pack_id, state in found
    ]


def total(db: peewee.Database) -> int:
    """How many messages there are."""
    found: int = Message.select(peewee.fn.COUNT(1)).scalar(db)
    return found


def forget(db: peewee.Database, user: str) -> None:
    """Remove what is counted of him alone (what he sent stays in the sums of all), and the rows that only say that
    something of his is no more: their keys tell names. All that the log holds of him must have come before."""
    with writing(db):
        db.execute_sql(f"DELETE FROM rollups WHERE kind = {Kind.USER:d} AND subject = {db.param}", (user,))
        between = f"subject > {db.param} AND subject < {db.param}"
        db.execute_sql(f"DELETE FROM rollups WHERE kind = {Kind.PART:d} AND {between}", (f"{user} ", f"{user}!"))
        db.execute_sql(f"DELETE FROM senders WHERE sender = {db.param}", (user,))
        for table in OWN:
            db.execute_sql(f"DELETE FROM {table} WHERE user = {db.param} AND gone = 1", (user,))
        db.execute_sql(f"DELETE FROM queues WHERE owner = {db.param} AND gone = 1", (user,))
