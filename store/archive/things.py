"""What is archived beside messages (`store/marks.py`): a table for each kind, and the newest state of each thing in it.

`version` is the time (µs) of the state by the store's clock, `gone` says that the thing is no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import peewee

from store.archive.database import MYSQL, kind_of
from store.archive.models import ID_LENGTH, SESSION_LENGTH, AsciiField, Model
from store.marks import State, Values


class Thing(Model):
    """Base of the tables of things."""

    version = peewee.BigIntegerField()
    gone = peewee.IntegerField()


class TextField(peewee.TextField):
    """A text of any length."""


class User(Thing):
    """An account."""

    user = AsciiField(max_length=ID_LENGTH)
    password = TextField(default="")
    created = peewee.BigIntegerField(default=0)
    disabled = peewee.IntegerField(default=0)
    not_before = peewee.BigIntegerField(default=0)
    request = TextField(default="")

    class Meta:
        table_name = "users"
        primary_key = peewee.CompositeKey("user")


class Profile(Thing):
    """How a user shows himself."""

    user = AsciiField(max_length=ID_LENGTH)
    name = TextField(default="")
    avatar = TextField(default="")
    mobile = TextField(default="")
    birthday = peewee.BigIntegerField(default=0)

    class Meta:
        table_name = "profiles"
        primary_key = peewee.CompositeKey("user")


class Friend(Thing):
    """A friendship, as one of the two sees it; `stamp` is 0 when it is over."""

    user = AsciiField(max_length=ID_LENGTH)
    friend = AsciiField(max_length=ID_LENGTH)
    stamp = peewee.BigIntegerField(default=0)
    relation = peewee.BigIntegerField(default=0)
    """Version of the friendship (`store/friends.py`)."""

    class Meta:
        table_name = "friends"
        primary_key = peewee.CompositeKey("user", "friend")


class Block(Thing):
    """`user` has blocked `blocked`."""

    user = AsciiField(max_length=ID_LENGTH)
    blocked = AsciiField(max_length=ID_LENGTH)

    class Meta:
        table_name = "blocks"
        primary_key = peewee.CompositeKey("user", "blocked")


class Request(Thing):
    """`asker` wants to be a friend of `user`."""

    user = AsciiField(max_length=ID_LENGTH)
    asker = AsciiField(max_length=ID_LENGTH)
    stamp = peewee.BigIntegerField(default=0)

    class Meta:
        table_name = "requests"
        primary_key = peewee.CompositeKey("user", "asker")


class Attribute(Thing):
    """An attribute that a user keeps about another ("a") or about a session ("s")."""

    user = AsciiField(max_length=ID_LENGTH)
    about = AsciiField(max_length=ID_LENGTH)
    subject = AsciiField(max_length=SESSION_LENGTH)
    name = peewee.CharField(max_length=255)
    value = TextField(default="")

    class Meta:
        table_name = "attributes"
        primary_key = peewee.CompositeKey("user", "about", "subject", "name")


class UserGroup(Thing):
    """A group in the list of a user, since `stamp`."""

    user = AsciiField(max_length=ID_LENGTH)
    group_id = AsciiField(max_length=ID_LENGTH)
    stamp = peewee.BigIntegerField(default=0)

    class Meta:
        table_name = "user_groups"
        primary_key = peewee.CompositeKey("user", "group_id")


class Tokens(Thing):
    """Where pushes for a user go: msgpack array of the fields and values of his key `k`."""

    user = AsciiField(max_length=ID_LENGTH)
    fields = peewee.BlobField(default=b"")

    class Meta:
        table_name = "tokens"
        primary_key = peewee.CompositeKey("user")


class ChatGroup(Thing):
    """A group."""

    group_id = AsciiField(max_length=ID_LENGTH)
    name = TextField(default="")
    avatar = TextField(default="")
    owner = TextField(default="")
    about = TextField(default="")
    size_limit = peewee.BigIntegerField(default=0)
    mode = peewee.IntegerField(default=0)
    created = peewee.BigIntegerField(default=0)
    updated = peewee.BigIntegerField(default=0)
    members_version = peewee.BigIntegerField(default=0)
    handed = TextField(default="")

    class Meta:
        table_name = "chat_groups"
        primary_key = peewee.CompositeKey("group_id")


class Member(Thing):
    """A member of a group, and the newest message when he joined. Those of a group that is gone count no more."""

    group_id = AsciiField(max_length=ID_LENGTH)
    user = AsciiField(max_length=ID_LENGTH)
    joined = peewee.BigIntegerField(default=0)

    class Meta:
        table_name = "members"
        primary_key = peewee.CompositeKey("group_id", "user")


class Position(Thing):
    """Up to where a user said that he has read a session. What he sent since counts, too."""

    session = AsciiField(max_length=SESSION_LENGTH)
    user = AsciiField(max_length=ID_LENGTH)
    seq = peewee.BigIntegerField(default=0)
    n = peewee.BigIntegerField(default=0)

    class Meta:
        table_name = "positions"
        primary_key = peewee.CompositeKey("session", "user")


class Queued(Thing):
    """An item of the queue of what a user, or the members of a group, must not miss."""

    owner = AsciiField(max_length=ID_LENGTH)
    digest = AsciiField(max_length=ID_LENGTH)
    stamp = peewee.BigIntegerField(default=0)
    item = peewee.BlobField(default=b"")

    class Meta:
        table_name = "queues"
        primary_key = peewee.CompositeKey("owner", "digest")


THINGS: tuple[type[Thing], ...] = (
    User, Profile, Friend, Block, Request, Attribute, UserGroup, Tokens, ChatGroup, Member, Position, Queued,
)  # fmt: skip
TABLES = {model._meta.table_name: model for model in THINGS}


def put(db: peewee.Database, states: Sequence[State]) -> None:
    """Write states in one transaction. Harmless when repeated, in any order: the newest stays."""
    by_kind: dict[str, list[State]] = {}
    for state in sorted(states):
        by_kind.setdefault(state.kind, []).append(state)
    with db.atomic():
        for kind, some in by_kind.items():
            db.cursor().executemany(_upsert(kind, kind_of(db)), [_row(state) for state in some])


def put_rows(db: peewee.Database, kind: str, rows: Sequence[dict[str, Any]]) -> None:
    """The same of rows as the table has them, by column. In the transaction of the caller."""
    ids, fields = _columns(kind)
    names = [*ids, *(f.name for f in fields), "version", "gone"]
    db.cursor().executemany(_upsert(kind, kind_of(db)), [tuple(row[name] for name in names) for row in rows])


def _columns(kind: str) -> tuple[list[str], list[peewee.Field]]:
    """Names of the columns of the key, and the fields of the others but version and gone."""
    meta: Any = TABLES[kind]._meta
    ids = list(meta.primary_key.field_names)
    return ids, [f for f in meta.sorted_fields if f.name not in (*ids, "version", "gone")]


def _row(state: State) -> Values:
    values = state.values
    if values is None:
        values = tuple(field.default for field in _columns(state.kind)[1])
    return (*state.ids, *values, state.version, int(state.values is None))


def _upsert(kind: str, database: str) -> str:
    ids, fields = _columns(kind)
    changing = [*(f.name for f in fields), "gone", "version"]
    columns = ", ".join([*ids, *(f.name for f in fields), "version", "gone"])
    count = len(ids) + len(changing)
    if database == MYSQL:
        marks = ", ".join(["%s"] * count)
        sets = ", ".join(f"{c} = IF(VALUES(version) >= version, VALUES({c}), {c})" for c in changing)
        return f"INSERT INTO {kind} ({columns}) VALUES ({marks}) ON DUPLICATE KEY UPDATE {sets}"
    marks = ", ".join("?" * count)
    sets = ", ".join(f"{c} = excluded.{c}" for c in changing)
    return (
        f"INSERT INTO {kind} ({columns}) VALUES ({marks}) ON CONFLICT ({', '.join(ids)}) DO UPDATE SET {sets} "
        f"WHERE excluded.version >= {kind}.version"
    )


def every(db: peewee.Database, kind: str) -> Iterator[tuple[tuple[str, ...], Values]]:
    """All things of a kind that are not gone: ids and values."""
    ids, fields = _columns(kind)
    columns = ", ".join([*ids, *(f.name for f in fields)])
    for row in db.execute_sql(f"SELECT {columns} FROM {kind} WHERE gone = 0"):
        yield tuple(row[: len(ids)]), tuple(row[len(ids) :])
