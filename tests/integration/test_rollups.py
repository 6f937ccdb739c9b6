"""Rollups, on SQLite and on MariaDB: whatever is written how often, in which order and by how many, they are what a
recount of the messages says."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gevent
import peewee
import pytest

from packs import structs as s
from packs.ids import business_session, single_session
from packs.message import stored_payload
from store import entries
from store.archive import messages, migrations, rollups, statistics
from store.archive.database import Archive
from store.archive.rollups import DAY, HOUR, Kind
from store.archive.url import parse_archive
from store.entries import DELETED, OVERRIDDEN, REVOKED, Entry
from store.errors import StoreUnavailable
from tests import recount

START = 1_790_035_200  # noon
USERS = [f"u{n}" for n in range(12)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def archive(archive_url: str) -> Iterator[Archive]:
    made = Archive(parse_archive(archive_url, Path("/nowhere")))
    made.write(migrations.migrate)
    yield made
    made.close()


def differences(archive: Archive) -> list[str]:
    """What is counted wrong, when all is counted."""
    while archive.write(rollups.fold):
        pass
    return archive.read(recount.differences)


def row(seq: int, sender: str, to: str, state: int = 0, revision: int = 0) -> messages.Row:
    kind = 15 if to.startswith("GC_") else 16 if sender == "app" else 14
    session = to if kind == 15 else business_session(sender, to) if kind == 16 else single_session(sender, to)
    payload = stored_payload(s.MsgReq(sender=sender, to=to, content="text"))
    change = {"state": state, "revision": revision, "changed": seq // 1000} if state else {}
    entry = Entry(seq, seq - 1, 1, kind, 4, f"p{seq}", payload, **change)  # type: ignore[arg-type]
    return messages.row_of(session, entries.build(entry), "")


def history(rng: random.Random, count: int, hours: int = 60, users: Sequence[str] = USERS) -> list[messages.Row]:
    """Rows as the log has them: messages of some days, and their revisions, each of which adds to the state."""
    rows = []
    for n in range(count):
        seq = (START + rng.randrange(hours * HOUR)) * 1_000_000 + n
        place = (seq, rng.choice([*users, "app"]), rng.choice([*users, "GC_a", "GC_b"]))
        if place[1] == "app":
            place = (seq, "app", rng.choice(users))
        rows.append(row(*place))
        state = 0
        for revision in range(1, rng.choice((1, 1, 1, 2, 3))):
            state |= rng.choice((REVOKED, OVERRIDDEN, DELETED))
            rows.append(row(*place, state, revision))
    return rows


def batches(rng: random.Random, rows: list[messages.Row]) -> list[list[messages.Row]]:
    """The rows in some order, some of them more than once, in batches of any size."""
    order = rng.sample(rows, len(rows)) + rng.choices(rows, k=len(rows) // 2)
    found = []
    while order:
        size = rng.choice((1, 7, 60, 250))
        found.append(order[:size])
        order = order[size:]
    return found


def test_rollups_are_what_a_recount_says(archive: Archive) -> None:
    rng = random.Random(5)
    rows = history(rng, 600)
    for batch in batches(rng, rows):
        archive.write(messages.put, batch)
    assert differences(archive) == []
    before = archive.read(recount.kept)
    archive.write(messages.put, rows)  # all of it again
    assert not archive.write(rollups.fold) and archive.read(recount.kept) == before
    assert len(before[0]) > 500 and set(before[1]) == set(USERS)


def test_messages_of_an_older_archive_are_counted_when_it_is_migrated(archive: Archive) -> None:
    rng = random.Random(4)
    for batch in batches(rng, history(rng, 300)):
        archive.write(messages.put, batch)
    assert differences(archive) == []
    kept = archive.read(recount.kept)
    for lost in ("rollups", "senders"):
        archive.write(lambda db, t=lost: db.execute_sql(f"DROP TABLE {t}") and None)
    archive.write(lambda db: db.execute_sql("DELETE FROM migrations WHERE number IN (4, 7)") and None)
    for _ in range(2):  # the second time as if it had been cut off behind its last statement
        assert [m.number for m in archive.write(migrations.migrate)] == [4, 7]
        assert archive.read(recount.kept) == kept and differences(archive) == []
        archive.write(lambda db: db.execute_sql("DELETE FROM migrations WHERE number IN (4, 7)") and None)


def test_several_writers_at_once_count_nothing_twice(archive: Archive, archive_url: str) -> None:
    rng = random.Random(6)
    rows = history(rng, 1000, hours=2, users=[f"u{n}" for n in range(300)])  # most batches find somebody new

    def write(name: int) -> None:
        writer = Archive(parse_archive(archive_url, Path("/nowhere")))
        order = random.Random(name).sample(rows, len(rows))
        for batch in (order[n : n + 25] for n in range(0, len(order), 25)):
            while True:
                try:
                    writer.write(messages.put, batch)
                    writer.write(rollups.fold)
                    break
                except StoreUnavailable:  # two writers were in each other's way: as the drain does
                    gevent.sleep(0.01)
        writer.close()

    gevent.joinall([gevent.spawn(write, n) for n in range(3)], raise_error=True)
    assert differences(archive) == []


def test_a_batch_that_is_refused_counts_nothing(archive: Archive) -> None:
    good = row(START * 1_000_000, "u1", "u2")
    archive.write(messages.put, [good])
    bad = ("SC_u1_u2", START * 1_000_000 + 1, None, *good[3:])
    for _ in range(2):
        with pytest.raises((peewee.IntegrityError, peewee.DataError)):
            archive.write(messages.put, [good, row(START * 1_000_000 + 2, "u3", "u2"), bad])
    assert differences(archive) == []
    assert set(archive.read(recount.kept)[1]) == {"u1"}


WRITER = """
import random, sys
from pathlib import Path
from store.archive import messages, rollups
from store.archive.database import Archive
from store.archive.url import parse_archive
from tests.integration.test_rollups import batches, history
archive = Archive(parse_archive(sys.argv[1], Path("/nowhere")))
rng = random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    for batch in batches(rng, history(random.Random(rng.randrange(100)), 300)):
        archive.write(messages.put, batch)
        if rng.random() < 0.3:
            archive.write(rollups.fold)
        print(len(batch), flush=True)
