"""Messages in the archive, on SQLite and on MariaDB: written in batches, read in pages, found again."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import peewee
import pytest

from packs import structs as s
from packs.message import stored_payload
from store import entries
from store.archive import messages, migrations, poison
from store.archive.database import MYSQL, Archive, kind_of
from store.archive.models import MODELS, AsciiField
from store.archive.things import THINGS
from store.archive.url import MysqlServer, SqliteFile, parse_archive
from store.entries import DELETED, OVERRIDDEN, REVOKED, Entry
from store.errors import StoreRefused, StoreUnavailable
from store.log import Row
from tests.mariadb import MariaDB

DAY = messages.US_PER_DAY
NOW = 1_790_000_000_000_000


def entry(seq: int, n: int = 1, pack_id: str = "", sender: str = "a", content: str = "text", **more: object) -> bytes:
    payload = stored_payload(s.MsgReq(sender=sender, to="b", content=content))
    return entries.build(Entry(seq, seq - 1, n, 14, 4, pack_id or f"p{seq}", payload, **more))  # type: ignore[arg-type]


def put(archive: Archive, session: str, *found: bytes) -> None:
    archive.write(messages.put, [messages.row_of(session, e, "") for e in found])


def seqs(archive: Archive, session: str, below: int = 2**53, count: int = 100) -> list[int]:
    return [entries.parse(e).seq for e in archive.read(messages.page, session, below, count)]


def test_what_is_written_is_read_back_byte_by_byte(archive: Archive) -> None:
    texts = ["text", "ü ∂ 😀 \"'\\ \0 \u202e %s {} ?", "x" * 100_000, "中文 두 단어"]
    stored = [entry(NOW + i, i, content=text, pack_id="!~'\"%s") for i, text in enumerate(texts)]
    changed = {"state": OVERRIDDEN, "revision": 3, "changed": NOW // 1000, "content": "中文 😀 '%s"}
    stored.append(entry(NOW + 9, 9, **changed))
    put(archive, "SC_a_b", *random.sample(stored, len(stored)))
    assert archive.read(messages.page, "SC_a_b", 2**53, 100) == stored[::-1]
    assert archive.read(messages.get, [("SC_a_b", NOW + 9), ("SC_a_B", NOW), ("SC_a_b", NOW)]) == [
        stored[-1], None, stored[0],
    ]  # fmt: skip


def test_ids_are_compared_byte_by_byte(archive: Archive) -> None:
    put(archive, "SC_a_b", entry(NOW))
    put(archive, "SC_A_b", entry(NOW, content="other"))
    assert [seqs(archive, name) for name in ("SC_a_b", "SC_A_b", "SC_a_B")] == [[NOW], [NOW], []]
    found = archive.read(messages.find, "SC_a_b", "a", f"p{NOW}", NOW)
    assert found is not None and found.seq == NOW
    assert archive.read(messages.find, "SC_a_b", "a", f"P{NOW}", NOW) is None


def test_pages_are_cut_and_pass_over_deleted_messages(archive: Archive) -> None:
    put(archive, "SC_a_b", *(entry(NOW + i, i, **({"state": DELETED} if i % 3 == 0 else {})) for i in range(1, 31)))
    put(archive, "SC_a_c", *(entry(NOW + i) for i in range(30)))
    kept = [NOW + i for i in range(30, 0, -1) if i % 3]
    assert seqs(archive, "SC_a_b") == kept
    assert seqs(archive, "SC_a_b", NOW + 9, 4) == [NOW + 8, NOW + 7, NOW + 5, NOW + 4]
    assert archive.read(messages.greatest, "SC_a_b", NOW + 9) == (NOW + 9, 9)
    assert archive.read(messages.greatest, "SC_a_b", NOW) == (0, 0)


def test_the_highest_revision_wins_in_any_order(archive: Archive) -> None:
    versions = [entry(NOW, **({"state": REVOKED, "revision": r, "content": str(r)} if r else {})) for r in range(6)]
    for _ in range(20):
        put(archive, "SC_a_b", *random.choices(versions, k=random.randint(1, 4)))
        put(archive, "SC_a_b", versions[-1])
        (found,) = archive.read(messages.page, "SC_a_b", NOW, 1)
        assert found == versions[-1]
    put(archive, "SC_a_b", *versions, *versions)
    assert archive.read(messages.page, "SC_a_b", NOW, 1) == [versions[-1]]


def test_repeats_are_found_however_old_they_are(archive: Archive) -> None:
    put(archive, "GC_1", entry(NOW - 500 * DAY, pack_id="old"), entry(NOW, pack_id="p", sender="c"), entry(NOW - DAY))
    found = archive.read(messages.find, "GC_1", "a", "old", NOW)
    assert found is not None and (found.seq, found.prev, found.changed) == (NOW - 500 * DAY, NOW - 500 * DAY - 1, False)
    assert archive.read(messages.find, "GC_1", "a", "p", NOW) is None
    assert archive.read(messages.find, "GC_2", "a", "old", NOW) is None
    changed = entry(NOW, pack_id="p", sender="c", state=REVOKED, revision=1)
    put(archive, "GC_1", changed)
    again = archive.read(messages.find, "GC_1", "c", "p", NOW)
    assert again is not None and again.changed


def test_one_bad_row_takes_its_batch_along_and_nothing_is_half_written(archive: Archive) -> None:
    good = messages.row_of("SC_a_b", entry(NOW), "")
    bad = ("SC_a_b", NOW + 1, None, *good[3:])
    with pytest.raises((peewee.IntegrityError, peewee.DataError)):
        archive.write(messages.put, [good, bad])
    assert seqs(archive, "SC_a_b") == []
    put(archive, "SC_a_b", entry(NOW))
    row = Row("{s01}", b"17-0", [b"s", b"SC_a_b", b"e", b"\xff broken"])
    for _ in range(2):
        archive.write(poison.put, [(row, ValueError("no entry: 😀"))])
    assert archive.read(poison.count) == 1
    ((tag, row_id, clock, error),) = archive.read(poison.newest, 10)
    assert (tag, row_id, error) == ("{s01}", "17-0", "ValueError: no entry: 😀")
    assert abs(clock - time.time() * 1000) < 60_000


def test_migrations_are_made_once_and_give_what_the_models_say(archive: Archive) -> None:
    assert archive.write(migrations.migrate) == []
    assert all(row.time for row in archive.read(migrations.status))
    for model in (*MODELS, *THINGS):
        columns = {c.name: c for c in archive.read(lambda db, m=model: db.get_columns(m._meta.table_name))}
        assert sorted(columns) == sorted(model._meta.sorted_field_names)
        assert not any(c.null for c in columns.values())
        if archive.read(kind_of) == MYSQL:
            lengths = {n: c.data_type for n, c in columns.items()}
            assert all(lengths[f.name] == "varchar" for f in model._meta.sorted_fields if isinstance(f, AsciiField))
        keys = archive.read(lambda db, m=model: db.get_primary_keys(m._meta.table_name))
        primary = model._meta.primary_key
        assert keys == list(getattr(primary, "field_names", ())) or keys == [primary.name]
    indexes = {i.name for i in archive.read(lambda db: db.get_indexes("messages"))}
    assert "messages_known_by" in indexes


def test_the_archive_of_a_later_version_is_refused(archive: Archive) -> None:
    archive.write(lambda db: db.execute_sql("INSERT INTO migrations VALUES (999, 'later', 1)") and None)
    with pytest.raises(StoreRefused, match="later version: migration 999"):
        archive.write(migrations.migrate)


def test_a_migration_that_was_cut_off_is_made_again(archive: Archive) -> None:
    archive.write(lambda db: db.execute_sql("DELETE FROM migrations") and None)
    assert [m.number for m in archive.write(migrations.migrate)] == [m.number for m in migrations.MIGRATIONS]


def test_texts_of_mysql_are_utf8_and_ids_ascii(mariadb: MariaDB) -> None:
    made = Archive(parse_archive(mariadb.make("charsets"), Path()))
    made.write(migrations.migrate)
    sql = (
        "SELECT table_name, column_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = 'charsets' AND collation_name IS NOT NULL"
    )
    found = made.read(lambda db: db.execute_sql(sql).fetchall())
    made.close()
    ids = {("search", "terms"), ("search", "sessions")}
    ids |= {(m._meta.table_name, f.name) for m in (*MODELS, *THINGS) for f in m._meta.sorted_fields if is_id(f)}
    assert ids < {(table, column) for table, column, _ in found}
    for table, column, collation in found:
        assert collation == ("ascii_bin" if (table, column) in ids else "utf8mb4_bin"), column


def is_id(field: peewee.Field) -> bool:
    return isinstance(field, AsciiField)


def test_writing_gives_way_unless_it_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gave_way: list[bool] = []
    monkeypatch.setattr(os, "sched_yield", lambda: gave_way.append(True))
    archive = Archive(SqliteFile(tmp_path / "archive.db"))
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT count(*) FROM n"
    assert archive.write(lambda db: db.execute_sql(count).fetchone()) == (1000,)
    assert len(gave_way) > 1
    archive.gives_way = False
    gave_way.clear()
    assert archive.write(lambda db: db.execute_sql(count).fetchone()) == (1000,)
    archive.gives_way = True
    assert archive.read(lambda db: db.execute_sql(count).fetchone()) == (1000,)
    assert not gave_way
    archive.close()


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    nowhere = Archive(MysqlServer("127.0.0.1", 1, "u", "secret", "d"))
    with pytest.raises(StoreUnavailable) as caught:
        nowhere.read(poison.count)
    assert "secret" not in str(caught.value)
    nowhere.close()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("embedded", SqliteFile(Path("/data/archive.db"))),
        ("sqlite:///a/b.db", SqliteFile(Path("/data/a/b.db"))),
        ("sqlite:////var/b.db", SqliteFile(Path("/var/b.db"))),
        ("mysql://u:p%40@db/imesh", MysqlServer("db", 3306, "u", "p@", "imesh")),
        ("mysql://u@/imesh?unix_socket=/run/m.sock", MysqlServer("", 3306, "u", "", "imesh", "/run/m.sock")),
    ],
)
def test_urls(url: str, found: object) -> None:
    assert parse_archive(url, Path("/data")) == found


@pytest.mark.parametrize("url", ["", "sqlite://x/y", "sqlite:///", "mysql://db/imesh", "mysql://u@db", "postgres://u@h/d"])
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_archive(url, Path("/data"))


def test_partitions_as_the_docs_have_them(mariadb: MariaDB) -> None:
    """The statement of docs/operations.md works, and so does the archive after it."""
    docs = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    statement = re.search(r"^ALTER TABLE messages PARTITION BY.*?;", docs, re.MULTILINE | re.DOTALL)
    assert statement is not None
    made = Archive(parse_archive(mariadb.make("partitions"), Path()))
    made.write(migrations.migrate)
    put(made, "SC_a_b", entry(NOW))
    made.write(lambda db: db.execute_sql(statement[0]))
    put(made, "SC_a_b", entry(NOW + 1), entry(NOW, state=REVOKED, revision=1))
    assert seqs(made, "SC_a_b") == [NOW + 1, NOW]
    assert len(made.read(lambda db: db.execute_sql("SELECT seq FROM messages PARTITION (p2026)").fetchall())) == 2
    made.close()
