"""The index of words, on SQLite and on MariaDB: the same messages are found, and they are those that have the words."""

from __future__ import annotations

import random
from pathlib import Path

import gevent
import pytest

from mesh.log import get_log
from mesh.stats import Stats
from nodes.indexing import Indexer
from nodes.terms import Query, group_scope, scopes_of, sender_term, terms_of, text_of, user_scope
from packs import structs as s
from packs.ids import single_members, single_session
from packs.message import stored_payload
from store import entries
from store.archive import messages, migrations, search, unindexed
from store.archive.database import Archive
from store.archive.search import SPAN_BITS, Wanted
from store.archive.unindexed import FRESH_BYTES, Fresh
from store.archive.url import parse_archive
from store.entries import DELETED, HIDDEN, OVERRIDDEN, REVOKED, Entry
from tests.mariadb import MariaDB
from tests.waiting import wait_until

NOW = 1_790_000_000_000_000
TOP = 2**53
WORDS = ("a", "the", "to", "www", "Straße", "STRASSE", "你好", "你好世界", "世", "привет", "don't", "x4f60", "한국어")
"""Stop words, words that are too short for an index, and some that are written in several ways."""


def entry(seq: int, text: str, sender: str = "a", content_type: int = 1, **more: object) -> Entry:
    payload = stored_payload(s.MsgReq(sender=sender, to="b", content=text, content_type=content_type))
    return Entry(seq, 0, 1, 14, 4, f"p{seq}", payload, **more)  # type: ignore[arg-type]


class Kept:
    """What the process that writes keeps for the one that indexes: what is written, or nothing, when they are two."""

    fresh: Fresh | None = None


@pytest.fixture(autouse=True, params=["same process", "another process"])
def kept(request: pytest.FixtureRequest) -> None:
    Kept.fresh = Fresh() if request.param == "same process" else None


def put(archive: Archive, session: str, *found: Entry) -> None:
    archive.write(messages.put, [messages.row_of(session, entries.build(e), "") for e in found], Kept.fresh)


def index(archive: Archive) -> None:
    while archive.write(search.index_noted, terms_of, Kept.fresh or Fresh()):
        continue


def find(
    archive: Archive, text: str, *scopes: str, low: int = NOW - TOP // 4, high: int = NOW + TOP // 16, most: int = 7,
    session: str = "", sender: str = "",
) -> list[tuple[str, int]]:  # fmt: skip
    """All that is found, read a few candidates at a time."""
    query, found = Query(text), []
    while low <= high:
        places = [scopes_of(session)] if session.startswith("SC_") else [(scope,) for scope in scopes]
        words = (*query.terms, sender_term(sender)) if sender else query.terms
        wanted = Wanted(tuple(places), words, low, high, session, sender)
        candidates = archive.read(search.find, wanted, most, 3)
        found += [(name, e.seq) for name, e in candidates.messages if query.matches(text_of(e))]
        assert candidates.reach <= high
        high = candidates.reach - 1
    return found


def seqs(archive: Archive, text: str, scope: str = user_scope("a")) -> list[int]:
    return [seq - NOW for _, seq in find(archive, text, scope)]


def test_two_characters_of_chinese_are_found(archive: Archive) -> None:
    texts = ("今天天气很好", "天气", "天 气", "气天", "weather天气forecast", "好天气!", "気天気")
    put(archive, "SC_a_b", *(entry(NOW + i, text) for i, text in enumerate(texts)))
    index(archive)
    assert seqs(archive, "天气") == [5, 4, 1, 0]
    assert seqs(archive, "天") == [6, 5, 4, 3, 2, 1, 0]
    assert seqs(archive, "好") == [5, 0]
    assert seqs(archive, "天气很好") == [0]
    assert seqs(archive, "天气 好") == [5, 0]
    assert seqs(archive, "weather") == [4]


def test_words_are_found_however_they_are_written_short_and_common_ones_too(archive: Archive) -> None:
    texts = ("A", "the the", "I am in", "ＦＵＬＬ width", "Straße", "e\u0301t\u00e9", "x" * 40, "x" * 16 + "y", "don't")
    put(archive, "SC_a_b", *(entry(NOW + i, text) for i, text in enumerate(texts)))
    index(archive)
    cases = {
        "a": [0], "The": [1], "in I": [2], "full": [3], "STRASSE": [4], "ÉTÉ": [5], "ete": [], "x" * 40: [6],
        "X" * 16 + "Y": [7], "x" * 16: [], "don't": [8], "t": [8], "the nothing": [],
    }  # fmt: skip
    assert {text: seqs(archive, text) for text in cases} == cases


