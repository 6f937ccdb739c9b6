"""What the tables of the archive hold. How they are made is in `migrations.py`; a test compares the two.

Ids and packIds are ASCII and compared byte by byte, texts are UTF-8 (utf8mb4). Numbers are those of `store/entries.py`.
"""

from __future__ import annotations

from typing import Any

import peewee

SESSION_LENGTH = 140
"""Of the longest session id: two users of 64, a prefix and separators, rounded up."""
ID_LENGTH = 64


class AsciiField(peewee.CharField):
    """An id."""


class Model(peewee.Model):
    """Base of the tables. They are bound to a database for each query, since a process has several."""


class Message(Model):
    """A stored message as it is now: the archive's copy of an entry (`store/entries.py`)."""

    session = AsciiField(max_length=SESSION_LENGTH)
    seq = peewee.BigIntegerField()
    prev = peewee.BigIntegerField()
    n = peewee.BigIntegerField()
    type = peewee.IntegerField()
    flags = peewee.IntegerField()
    sender = AsciiField(max_length=ID_LENGTH)
    pack_id = AsciiField(max_length=ID_LENGTH)
    known_by = peewee.BigIntegerField()
    """Day and digest of session, sender and packId (`messages.known_by`): repeats are found by it, and the messages of
    a day: it is `day << 48` or more."""
    payload = peewee.BlobField()
    state = peewee.IntegerField()
    revision = peewee.IntegerField()
    changed = peewee.BigIntegerField()
    content: Any = peewee.TextField()
    operator = AsciiField(max_length=ID_LENGTH)
    """Who changed it last, "" while it is as it was sent."""

    class Meta:
        table_name = "messages"
        primary_key = peewee.CompositeKey("session", "seq")


class Poison(Model):
    """A row of the log that could not be written, set aside so that those behind it could."""

    tag = AsciiField(max_length=ID_LENGTH)
    entry = AsciiField(max_length=ID_LENGTH)
    """Its name in the log of the shard `tag` (`store.log.Row.name`)."""
    time = peewee.BigIntegerField()
    """When it was set aside, ms."""
    error: Any = peewee.TextField()
    fields = peewee.BlobField()
    """msgpack array of the row's fields."""

    class Meta:
        table_name = "poison"
        primary_key = peewee.CompositeKey("tag", "entry")


class Migration(Model):
    """A migration that was made."""

    number = peewee.IntegerField(primary_key=True)
    name: Any = peewee.TextField()
    time = peewee.BigIntegerField()
    """ms"""

    class Meta:
        table_name = "migrations"


class Dataset(Model):
    """Whose archive this is: one row, with the id that Redis has too (`keys.DATASET`)."""

    id = AsciiField(max_length=ID_LENGTH, primary_key=True)
    shards = peewee.IntegerField()

    class Meta:
        table_name = "dataset"


class Unindexed(Model):
    """Messages that were written and that the search index does not know yet: one row per batch."""

    id = peewee.AutoField()
    places = peewee.BlobField()
    """msgpack: their sessions and seqIds."""

    class Meta:
        table_name = "unindexed"


class Fill(Model):
    """How far the search index is filled with messages that were there before it: one row, none when all are in."""

    id = peewee.IntegerField(primary_key=True)
    session = AsciiField(max_length=SESSION_LENGTH)
    seq = peewee.BigIntegerField()
    """The last one that is in, in the order of (session, seq)."""
    done = peewee.BigIntegerField()
    total = peewee.BigIntegerField()
    """How many there are, those that came later left out."""

    class Meta:
        table_name = "fill"


class Rollup(Model):
    """What was sent within an hour or a day, by one user, in one group, by one in another, of one type, or in all:
    kept by `rollups.py`."""

    kind = peewee.IntegerField()
    """What `subject` is: one of `rollups.Kind`."""
    span = peewee.IntegerField()
    """Seconds: an hour or a day."""
    start = peewee.BigIntegerField()
    """s since the epoch, a multiple of the span."""
    subject = AsciiField(max_length=SESSION_LENGTH)
    messages = peewee.BigIntegerField()
    revoked = peewee.BigIntegerField()
    overridden = peewee.BigIntegerField()
    deleted = peewee.BigIntegerField()
    """How many of the messages are so by now."""
    users = peewee.BigIntegerField()
    """Users that sent any, in the row of all and in those of groups; 0 in the others."""

    class Meta:
        table_name = "rollups"
        primary_key = peewee.CompositeKey("kind", "span", "start", "subject")


class Uncounted(Model):
    """What was written and is not in the rollups yet: one row per batch."""

    id = peewee.AutoField()
    tally = peewee.BlobField()
    """msgpack: what it adds, as (kind, start of the hour, column, number by subject)."""

    class Meta:
        table_name = "uncounted"


class Sender(Model):
    """A user, and the hour in which he sent his first message (s since the epoch)."""

    sender = AsciiField(max_length=ID_LENGTH, primary_key=True)
    first = peewee.BigIntegerField()

    class Meta:
        table_name = "senders"


class Outcome(Model):
    """What one life of a process counted of something within an hour."""

    hour = peewee.BigIntegerField()
    """s since the epoch."""
    source = AsciiField(max_length=ID_LENGTH)
    """Process and start id."""
    outcome = AsciiField(max_length=ID_LENGTH)
    total = peewee.BigIntegerField()

    class Meta:
        table_name = "outcomes"
        primary_key = peewee.CompositeKey("hour", "source", "outcome")


class Drained(Model):
    """How far an olap node was when it last looked: rows of the log that were not archived yet."""

    process = AsciiField(max_length=ID_LENGTH, primary_key=True)
    time = peewee.BigIntegerField()
    """ms"""
    waiting = peewee.BigIntegerField()

    class Meta:
        table_name = "drained"


class Carried(Model):
    """A key of Redis that no other table has, brought by a backup until a rebuild puts it back."""

    name = peewee.CharField(max_length=255, primary_key=True)
    dump = peewee.BlobField()
    """As DUMP gave it."""

    class Meta:
        table_name = "carried"


MODELS = (Message, Poison, Migration, Dataset, Unindexed, Fill, Rollup, Uncounted, Sender, Outcome, Drained, Carried)
DERIVED = (Migration, Dataset, Unindexed, Fill, Rollup, Uncounted, Sender, Drained)
"""Tables that no export has: they tell of the database, or are made again from the others."""
