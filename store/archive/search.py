"""The index of words: SQLite's FTS5 or a FULLTEXT key of MySQL, over a column `terms` that holds our own terms.

A term is a scope and a word, one token of [a-z0-9] for both engines. A scope (8 characters) is a user, for his single
chats and notices, or a group. So what is read for a search is what the caller may see, however common a word is among
all others, and no term is short or a stop word. MySQL reads all messages of a term before it sorts: there, terms have
three characters more for the time (25 days each), and a search goes from the newest of these spans to older ones.

The index knows messages by seqId; should several sessions have one of the same µs, they share a row with the terms of
all. What is found is a candidate: whoever asks looks at the message itself, which says whether it is so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import peewee

from store.archive import unindexed
from store.archive.database import MYSQL, kind_of, unhurried
from store.archive.messages import COLUMNS, DUPLICATES, ENTRY_COLUMNS, Row
from store.archive.unindexed import Filling, Place
from store.entries import Entry

SCOPE_LENGTH = 8
SPAN_BITS = 41
"""log2 of the µs that MySQL's terms tell apart: 25 days."""
DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
SPANNED_TERMS = 400
"""Terms of one word in a query of MySQL: each takes a few look-ups in the index."""
AT_ONCE = 300
"""Messages in one SELECT."""


class Elsewhere(Exception):
    """Another olap node indexes just now."""


class Terms(NamedTuple):
    """What a message is found by: each word in each scope. No words: by nothing."""

    scopes: tuple[str, ...]
    words: Collection[str]

    def text(self, span: str) -> str:
        """All terms, with what they say of the time."""
        return " ".join([f"{scope}{span}{f' {scope}{span}'.join(self.words)}" for scope in self.scopes])


class Wanted(NamedTuple):
    """A search: all `words` in one of the places, seqIds `low` to `high` (inclusive). A place is one scope, or several
    that a message must be in all of. A word may end with "*": one that begins so. `session`, `sender`: "" for any."""

    places: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    low: int
    high: int
    session: str
    sender: str


class Candidates(NamedTuple):
    """Messages, newest first, of so many `rows` of the index: of all with a seqId from `reach` up."""

    messages: list[tuple[str, Entry]]
    rows: int
    reach: int


TermsOf = Callable[[str, int, bytes, str], Terms]
"""What a message is found by: of its session, state, payload and content."""
Indexed = tuple[str, int, int, bytes, str]
"""Session, seqId, state, payload and content of a message."""
_COLUMNS = ("session", "seq", "state", "payload", "content")
_indexed: Callable[[Row], Indexed] = itemgetter(*map(COLUMNS.index, _COLUMNS))


# ---- writing


def index_noted(db: peewee.Database, terms_of: TermsOf, fresh: unindexed.Fresh) -> int:
    """Index what was noted first; returns how many messages, 0 when there is nothing. In one transaction. Raises
    `Elsewhere`."""
    with _in_turn(db):
        numbers, places, rows = unindexed.oldest(db, fresh)
        if numbers:
            found = _read(db, places) if rows is None else map(_indexed, rows)
            _index(db, places, list(found), terms_of)
            unindexed.forget(db, numbers)
    return len(places)


def fill(db: peewee.Database, terms_of: TermsOf, most: int) -> Filling | None:
    """Index the next of those that were there before; returns how far it is, None when all are in. In one transaction.
    Raises `Elsewhere`."""
    with _in_turn(db):
        now = unindexed.filling(db)
        if now is None:
            return None
        places = unindexed.after(db, now.session, now.seq, most)
        _index(db, places, list(_read(db, places)), terms_of)
        then = Filling(*places[-1], now.done + len(places), now.total) if places else None
        unindexed.filled(db, then)
        return then


