"""The archive as JSON Lines: what `imesh export` writes and `imesh import` reads.

    {"imesh": "export", "format": 1, "dataset": "…", "made": "2026-11-29T03:30:18Z", "rows": {"messages": 2}}
    {"table": "messages", "session": "SC_ann_ben", "seq": 1795923029985876, …, "payload": {"from": "ann", …}, …}
    …
    {"imesh": "end", "rows": {"messages": 2}}

The rows are those of one instant, table by table, each in the order of its primary key. msgpack is written as what it
holds where that gives the same bytes again, any other bytes as base64 under a name that ends in `_base64`. What is
derived from other columns or tables is left out, and made again by the import.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO, NamedTuple

import msgspec
import peewee
import pymysql.cursors

from store import entries
from store.archive import dataset, messages, things
from store.archive.database import MYSQL, kind_of, writing
from store.archive.models import DERIVED, MODELS, Dataset, Message
from store.archive.things import TABLES, THINGS
from store.entries import Entry
from store.errors import StoreRefused

FORMAT = 1
BATCH = 1000
"""Rows that are read, written and told of at once."""
_MESSAGE_COLUMNS = ("session", *Entry._fields, "sender", "operator")
_BASE64 = "_base64"
_encode = msgspec.json.Encoder().encode

Counts = dict[str, int]
"""Rows by table."""


class Selection(NamedTuple):
    """What to export: tables (none: all), and of the messages those of a session (""; all), stored from `since` to
    before `until` (µs; 0: no limit)."""

    tables: tuple[str, ...] = ()
    session: str = ""
    since: int = 0
    until: int = 0


_WRONG = (
    LookupError, ValueError, TypeError, OverflowError, AttributeError, struct.error, msgspec.MsgspecError,
)  # fmt: skip
"""What a row that is none raises."""


class BadLine(Exception):
    """A line that cannot be imported, and why."""


def names() -> list[str]:
    """The tables that are exported."""
    return [model._meta.table_name for model in _models(())]


def _models(tables: Sequence[str]) -> list[Any]:
    models = [*(model for model in MODELS if model not in DERIVED), *THINGS]
    return [model for model in models if not tables or model._meta.table_name in tables]


# ---- out


def export(
    db: peewee.Database, chosen: Selection, brought: Sequence[tuple[str, bytes]], write: Callable[[bytes], object],
    tell: Callable[[Counts, Counts], None],
) -> Counts:  # fmt: skip
    """Write lines; `tell(done, all)` after each batch. Returns how many rows there were.

    `brought`: keys of Redis that a backup has beside the tables (`store/archive/carried.py`).
    """
    with _snapshot(db):
        total = {}
        for model in _models(chosen.tables):
            where, args = _where(db, model, chosen)
            counted = db.execute_sql(f"SELECT COUNT(*) FROM {model._meta.table_name}{where}", args).fetchone()
            total[model._meta.table_name] = int(counted[0])
        if brought:
            total["carried"] += len(brought)
        write(_encode(_head(db, total)) + b"\n")
        done = dict.fromkeys(total, 0)
        for model in _models(chosen.tables):
            for lines in _lines(db, model, chosen):
                write(b"".join(lines))
                done[model._meta.table_name] += len(lines)
                tell(done, total)
        for row in brought:
            write(_line("carried", ("name", "dump"), row))
            done["carried"] += 1
        write(_encode({"imesh": "end", "rows": done}) + b"\n")
    return done


def _head(db: peewee.Database, total: Counts) -> dict[str, Any]:
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    head: dict[str, Any] = {"imesh": "export", "format": FORMAT, "made": made, "dataset": "", "shards": 0}
    for row in Dataset.select().execute(db):
        head |= {"dataset": row.id, "shards": row.shards}
    return {**head, "rows": total}


@contextmanager
def _snapshot(db: peewee.Database) -> Iterator[None]:
    """All reads see the archive of one instant, and hold up nobody who writes."""
    if kind_of(db) == MYSQL:
        db.execute_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        db.execute_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    else:
        db.execute_sql("BEGIN")
    try:
        yield
    finally:
        db.execute_sql("ROLLBACK")


def _where(db: peewee.Database, model: Any, chosen: Selection) -> tuple[str, list[Any]]:
    if model is not Message:
        return "", []
    found = [
        (f"{column} {db.param}", value)
        for column, value in (("session =", chosen.session), ("seq >=", chosen.since), ("seq <", chosen.until))
        if value
    ]
    return (" WHERE " + " AND ".join(text for text, _ in found) if found else ""), [value for _, value in found]


def _lines(db: peewee.Database, model: Any, chosen: Selection) -> Iterator[list[bytes]]:
    """The lines of a table, in batches. The rows are streamed: there may be more than fit into memory."""
    table = model._meta.table_name
    columns = _MESSAGE_COLUMNS if model is Message else tuple(field.column_name for field in model._meta.sorted_fields)
    keys = ", ".join(field.column_name for field in model._meta.get_primary_keys())
    where, args = _where(db, model, chosen)
    connection = db.connection()
    cursor = connection.cursor(pymysql.cursors.SSCursor) if kind_of(db) == MYSQL else connection.cursor()
    try:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {table}{where} ORDER BY {keys}", args)
        while rows := cursor.fetchmany(BATCH):
            yield [_line(table, columns, row) for row in rows]
    finally:
        cursor.close()


def _line(table: str, columns: Sequence[str], row: Sequence[Any]) -> bytes:
    line: dict[str, Any] = {"table": table}
    for column, value in zip(columns, row, strict=True):
        if isinstance(value, bytes | memoryview):
            name, readable = _readable(column, bytes(value))
            line[name] = readable
        else:
            line[column] = value
    return _encode(line) + b"\n"


def _readable(column: str, value: bytes) -> tuple[str, Any]:
    """Name and value of bytes in JSON."""
    try:
        held = msgspec.msgpack.decode(value)
        text = _encode(held)
        if msgspec.msgpack.encode(json.loads(text)) == value:
            return column, msgspec.Raw(text)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
        pass
    return column + _BASE64, b64encode(value).decode()


# ---- in


def read(source: BinaryIO) -> tuple[dict[str, Any], Iterator[tuple[int, dict[str, Any]]]]:
    """The head of an export, and its rows with the numbers of their lines. Raises `BadLine`, also without an end."""
    head = _parsed(1, source.readline())
    if head.get("imesh") != "export":
        raise BadLine("line 1: this is no export of imesh")
    if head.get("format") != FORMAT:
        raise BadLine(f"line 1: format {head.get('format')}, this version reads {FORMAT}")
    return head, _rows(source)


def _rows(source: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 1
    for number, text in enumerate(source, 2):
        row = _parsed(number, text)
        if row.get("imesh") == "end":
            return
        yield number, row
    raise BadLine(f"line {number}: the end is missing: the export is not complete")


def _parsed(number: int, text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadLine(f"line {number}: no JSON object")
    return found


def adopt(db: peewee.Database, head: dict[str, Any]) -> None:
    """Make a new archive one of the data of an export. Raises `StoreRefused` for one that belongs to others."""
    here, theirs = dataset.read(db), head["dataset"]
    if here and theirs and here != theirs:
        raise StoreRefused(
            f"this archive belongs to other data ({here}) than the export ({theirs}): import into an empty one"
        )
    if theirs and not here:
        dataset.write(db, theirs, head["shards"])


def load(db: peewee.Database, rows: Sequence[tuple[int, dict[str, Any]]]) -> Counts:
    """Write rows in one transaction; returns how many of each table. Harmless when repeated: of two revisions of a
    message, and of two versions of a thing, the later one stays, any other row replaces the one with its key. Raises
    `BadLine`, and then wrote nothing.
    """
    models = {model._meta.table_name: model for model in _models(())}
    found: dict[str, list[Any]] = {}
    for number, row in rows:
        table = str(row.get("table"))
        if table not in models:
            raise BadLine(f"line {number}: no table {table!r}")
        try:
            values = _message(row) if table == "messages" else _values(models[table], row)
        except _WRONG as error:
            raise BadLine(f"line {number}: {type(error).__name__}: {error}") from None
        found.setdefault(table, []).append(values)
    with writing(db):
        for table, written in found.items():
            if table == "messages":
                messages.put(db, written)
            elif table in TABLES:
                things.put_rows(db, table, written)
            else:
                columns = list(written[0])
                marks = ", ".join([db.param] * len(columns))
                sql = f"REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
                db.cursor().executemany(sql, [tuple(row.values()) for row in written])
    return {table: len(written) for table, written in found.items()}


def _bytes(row: dict[str, Any], column: str) -> bytes:
    if column + _BASE64 in row:
        return b64decode(row[column + _BASE64], validate=True)
    return msgspec.msgpack.encode(row[column])


def _message(row: dict[str, Any]) -> messages.Row:
    payload = _bytes(row, "payload")
    entry = Entry._make(payload if name == "payload" else row[name] for name in Entry._fields)
    return messages.row_of(row["session"], entries.build(entry), row["operator"])


def _values(model: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {
        (name := field.column_name): _bytes(row, name) if isinstance(field, peewee.BlobField) else row[name]
        for field in model._meta.sorted_fields
    }


def empty(db: peewee.Database) -> bool:
    """Whether nothing is in the archive yet."""
    return not any(model.select().limit(1).count(db) for model in _models(()))


def check(tables: Sequence[str]) -> None:
    """Raise `StoreRefused` when there is no such table."""
    for table in tables:
        if table not in names():
            raise StoreRefused(f"no table {table!r}; there are: {', '.join(names())}")
