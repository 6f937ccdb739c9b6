"""The tables' history, numbered: each migration is made once, in order, and never changed afterwards.

Statements are the same for SQLite and MySQL but for the words in braces, which `WORDS` spells out. They can be
repeated: MySQL commits each definition by itself, so a migration that was cut off is made again from its start.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import peewee

from store.archive.database import MYSQL, SQLITE, kind_of
from store.archive.models import Migration as Made
from store.errors import StoreRefused

LOCK_SECONDS = 60


class Migration(NamedTuple):
    """One step. `statements` have words of `WORDS` in braces; `sqlite` are for SQLite only: the `CREATE INDEX` of MySQL
    cannot be repeated, so its indexes stand in the tables, for `{keys}`."""

    number: int
    name: str
    statements: tuple[str, ...]
    sqlite: tuple[str, ...] = ()


WORDS = {
    SQLITE: {
        "session": "TEXT", "id": "TEXT", "name": "TEXT", "blob": "BLOB", "text": "TEXT", "table": "", "keys": "",
        "serial": "INTEGER NOT NULL PRIMARY KEY",
        "search": "VIRTUAL TABLE IF NOT EXISTS search USING "
        "fts5(terms, sessions UNINDEXED, detail=none, columnsize=0, tokenize='ascii')",
        "ordered": "WITHOUT ROWID", "sender_keys": "", "div": "/",
        "part": "sender || ' ' || session",
        "else_users": "ON CONFLICT (kind, span, start, subject) DO UPDATE SET users = excluded.users",
    },
    MYSQL: {
        "session": "VARCHAR(140) CHARACTER SET ascii COLLATE ascii_bin",
        "id": "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin",
        "name": "VARCHAR(255) COLLATE utf8mb4_bin", "blob": "MEDIUMBLOB", "text": "MEDIUMTEXT",
        "table": "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "keys": ", KEY messages_known_by (known_by)",
        "serial": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
        "search": "TABLE IF NOT EXISTS search (FTS_DOC_ID BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, "
        "seq BIGINT NOT NULL, sessions TEXT NOT NULL, terms MEDIUMTEXT NOT NULL, UNIQUE KEY search_seq (seq), "
        "FULLTEXT KEY search_terms (terms)) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin",
        "ordered": "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "sender_keys": ", KEY senders_first (first)", "div": "DIV",
        "part": "CONCAT(sender, ' ', session)",
        "else_users": "ON DUPLICATE KEY UPDATE users = VALUES(users)",
    },
}  # fmt: skip
"""What differs, by kind of database. Tables of SQLite lie in the order of writing and not of their keys, which halves
what a row of messages costs; those that are read in the order of their keys are `ordered`."""



def _count_again() -> tuple[str, ...]:
    """Rollups of the messages that are there. REPLACE: the numbers are whole ones, whoever was cut off before."""
    statements = []
    for span in (3600, 86_400):
        start = f"seq {{div}} {span * 1_000_000} * {span}"
        numbers = "COUNT(1), SUM(state & 1), SUM(state & 2) / 2, SUM(state & 4) / 4"
        for kind, subject, users, where in (
            (0, "''", "COUNT(DISTINCT CASE WHEN type <> 16 THEN sender END)", ""),
            (1, "CAST(type AS CHAR)", "0", ""),
            (2, "sender", "0", "WHERE type <> 16"),
            (3, "session", "0", "WHERE SUBSTR(session, 1, 3) = 'GC_'"),
        ):
            statements.append(
                f"REPLACE INTO rollups SELECT {kind}, {span}, {start} AS bucket, {subject} AS who, {numbers}, {users} "
                f"FROM messages {where} GROUP BY bucket, who"
            )
    first = "MIN(seq) {div} 3600000000 * 3600"
    return (*statements, f"REPLACE INTO senders SELECT sender, {first} FROM messages WHERE type <> 16 GROUP BY sender")


def _count_parts() -> tuple[str, ...]:
    """What users sent in which group, and how many did. What was noted and is not counted yet has no parts."""
    statements = []
    for span in (3600, 86_400):
        start = f"seq {{div}} {span * 1_000_000} * {span}"
        rest = "FROM messages WHERE SUBSTR(session, 1, 3) = 'GC_' GROUP BY bucket, who"
        statements += [
            f"REPLACE INTO rollups SELECT 4, {span}, {start} AS bucket, {{part}} AS who, COUNT(1), 0, 0, 0, 0 {rest}",
            f"INSERT INTO rollups SELECT 3, {span}, {start} AS bucket, session AS who, 0, 0, 0, 0, "
            f"COUNT(DISTINCT sender) {rest} {{else_users}}",
        ]
    return tuple(statements)


THINGS = (
    ("users",
     "user {id}, password {text}, created BIGINT, disabled INTEGER, not_before BIGINT, request {text}",
     "user"),
    ("profiles", "user {id}, name {text}, avatar {text}, mobile {text}, birthday BIGINT", "user"),
    ("friends", "user {id}, friend {id}, stamp BIGINT, relation BIGINT", "user, friend"),
    ("blocks", "user {id}, blocked {id}", "user, blocked"),
    ("requests", "user {id}, asker {id}, stamp BIGINT", "user, asker"),
    ("attributes",
     "user {id}, about {id}, subject {session}, name {name}, value {text}",
     "user, about, subject, name"),
    ("user_groups", "user {id}, group_id {id}, stamp BIGINT", "user, group_id"),
    ("tokens", "user {id}, fields {blob}", "user"),
    ("chat_groups",
     "group_id {id}, name {text}, avatar {text}, owner {text}, about {text}, size_limit BIGINT, "
     "mode INTEGER, created BIGINT, updated BIGINT, members_version BIGINT, handed {text}",
     "group_id"),
    ("members", "group_id {id}, user {id}, joined BIGINT", "group_id, user"),
    ("positions", "session {session}, user {id}, seq BIGINT, n BIGINT", "session, user"),
    ("queues", "owner {id}, digest {id}, stamp BIGINT, item {blob}", "owner, digest"),
)  # fmt: skip
"""Tables of migration 2: name, columns but the last two, primary key."""


def _table_of_things(name: str, columns: str, key: str) -> str:
    wanted = ", ".join(f"{column} NOT NULL" for column in (*columns.split(", "), "version BIGINT", "gone INTEGER"))
    return f"CREATE TABLE IF NOT EXISTS {name} ({wanted}, PRIMARY KEY ({key})) {{table}}"


MIGRATIONS = (
    Migration(1, "messages", (
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER NOT NULL PRIMARY KEY, name {text} NOT NULL, "
        "time BIGINT NOT NULL) {table}",
        "CREATE TABLE IF NOT EXISTS dataset (id {id} NOT NULL PRIMARY KEY, shards INTEGER NOT NULL) {table}",
        "CREATE TABLE IF NOT EXISTS messages (session {session} NOT NULL, seq BIGINT NOT NULL, prev BIGINT NOT NULL, "
        "n BIGINT NOT NULL, type INTEGER NOT NULL, flags INTEGER NOT NULL, sender {id} NOT NULL, "
        "pack_id {id} NOT NULL, known_by BIGINT NOT NULL, payload {blob} NOT NULL, state INTEGER NOT NULL, "
        "revision INTEGER NOT NULL, changed BIGINT NOT NULL, content {text} NOT NULL, operator {id} NOT NULL, "
        "PRIMARY KEY (session, seq){keys}) {table}",
        "CREATE TABLE IF NOT EXISTS poison (tag {id} NOT NULL, entry {id} NOT NULL, time BIGINT NOT NULL, "
        "error {text} NOT NULL, fields {blob} NOT NULL, PRIMARY KEY (tag, entry)) {table}",
    ), (
        "CREATE INDEX IF NOT EXISTS messages_known_by ON messages (known_by)",
    )),
    Migration(2, "things", (
        "CREATE TABLE IF NOT EXISTS drained (process {id} NOT NULL PRIMARY KEY, time BIGINT NOT NULL, "
        "waiting BIGINT NOT NULL) {table}",
        *(_table_of_things(*row) for row in THINGS),
    )),
    Migration(3, "search", (
        "CREATE {search}",
        "CREATE TABLE IF NOT EXISTS unindexed (id {serial}, places {blob} NOT NULL) {table}",
        "CREATE TABLE IF NOT EXISTS fill (id INTEGER NOT NULL PRIMARY KEY, session {session} NOT NULL, "
        "seq BIGINT NOT NULL, done BIGINT NOT NULL, total BIGINT NOT NULL) {table}",
        "INSERT INTO fill SELECT 1, '', 0, 0, total FROM (SELECT COUNT(*) AS total FROM messages) AS counted "
        "WHERE total > 0 AND NOT EXISTS (SELECT 1 FROM fill)",
    )),
    Migration(4, "statistics", (
        "CREATE TABLE IF NOT EXISTS rollups (kind INTEGER NOT NULL, span INTEGER NOT NULL, start BIGINT NOT NULL, "
        "subject {session} NOT NULL, messages BIGINT NOT NULL DEFAULT 0, revoked BIGINT NOT NULL DEFAULT 0, "
        "overridden BIGINT NOT NULL DEFAULT 0, deleted BIGINT NOT NULL DEFAULT 0, users BIGINT NOT NULL DEFAULT 0, "
        "PRIMARY KEY (kind, span, start, subject)) {ordered}",
        "CREATE TABLE IF NOT EXISTS senders (sender {id} NOT NULL, first BIGINT NOT NULL, "
        "PRIMARY KEY (sender){sender_keys}) {ordered}",
        "CREATE TABLE IF NOT EXISTS outcomes (hour BIGINT NOT NULL, source {id} NOT NULL, outcome {id} NOT NULL, "
        "total BIGINT NOT NULL, PRIMARY KEY (hour, source, outcome)) {ordered}",
        *_count_again(),
    ), (
        "CREATE INDEX IF NOT EXISTS senders_first ON senders (first)",
    )),
    Migration(5, "carried", (
        "CREATE TABLE IF NOT EXISTS carried (name {name} NOT NULL, dump {blob} NOT NULL, PRIMARY KEY (name)) {table}",
    )),
    Migration(6, "uncounted", (
        "CREATE TABLE IF NOT EXISTS uncounted (id {serial}, tally {blob} NOT NULL) {table}",
    )),
    Migration(7, "parts", _count_parts()),
    # A segment of the search index for each transaction (by default one for each MB), merged by 16 instead of 4, a
    # little with each transaction: a quarter less to write. `crisismerge` segments would be merged all at once, so this
    # must be far more, or the writer would stand still for seconds.
    Migration(8, "segments", (), (
        "INSERT INTO search (search, rank) VALUES ('hashsize', 8388608)",
        "INSERT INTO search (search, rank) VALUES ('automerge', 16)",
        "INSERT INTO search (search, rank) VALUES ('crisismerge', 64)",
    )),
)  # fmt: skip


class Status(NamedTuple):
    """A migration, and when it was made (ms), 0 when it was not."""

    number: int
    name: str
    time: int


def status(db: peewee.Database) -> list[Status]:
    """All migrations that this version knows, and any later ones that were made."""
    made = {}
    if Made._meta.table_name in db.get_tables():
        made = {row.number: row for row in Made.select().order_by(Made.number).execute(db)}
    known = [Status(m.number, m.name, made[m.number].time if m.number in made else 0) for m in MIGRATIONS]
    later = [Status(n, row.name, row.time) for n, row in made.items() if n > MIGRATIONS[-1].number]
    return known + later


def migrate(db: peewee.Database) -> list[Migration]:
    """Make what is missing; returns it. Raises `StoreRefused` when the archive is of a later version."""
    with _alone(db):
        found = status(db)
        if found[-1].number > MIGRATIONS[-1].number:
            raise StoreRefused(f"the archive is of a later version: migration {found[-1].number} {found[-1].name}")
        missing = [m for m, at in zip(MIGRATIONS, found, strict=True) if not at.time]
        for migration in missing:
            kind = kind_of(db)
            for statement in (*migration.statements, *(migration.sqlite if kind == SQLITE else ())):
                db.execute_sql(statement.format(**WORDS[kind]))
            row = {"number": migration.number, "name": migration.name, "time": int(time.time() * 1000)}
            Made.insert(row).execute(db)
        return missing


class _alone:
    """Nobody else migrates meanwhile."""

    def __init__(self, db: peewee.Database) -> None:
        self._db = db

    def __enter__(self) -> None:
        if kind_of(self._db) == MYSQL:
            (got,) = self._db.execute_sql("SELECT GET_LOCK('imesh migrations', %s)", (LOCK_SECONDS,)).fetchone()
            if got != 1:
                raise StoreRefused("somebody else migrates the archive")
        else:
            self._db.execute_sql("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind_of(self._db) == MYSQL:
            self._db.execute_sql("COMMIT")
            self._db.execute_sql("SELECT RELEASE_LOCK('imesh migrations')").fetchone()
        else:
            self._db.execute_sql("ROLLBACK" if kind else "COMMIT")