"""


@pytest.mark.seconds(60)
def test_a_killed_writer_leaves_rows_and_counts_that_agree(archive: Archive, archive_url: str) -> None:
    rng = random.Random(7)
    for turn in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, archive_url, str(turn)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(rng.randrange(4, 12)):
            assert writer.stdout.readline()
        gevent.sleep(rng.random() / 50)  # no wait for anything: somewhere within a batch
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert differences(archive) == []
    assert archive.read(lambda db: db.execute_sql("SELECT COUNT(1) FROM messages").fetchone()[0]) > 100


def test_what_the_rollups_answer(archive: Archive) -> None:
    noon = START * 1_000_000
    rows = [row(noon + n, "u1", "u2") for n in range(3)] + [row(noon + 9, "u2", "GC_a"), row(noon + 8, "app", "u9")]
    rows += [row(noon + HOUR * 1_000_000, "u1", "GC_a"), row(noon + DAY * 1_000_000, "u3", "GC_b", REVOKED, 1)]
    for one in reversed(rows):
        archive.write(messages.put, [one])
    assert differences(archive) == []
    day = START // DAY * DAY
    read = archive.read
    assert read(statistics.series, Kind.ALL, "", DAY, range(day, day + 3 * DAY, DAY)) == {
        day: (6, 0, 0, 0, 2), day + DAY: (1, 1, 0, 0, 1),
    }  # fmt: skip
    assert read(statistics.series, Kind.USER, "u1", HOUR, range(START - HOUR, START + 9 * HOUR, HOUR)) == {
        START: (3, 0, 0, 0, 0), START + HOUR: (1, 0, 0, 0, 0),
    }  # fmt: skip
    assert read(statistics.by_type, DAY, day, day + DAY) == {day: {"14": 3, "15": 2, "16": 1}}
    assert read(statistics.top, Kind.USER, DAY, day, day + 2 * DAY, 2) == [("u1", 4), ("u2", 1)]
    assert read(statistics.top, Kind.GROUP, HOUR, START, START + HOUR, 9) == [("GC_a", 1)]
    assert read(statistics.new_users, DAY, day, day + 2 * DAY) == {day: 2, day + DAY: 1}
    assert read(statistics.series, Kind.GROUP, "GC_a", DAY, [day]) == {day: (2, 0, 0, 0, 2)}
    assert read(statistics.in_groups, "u1", DAY, day, day + DAY) == {day: 1}
    assert read(statistics.in_groups, "u", HOUR, day, day + DAY) == {}
    assert read(statistics.active, DAY, day, day + DAY) == 2 and read(statistics.active, HOUR, day, day + 9 * DAY) == 3
    assert read(statistics.new_users, HOUR, START, START + 2 * HOUR) == {START: 2}


def test_reports_count_once_however_they_come(archive: Archive) -> None:
    hour = int(time.time()) // HOUR * HOUR
    reports = [("edge-1/a", n) for n in (5, 9, 12)] + [("edge-1/b", 3), ("edge-2/c", 40)]
    for source, total in random.Random(8).choices(reports, k=40) + reports:
        archive.write(statistics.report, source, [(hour, "delivered", total), (hour - HOUR, "slow", 1)])
    found = archive.read(statistics.outcomes, HOUR, hour - HOUR, hour + HOUR)
    assert found == {hour: {"delivered": 12 + 3 + 40}, hour - HOUR: {"slow": 3}}