def test_a_message_is_found_by_what_it_says_now(archive: Archive) -> None:
    put(archive, "SC_a_b", entry(NOW, "first"), entry(NOW + 1, "first", content_type=2), entry(NOW + 2, "first"))
    index(archive)
    assert seqs(archive, "first") == [2, 0]
    put(archive, "SC_a_b", entry(NOW, "first", state=OVERRIDDEN, revision=1, content="second"))
    put(archive, "SC_a_b", entry(NOW + 2, "first", state=REVOKED, revision=1))
    assert seqs(archive, "first") == [], "before the index knows it"
    index(archive)
    assert (seqs(archive, "first"), seqs(archive, "second")) == ([], [0])
    assert archive.read(lambda db: db.execute_sql("SELECT COUNT(*) FROM search").fetchone()[0]) == 1
    put(archive, "SC_a_b", entry(NOW, "", state=OVERRIDDEN | DELETED, revision=2, content="second"))
    index(archive)
    assert seqs(archive, "second") == []
    put(archive, "SC_a_b", entry(NOW + 3, "third", state=HIDDEN | REVOKED, revision=1, content="fourth"))
    index(archive)
    assert (seqs(archive, "third"), seqs(archive, "fourth")) == ([], [])


def test_of_messages_that_are_kept_no_longer_the_index_keeps_nothing(archive: Archive) -> None:
    put(archive, "SC_a_b", *(entry(NOW + i, "word") for i in range(3)))
    index(archive)
    archive.write(messages.remove, [("SC_a_b", NOW), ("SC_a_b", NOW + 2)])
    assert seqs(archive, "word") == [1]
    index(archive)
    assert seqs(archive, "word") == [1]
    assert archive.read(search.reach) == (NOW + 1, NOW + 1)


def test_a_message_that_is_gone_before_it_was_indexed_is_not_found(archive: Archive) -> None:
    put(archive, "SC_a_b", entry(NOW, "word"))
    archive.write(messages.remove, [("SC_a_b", NOW)])
    put(archive, "SC_a_b", entry(NOW + 1, "word"))
    index(archive)
    assert archive.read(search.reach) == (NOW + 1, NOW + 1)


def test_a_message_that_was_changed_before_it_was_indexed_is_found_as_it_is(archive: Archive) -> None:
    put(archive, "SC_a_b", entry(NOW, "first"))
    put(archive, "SC_a_b", entry(NOW, "first", state=OVERRIDDEN, revision=1, content="second"))
    put(archive, "SC_a_b", entry(NOW + 1, "first"))
    index(archive)
    assert (seqs(archive, "first"), seqs(archive, "second")) == ([1], [0])


def test_what_is_kept_for_the_index_has_an_end() -> None:
    fresh, size = Fresh(), FRESH_BYTES // 4
    rows = {name: [messages.row_of("SC_a_b", entries.build(entry(NOW, "x" * size)), "")] for name in "12345"}
    for name, row in rows.items():
        fresh.keep(name.encode(), row)
    assert [bool(fresh.take(name.encode())) for name in "12345"] == [False, False, True, True, True]
    assert fresh.take(b"5") is None
    fresh.keep(b"6", rows["1"] * 9)  # more than all together may have
    assert fresh.take(b"6") is None
    fresh.keep(b"7", rows["1"])
    assert fresh.take(b"7") == rows["1"]


def test_what_another_process_has_indexed_does_not_come_back(archive: Archive) -> None:
    """`kept` holds a message for ever that the other one has indexed; it was revoked and removed since."""
    other = Fresh()
    put(archive, "SC_a_b", entry(NOW, "secret"))
    archive.write(search.index_noted, terms_of, other)
    archive.write(messages.put, [
        messages.row_of("SC_a_b", entries.build(entry(NOW, "secret", state=REVOKED, revision=1)), "a")
    ], other)  # fmt: skip
    archive.write(search.index_noted, terms_of, other)
    archive.write(messages.remove, [("SC_a_b", NOW)])
    index(archive)
    assert archive.read(search.reach) == (0, -1)