@contextmanager
def _in_turn(db: peewee.Database) -> Iterator[None]:
    """A transaction of whoever indexes: of two, the one that read a message first might write it last. Raises
    `Elsewhere`."""
    if kind_of(db) != MYSQL:
        with unhurried(db), db.atomic("IMMEDIATE"):
            yield
        return
    (got,) = db.execute_sql("SELECT GET_LOCK('imesh search', 0)").fetchone()
    if got != 1:
        raise Elsewhere
    try:
        with db.atomic():
            yield
    finally:
        db.execute_sql("SELECT RELEASE_LOCK('imesh search')").fetchone()


def _index(db: peewee.Database, places: Sequence[Place], messages: Sequence[Indexed], terms_of: TermsOf) -> None:
    """Make the rows of these messages what the messages say now.

    Nearly always all are new: an INSERT that works proves it. Looking for their rows first would cost as much again.
    """
    if len({seq for _, seq, *_ in messages}) == len(messages) == len(places):
        spanned = kind_of(db) == MYSQL
        rows = []
        for session, seq, state, payload, content in messages:
            terms = terms_of(session, state, payload, content)
            if terms.words:
                rows.append((seq, terms.text(span_of(seq) if spanned else ""), session))
        if len(rows) == len(places) and _insert(db, rows):
            return
    _index_again(db, places, terms_of)


def _insert(db: peewee.Database, rows: Sequence[tuple[int, str, str]]) -> bool:
    """Whether there was no row with any of these seqIds. When there was, some may have been written."""
    try:
        _write(db, "INSERT", rows)
    except DUPLICATES:
        return False
    return True


def _write(db: peewee.Database, verb: str, rows: Iterable[tuple[int, str, str]]) -> None:
    """By seqId, ascending: FTS5 ends a segment whenever it gets a lower one."""
    key = "seq" if kind_of(db) == MYSQL else "rowid"
    marks = f"{db.param}, {db.param}, {db.param}"
    db.cursor().executemany(f"{verb} INTO search ({key}, terms, sessions) VALUES ({marks})", sorted(rows))


def _index_again(db: peewee.Database, places: Sequence[Place], terms_of: TermsOf) -> None:
    """The same where there may be rows already, perhaps of other sessions as well."""
    spanned = kind_of(db) == MYSQL
    key = "seq" if spanned else "rowid"
    numbers = sorted({seq for _, seq in places})
    wanted = {*places, *_sharing(db, key, numbers)}
    rows: dict[int, tuple[set[str], set[str]]] = {seq: (set(), set()) for seq in numbers}
    for session, seq, state, payload, content in _read(db, sorted(wanted)):
        found = terms_of(session, state, payload, content)
        if found.words:
            terms, sessions = rows[seq]
            sessions.add(session)
            terms.update(found.text(span_of(seq) if spanned else "").split())
    gone = [(seq,) for seq, (terms, _) in rows.items() if not terms]
    if gone:
        db.cursor().executemany(f"DELETE FROM search WHERE {key} = {db.param}", gone)
    kept = [(seq, " ".join(terms), " ".join(sessions)) for seq, (terms, sessions) in rows.items() if terms]
    if kept:
        _write(db, "REPLACE", kept)


def _sharing(db: peewee.Database, key: str, numbers: Sequence[int]) -> Iterator[Place]:
    """The messages that rows with these seqIds are of."""
    for i in range(0, len(numbers), AT_ONCE):
        some = numbers[i : i + AT_ONCE]
        marks = ", ".join([db.param] * len(some))
        found = db.execute_sql(f"SELECT {key}, sessions FROM search WHERE {key} IN ({marks})", some).fetchall()
        for seq, sessions in found:
            yield from ((session, seq) for session in sessions.split())


def span_of(seq: int) -> str:
    """What MySQL's terms say of the time."""
    number = seq >> SPAN_BITS
    return DIGITS[number >> 10 & 31] + DIGITS[number >> 5 & 31] + DIGITS[number & 31]


# ---- reading


