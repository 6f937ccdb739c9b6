"""Faults of the archive: whatever dies, and however long SQL is away, in the end it has the hot history row by row."""

from __future__ import annotations

import json
import random
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator

import gevent
import pytest

from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, DUP
from store.entries import DELETED, OVERRIDDEN, REVOKED
from tests import archives
from tests.changes import Changes
from tests.controls import DELETE, OVERRIDE, REVOKE, Sent, control
from tests.integration.test_olap import archive_of, describe, server_of
from tests.integration.test_one_history import KEYS, fill, seqs
from tests.load import Load
from tests.mariadb import MariaDB
from tests.raw import Raw, code
from tests.system import System, running, topology_text
from tests.waiting import wait_until

PAIRS, CHANGERS, FLOOD = 4, 3, 800
KILLS = {"sqlite": ["cold-1"] * 3 + ["redis"] * 2, "mariadb": ["cold-1"] * 2 + ["redis"] + ["mariadb"] * 2}
PATIENCE_SECONDS = 40.0
STATES = {OVERRIDE: OVERRIDDEN, REVOKE: REVOKED, DELETE: DELETED}


@pytest.fixture
def on_mariadb(own_mariadb: MariaDB) -> Iterator[System]:
    """A system whose archive is a MariaDB that the test may kill."""
    with running(topology_text(tables={"store": {"archive": own_mariadb.url(), "hot_messages": 500}})) as made:
        yield made


def say(raw: Raw, to: str, count: int, tag: str) -> list[Sent]:
    """Messages that are sent until they are stored, as an SDK does."""
    names = [f"{tag}-{n}" for n in range(count)]
    left, flags = names, COUNTER
    found: dict[str, Sent] = {}
    while left:
        asked = [raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=to, content=name), name, flags) for name in left]
        for name, answer in zip(left, map(raw.answer, asked), strict=True):
            assert code(answer) in (0, 46, 6, 7), answer
            if code(answer) in (0, 46):
                found[name] = Sent(answer, name, unsure=True)
        left, flags = [name for name in left if name not in found], COUNTER | DUP
    return [found[name] for name in names]


def equal(system: System) -> archives.Rows:
    """Wait until the archive is the hot history: nothing missing, nothing else, nothing more; returns it."""
    hot = archives.hot_rows(server_of(system))
    cold: archives.Rows = {}

    def same() -> bool:
        cold.clear()
        cold.update(archives.cold_rows(archive_of(system), system.data))
        return cold == hot

    try:
        wait_until(same, "the archive equals the hot history", PATIENCE_SECONDS)
    finally:
        if cold != hot:
            print("only in the archive:", [(place, row) for place, row in cold.items() if place not in hot][:20])
            print("not, or not so, in the archive:", archives.differences(hot, cold))
            print("changed in Redis since:", archives.differences(hot, archives.hot_rows(server_of(system))))
    return hot


def flood(raw: Raw, to: str) -> None:
    """Many messages at once."""
    ids = [raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=to, content="x"), "", COUNTER) for _ in range(FLOOD)]
    assert {code(raw.answer(pack_id)) for pack_id in ids} == {0}


def kill(system: System, process: str, mariadb: MariaDB | None) -> None:
    """SIGKILL, and wait until it is there again."""
    if process == "mariadb":
        assert mariadb is not None
        mariadb.signal(signal.SIGKILL)
        mariadb.start()
        return
    before = system.kill(process)

    def reborn() -> bool:
        pid = system.find(process)
        known = process == "redis" or bool(re.search(rf" serving nodes=\S+ pid={pid}\n", system.log))
        return pid not in (0, before) and known

    wait_until(reborn, f"{process} serves again", PATIENCE_SECONDS)


@pytest.mark.seconds(180)
@pytest.mark.parametrize("kind", KILLS)
def test_whatever_is_killed_the_archive_equals_the_hot_history(kind: str, request: pytest.FixtureRequest) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    mariadb: MariaDB | None = request.getfixturevalue("own_mariadb") if kind == "mariadb" else None
    store = {"archive": mariadb.url() if mariadb else "embedded", "hot_messages": 100_000}
    with running(topology_text(tables={"store": store})) as system:
        load = Load([":".join(map(str, system.address()))], PAIRS, sdk=False)
        load.start()
        changes = [Changes(system.client, f"owner{n}", f"member{n}", random.Random(n + seed)) for n in range(CHANGERS)]
        raw = system.client("ann")
        for process in rng.sample(KILLS[kind], len(KILLS[kind])):
            archiver, acked, changed = system.pid("cold-1"), load.acked, sum(c.count for c in changes)
            system.signal(archiver, signal.SIGSTOP)
            flood(raw, "ben")
            system.signal(archiver, signal.SIGCONT)
            gevent.sleep(rng.uniform(0.0, 0.1))  # so much is in the log that it is hit in the midst of draining
            kill(system, process, mariadb)
            wait_until(lambda a=acked: load.acked > a, "messages go on", PATIENCE_SECONDS)  # type: ignore[misc]
            wait_until(lambda n=changed: sum(c.count for c in changes) > n, "changes go on", PATIENCE_SECONDS)  # type: ignore[misc]
        if mariadb:
            be_without(mariadb, system, load)
        server_of(system).xadd("{s01}:log", {"no": "message"})  # it is set aside, and holds up nobody
        for one in changes:
            one.stop()
        assert load.finish() == []
        load.close()
        rows = equal(system)
        assert len(rows) >= len(KILLS[kind]) * FLOOD + load.acked
        check_changes(system, rows, changes)
        found = json.loads(system.run("db", "status", "--json").stdout)
        assert found["set_aside"] == 1 and found["newest"][0]["tag"] == "{s01}", found