def test_the_index_of_sqlite_has_few_segments(tmp_path: Path) -> None:
    archive = Archive(parse_archive(f"sqlite:///{tmp_path}/a.db", Path()))
    archive.write(migrations.migrate)
    found = archive.read(lambda db: dict(db.execute_sql("SELECT k, v FROM search_config").fetchall()))
    assert (found["automerge"], found["crisismerge"], found["hashsize"]) == (16, 64, 8 << 20)
    archive.close()


def test_what_was_kept_is_not_read_back(tmp_path: Path, kept: None) -> None:
    archive = Archive(parse_archive(f"sqlite:///{tmp_path}/a.db", Path()))
    archive.write(migrations.migrate)
    put(archive, "SC_a_b", entry(NOW, "word"))
    statements: list[str] = []
    archive.write(lambda db: db.connection().set_trace_callback(statements.append))
    index(archive)
    read_back = [sql for sql in statements if "FROM messages" in sql]
    assert len(read_back) == (0 if Kept.fresh else 1)
    assert seqs(archive, "word") == [0]
    archive.close()


def test_messages_of_the_same_microsecond_are_all_found(archive: Archive) -> None:
    put(archive, "SC_a_b", entry(NOW, "same here"))
    put(archive, "SC_a_c", entry(NOW, "same there"))
    put(archive, "GC_1", entry(NOW, "same group"))
    index(archive)
    everywhere = (user_scope("a"), group_scope("GC_1"))
    assert find(archive, "same", *everywhere) == [("SC_a_c", NOW), ("SC_a_b", NOW), ("GC_1", NOW)]
    put(archive, "SC_a_b", entry(NOW, "", state=DELETED, revision=1))
    index(archive)
    assert find(archive, "same", *everywhere) == [("SC_a_c", NOW), ("GC_1", NOW)]


def test_what_is_found_is_what_reading_everything_finds(archive: Archive) -> None:
    chance = random.Random(5)
    sessions = [single_session(a, b) for a, b in ("aa", "ab", "ac", "bc")] + ["GC_1", "GC_2", "BM_app_a"]
    rows: dict[tuple[str, int], Entry] = {}
    for i in range(600):
        text = " ".join(chance.choices(WORDS, k=chance.randint(1, 4)))
        at = NOW - (i << SPAN_BITS - 6)  # ten spans
        rows[chance.choice(sessions), at] = entry(at, text, chance.choice("ab"))
    for session in sessions:
        put(archive, session, *(e for (s, _), e in rows.items() if s == session))
    index(archive)
    for _ in range(150):
        text = " ".join(chance.choices(WORDS, k=chance.choice((1, 1, 2, 3))))
        groups = chance.sample(("GC_1", "GC_2"), chance.randint(0, 2))
        session, sender = chance.choice(("", "", "SC_a_b")), chance.choice(("", "", "b"))
        low, high = sorted(chance.choices([at for _, at in rows], k=2))
        scopes = (user_scope("a"), *map(group_scope, groups))
        found = find(archive, text, *scopes, low=low, high=high, most=50, session=session, sender=sender)
        expected = sorted(
            (
                place for place, e in rows.items()
                if low <= e.seq <= high and Query(text).matches(text_of(e)) and session in ("", place[0])
                and (place[0] in (*groups, "BM_app_a") or "a" in (single_members(place[0]) or ()))
                and sender in ("", "a" if b'from\xa1a' in e.payload else "b")
            ),
            key=lambda place: (place[1], place[0]), reverse=True,
        )  # fmt: skip
        assert found == expected, text


def test_a_search_in_a_thousand_groups(archive: Archive) -> None:
    put(archive, "GC_900", entry(NOW, "needle and thread"))
    index(archive)
    scopes = [user_scope("a"), *(group_scope(f"GC_{i}") for i in range(1000))]
    assert find(archive, "thread needle", *scopes, low=NOW - 5) == [("GC_900", NOW)]


def test_what_was_there_before_the_index_is_filled_in(archive: Archive) -> None:
    put(archive, "SC_a_b", *(entry(NOW + i, "old") for i in range(25)))
    put(archive, "SC_a_c", *(entry(NOW + i, "old") for i in range(25, 30)))
    archive.write(lambda db: db.execute_sql("DELETE FROM unindexed") and None)
    assert seqs(archive, "old") == []
    archive.write(unindexed.restart)
    put(archive, "SC_a_b", entry(NOW + 5, "old", state=OVERRIDDEN, revision=1, content="new"))
    put(archive, "SC_a_a", entry(NOW + 30, "old"))
    assert archive.write(search.fill, terms_of, 10) == ("SC_a_b", NOW + 8, 10, 30)
    assert seqs(archive, "old") == [30, 8, 7, 6, 4, 3, 2, 1, 0]
    index(archive)
    while archive.write(search.fill, terms_of, 10):
        continue
    assert seqs(archive, "old") == [*range(30, 5, -1), *range(4, -1, -1)]
    assert seqs(archive, "new") == [5]
    assert archive.read(unindexed.filling) is None