def find(db: peewee.Database, wanted: Wanted, most: int, spans: int) -> Candidates:
    """Look at `most` rows of the index at most, and on MySQL at so many spans of time at most."""
    if kind_of(db) == MYSQL:
        rows, reach = _find_mysql(db, wanted, most, spans)
    else:
        rows, reach = _find_sqlite(db, wanted, most)
    places = [
        (session, seq) for seq, sessions in rows for session in sessions.split() if wanted.session in ("", session)
    ]  # fmt: skip
    found = sorted(_messages(db, places, wanted.sender), key=lambda row: (row[1].seq, row[0]), reverse=True)
    return Candidates(found, len(rows), reach)


Rows = list[tuple[int, str]]
"""seqId and sessions of rows of the index, newest first."""


def _find_sqlite(db: peewee.Database, wanted: Wanted, most: int) -> tuple[Rows, int]:
    words = [f'{word[:-1]}" *' if word.endswith("*") else f'{word}"' for word in wanted.words]
    match = " OR ".join(
        "(" + " AND ".join(f'"{scope}{word}' for scope in place for word in words) + ")" for place in wanted.places
    )
    sql = (
        "SELECT rowid, sessions FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ? "
        "ORDER BY rowid DESC LIMIT ?"
    )  # fmt: skip
    rows = db.execute_sql(sql, (match, wanted.low, wanted.high, most)).fetchall()
    return rows, rows[-1][0] if len(rows) == most else wanted.low


def _find_mysql(db: peewee.Database, wanted: Wanted, most: int, spans: int) -> tuple[Rows, int]:
    last, first = wanted.high >> SPAN_BITS, wanted.low >> SPAN_BITS
    first = max(first, last - max(1, min(spans, SPANNED_TERMS // len(wanted.places))) + 1)
    low = max(wanted.low, first << SPAN_BITS)
    spanned = [span_of(n << SPAN_BITS) for n in range(last, first - 1, -1)]
    match = " ".join(
        "(" + " ".join(f"+{scope}{span}{word}" for scope in place for word in wanted.words) + ")"
        for span in spanned for place in wanted.places
    )  # fmt: skip
    sql = (
        "SELECT seq, sessions FROM search WHERE MATCH(terms) AGAINST(%s IN BOOLEAN MODE) AND seq BETWEEN %s AND %s "
        "ORDER BY seq DESC LIMIT %s"
    )
    rows = db.execute_sql(sql, (match, low, wanted.high, most)).fetchall()
    return list(rows), rows[-1][0] if len(rows) == most else low


def reach(db: peewee.Database) -> tuple[int, int]:
    """The lowest and the highest seqId of the index; (0, -1) when it is empty."""
    key = "seq" if kind_of(db) == MYSQL else "rowid"
    sql = f"SELECT {key} FROM search ORDER BY {key} %s LIMIT 1"
    low, high = (db.execute_sql(sql % order).fetchone() for order in ("ASC", "DESC"))
    return (low[0], high[0]) if low and high else (0, -1)


def _messages(db: peewee.Database, places: Sequence[Place], sender: str) -> Iterator[tuple[str, Entry]]:
    """Messages, in any order; of `sender`, "" for any."""
    for name, *columns in _rows(db, f"session, {ENTRY_COLUMNS}", places, sender):
        yield name, Entry(*columns)


def _read(db: peewee.Database, places: Sequence[Place]) -> Iterator[Indexed]:
    return _rows(db, ", ".join(_COLUMNS), places, "")


def _rows(db: peewee.Database, columns: str, places: Sequence[Place], sender: str) -> Iterator[Any]:
    for i in range(0, len(places), AT_ONCE):
        some = places[i : i + AT_ONCE]
        where = " OR ".join([f"(session = {db.param} AND seq = {db.param})"] * len(some))
        args: list[str | int] = [part for place in some for part in place]
        if sender:
            where = f"({where}) AND sender = {db.param}"
            args.append(sender)
        yield from db.execute_sql(f"SELECT {columns} FROM messages WHERE {where}", args).fetchall()
