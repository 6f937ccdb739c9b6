"""Faults of the archive: whatever dies, and however long SQL is away, in the end it has the hot history row by row."""

from __future__ import annotations

import random
import signal
import sqlite3
from collections.abc import Callable, Iterator

import gevent
import pytest

from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, DUP
from tests import archives
from tests.controls import DELETE, OVERRIDE, REVOKE, Sent, control
from tests.integration.test_olap import archive_of, describe, server_of
from tests.integration.test_one_history import KEYS, fill, seqs
from tests.mariadb import MariaDB
from tests.raw import Raw, code
from tests.system import System, running, topology_text
from tests.waiting import wait_until

ROUNDS = 12
PIPELINED = 12


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
                answer.error_code = s.SUCCESS
                found[name] = Sent(answer, name)
        left, flags = [name for name in left if name not in found], COUNTER | DUP
    return [found[name] for name in names]


def equal(system: System) -> None:
    """Wait until the archive is the hot history: nothing missing, nothing else, nothing more."""
    hot = archives.hot_rows(server_of(system))

    def same() -> bool:
        cold = archives.cold_rows(archive_of(system), system.data)
        return cold.keys() == hot.keys() and not archives.differences(hot, cold)

    wait_until(same, "the archive equals the hot history", 40)


@pytest.mark.seconds(120)
def test_sigkill_of_olap_mariadb_and_redis_at_random(on_mariadb: System, own_mariadb: MariaDB) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    system, raw = on_mariadb, on_mariadb.client("ann")

    def kill_mariadb() -> None:
        own_mariadb.signal(signal.SIGKILL)
        own_mariadb.start()

    def harm() -> None:
        for _ in range(ROUNDS // 2):
            gevent.sleep(rng.uniform(0.0, 0.4))
            rng.choice([lambda: system.kill("cold-1"), kill_mariadb, lambda: system.kill("redis")])()
            system.wait_serving()

    harming = gevent.spawn(harm)
    sent: list[Sent] = []
    n = 0
    while not harming.ready() or n < ROUNDS:
        n += 1
        sent += say(raw, rng.choice(["ben", "cat", "dan"]), PIPELINED, f"r{n}")
        message = rng.choice(sent)
        assert control(raw, message, rng.choice([REVOKE, OVERRIDE, DELETE]), "changed") in (0, 6, 7, 44)
        if len(sent) > 1200:
            break
    harming.get()
    equal(system)
    assert {(m.session, m.seq) for m in sent} == set(archives.hot_rows(server_of(system)))
    assert "set aside" not in system.log


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
        wait_until(lambda: sum(server.xlen(key) for key in server.scan_iter("{s*}:log")) >= 50, "rows wait")
        status = lambda: system.status()["all-1"]["nodes"]["olap"]  # noqa: E731
        wait_until(lambda: "locked" in status().get("trouble", ""), "status tells of it", 20)
        assert seqs(raw, sent[0].session)[:50] == [m.seq for m in sent[::-1]]
        lock.execute("COMMIT")
        lock.close()
        equal(system)
        assert "the loop is blocked" not in system.log