def test_an_index_that_was_not_wanted_is_filled_when_it_is(archive: Archive) -> None:
    archive.write(unindexed.pass_over)
    put(archive, "SC_a_b", *(entry(NOW + i, "word") for i in range(5)))
    archive.write(unindexed.pass_over)
    assert archive.read(unindexed.count) == 0
    while archive.write(search.fill, terms_of, 2):
        put(archive, "SC_a_b", entry(NOW + 5, "word"))
        index(archive)
    assert seqs(archive, "word") == [5, 4, 3, 2, 1, 0]


def test_one_node_indexes_at_a_time_and_the_others_do_not_wait_for_it(mariadb: MariaDB) -> None:
    url = mariadb.make("search_turns" if Kept.fresh else "search_turns_too")
    one, other = (Archive(parse_archive(url, Path())) for _ in range(2))
    one.write(migrations.migrate)
    put(one, "SC_a_b", entry(NOW, "word"))
    other.write(lambda db: db.execute_sql("SELECT GET_LOCK('imesh search', 0)").fetchone())
    for function, *args in ((search.index_noted, terms_of, Fresh()), (search.fill, terms_of, 10)):
        with pytest.raises(search.Elsewhere):
            one.write(function, *args)
    assert seqs(one, "word") == []
    other.write(lambda db: db.execute_sql("SELECT RELEASE_LOCK('imesh search')").fetchone())
    other.close()
    index(one)
    assert seqs(one, "word") == [0]
    one.close()


def test_the_migration_of_an_archive_with_messages_has_them_filled_in(archive: Archive) -> None:
    put(archive, "SC_a_b", entry(NOW, "old"))
    for table in ("search", "unindexed", "fill"):
        archive.write(lambda db, name=table: db.execute_sql(f"DROP TABLE {name}") and None)
    archive.write(lambda db: db.execute_sql("DELETE FROM migrations WHERE number = 3") and None)
    assert [m.number for m in archive.write(migrations.migrate)] == [3]
    assert archive.write(search.fill, terms_of, 10) == ("SC_a_b", NOW, 1, 1)
    assert archive.write(search.fill, terms_of, 10) is None
    assert seqs(archive, "old") == [0]


def test_much_that_comes_is_indexed_in_lumps_and_little_at_once(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here 6,000 messages in less than two minutes are much."""
    monkeypatch.setattr("nodes.indexing.MANY", 50.0)
    monkeypatch.setattr("nodes.indexing.LUMP_SECONDS", 3600.0)
    monkeypatch.setattr("nodes.indexing.QUIET_SECONDS", 3600.0)
    stats = Stats("olap")
    indexer = Indexer(archive, Kept.fresh or Fresh(), stats, get_log("olap"), lambda: False, wanted=True)
    running = gevent.spawn(indexer.run)

    def write(first: int, count: int) -> None:
        put(archive, "SC_a_b", *(entry(NOW + first + n, f"word{first + n}") for n in range(count)))
        indexer.kick()

    for n in range(3):
        write(n, 1)
        wait_until(lambda: stats.counts["indexed"] == n + 1, "what comes one by one is in at once", 60)  # noqa: B023
    write(3, 6000)
    wait_until(lambda: stats.counts["indexed"] == 6003, "all are in", 60)
    for n in range(3):
        write(6003 + n, 1)
        wait_until(lambda: not indexer._wake.is_set(), "it looks whether it must stop", 60)
    assert (stats.counts["indexed"], archive.read(unindexed.count)) == (6003, 3)
    assert indexer.progress.startswith("batches that wait for the search index: ")
    monkeypatch.setattr("nodes.indexing.QUIET_SECONDS", 0.0)
    write(6006, 1)
    wait_until(lambda: stats.counts["indexed"] == 6007, "nothing comes any more", 60)
    indexer.stop()
    running.get(timeout=20)
    assert seqs(archive, "word6006") == [6006]