def be_without(mariadb: MariaDB, system: System, load: Load) -> None:
    """The server is killed, and comes back when everything hot has gone on for a while."""
    mariadb.signal(signal.SIGKILL)
    wait_until(lambda: "trouble" in describe(system), "status says that the archive waits", PATIENCE_SECONDS)
    acked = load.acked
    wait_until(lambda: load.acked > acked + 100, "messages go on", PATIENCE_SECONDS)
    wait_until(lambda: int(describe(system)["log"].split()[0]) > 100, "the log grows", PATIENCE_SECONDS)
    mariadb.start()


def check_changes(system: System, rows: archives.Rows, changes: list[Changes]) -> None:
    """Each message is as its last change left it, and the archive knows who made that."""
    operators = archives.operators(archive_of(system), system.data)
    for place, done in ((place, done) for one in changes for place, done in one.changed.items()):
        state, revision = rows[place][6:8]
        assert revision == len(done) and all(state & STATES[command] for command, _ in done), (rows[place], done)
        assert operators[place] == (done[-1][1] if done else ""), (operators[place], done)


@pytest.mark.seconds(120)
def test_while_sql_is_away_everything_hot_goes_on(on_mariadb: System, own_mariadb: MariaDB) -> None:
    raw = on_mariadb.client("ann")
    old = fill(raw, "old", 600)
    wait_trimmed_to(on_mariadb, old[0].session, 500)
    own_mariadb.signal(signal.SIGTERM)
    fresh = say(raw, "ben", 100, "fresh")
    assert control(raw, fresh[0], REVOKE) == control(raw, fresh[1], DELETE) == control(raw, old[-1], DELETE) == 0
    assert seqs(raw, fresh[0].session, 50) == [m.seq for m in fresh[::-1] if m is not fresh[1]]
    assert page_code(raw, old[0].session, old[0].seq) == 6  # what only the archive knows, never an empty page
    assert page_code(raw, old[0].session, 0) == 0
    wait_until(lambda: "trouble" in describe(on_mariadb), "status tells of it")
    on_mariadb.stop()  # nor does a restart change anything
    on_mariadb.launch()
    raw = wait_until(lambda: reconnected(on_mariadb), "clients can log in", 30)
    assert say(raw, "ben", 5, "later")
    own_mariadb.start()
    on_mariadb.wait_serving(60)
    hot = archives.hot_rows(server_of(on_mariadb))
    url, data = archive_of(on_mariadb), on_mariadb.data
    wait_until(lambda: not archives.differences(hot, archives.cold_rows(url, data)), "all is archived", 40)
    assert page_code(raw, old[0].session, old[0].seq) == 0
    wait_until(lambda: "trouble" not in describe(on_mariadb), "status tells of it")


def reconnected(system: System) -> Raw | None:
    """A client of a system of which not all serves."""
    try:
        return system.client("ann")
    except (AssertionError, OSError, IndexError, ValueError):
        return None


def wait_trimmed_to(system: System, session: str, count: int) -> None:
    server = server_of(system)
    wait_until(lambda: server.zcard(KEYS.history(session)) <= count, "the window")


def page_code(raw: Raw, session: str, below: int) -> int:
    return code(raw.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=below, count=10)))


@pytest.mark.seconds(60)
def test_a_locked_sqlite_stalls_no_node(user: Callable[[], str]) -> None:
    with running(topology_text({"all": ["broker", "user", "chat", "group", "history", "msgop", "olap"]})) as system:
        raw = system.client("ann")
        say(raw, "ben", 10, "before")
        lock = sqlite3.connect(system.data / "archive.db", timeout=10, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        sent = say(raw, "ben", 50, "locked")
        server = server_of(system)
        wait_until(lambda: sum(server.xlen(key) for key in server.scan_iter("{s*}:log")) >= 7, "50 messages wait")
        status = lambda: system.status()["all-1"]["nodes"]["olap"]  # noqa: E731
        wait_until(lambda: "locked" in status().get("trouble", ""), "status tells of it", 20)
        assert seqs(raw, sent[0].session)[:50] == [m.seq for m in sent[::-1]]
        lock.execute("COMMIT")
        lock.close()
        equal(system)
        assert "the loop is blocked" not in system.log
