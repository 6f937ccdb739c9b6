"""The client on a real Cluster of three masters: slots that move, and a master that dies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from mesh.loop import post, wait_for
from store import away
from store import redis as engine
from store.client import Client, wait_until_ready
from store.connect import connect
from store.errors import StoreUnavailable
from store.keys import Keys
from store.log import ARCHIVE, Consumer
from store.scripts import ALL
from store.sessions import REPEATED, STORED, Sessions
from store.slots import key_slot
from store.users import Users
from tests.integration.test_redis_client import commit, make_sessions, message, page
from tests.redis_cluster import Master, RedisCluster
from tests.waiting import wait_until

KEYS = Keys(64)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    found = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def client(cluster: RedisCluster) -> Iterator[Client]:
    made = connect(cluster.address, ALL)
    wait_until_ready(made, 20)
    yield made
    made.close()


def slot_of(session: str) -> int:
    return key_slot(KEYS.history(session))


def session_on(cluster: RedisCluster, master: Master, name: str) -> str:
    """A session of a shard that lies on this master."""
    return next(s for n in range(200) if cluster.owner(slot_of(s := f"SC_{name}_{n}")) is master)


class Writer:
    """Stores messages of a session one after another, several under way at once, without pause."""

    def __init__(self, sessions: Sessions, session: str) -> None:
        self.sessions = sessions
        self.session = session
        self.outcomes: list[Any] = []
        self.sent = 0
        self._running = True
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while self._running:
            if self.sent - len(self.outcomes) < 8:
                post(self.sessions.commit, [message(self.session, "a", f"p{self.sent}")], False, self._came)
                self.sent += 1
            gevent.sleep(0.001)

    def _came(self, found: Any, error: Exception | None) -> None:
        self.outcomes.append(error or found[0])

    def finish(self) -> None:
        """Stop, and check that everything was stored once and in order."""
        self._running = False
        self._greenlet.join()
        wait_until(lambda: len(self.outcomes) == self.sent, "all outcomes")
        assert [o for o in self.outcomes if isinstance(o, Exception) or o.status not in (STORED, REPEATED)] == []
        numbers = [o.seq for o in self.outcomes]
        assert numbers == sorted(set(numbers))
        stored = page(self.sessions, self.session, count=100_000)[::-1]
        assert [e.pack_id for e in stored] == [f"p{n}" for n in range(self.sent)]
        assert [e.prev for e in stored] == [0, *numbers[:-1]]


def test_a_slot_that_moves_under_load_loses_doubles_and_swaps_nothing(cluster: RedisCluster, client: Client) -> None:
    sessions = make_sessions(client)
    session = session_on(cluster, cluster.masters[0], "move")
    writer = Writer(sessions, session)
    for target in (1, 2, 0):
        before = len(writer.outcomes)
        wait_until(lambda b=before: len(writer.outcomes) > b + 50, "messages to flow")  # type: ignore[misc]
        cluster.move(slot_of(session), cluster.masters[target])
    before = len(writer.outcomes)
    wait_until(lambda: len(writer.outcomes) > before + 50, "messages to flow again")
    writer.finish()
    assert cluster.owner(slot_of(session)) is cluster.masters[0]


def test_half_moved_keys_are_not_written_to_and_single_ones_are_read_where_they_are(
    cluster: RedisCluster, client: Client
) -> None:
    sessions = make_sessions(client)
    source, target = cluster.masters[1], cluster.masters[2]
    session = session_on(cluster, source, "half")
    slot = slot_of(session)
    commit(sessions, message(session, "a", "1"))
    cluster.begin_move(slot, source, target)
    source.ask("MIGRATE", "127.0.0.1", target.port, KEYS.history(session), 0, 5000)
    assert client.ask("ZCARD", KEYS.history(session)) == 1  # ASK was followed
    later: list[Any] = []
    post(sessions.commit, [message(session, "a", "2")], False, lambda found, error: later.append(error or found[0]))
    post(client.command, lambda reply, error: later.append(error or reply), "ZCARD", KEYS.history(session))
    gevent.sleep(0.2)
    assert later == []  # neither ran on half of the keys, nor did what came behind it overtake
    while cluster.move_keys(slot, source, target):
        pass
    cluster.end_move(slot, source, target)
    wait_until(lambda: len(later) == 2, "both to run")
    assert later[0].status == STORED and later[1] == 2
    assert [e.pack_id for e in page(sessions, session)] == ["2", "1"]


def test_only_the_sessions_of_a_dead_master_suffer(
    cluster: RedisCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = make_sessions(client)
    dead, alive = cluster.masters[2], cluster.masters[0]
    hurt, well = session_on(cluster, dead, "hurt"), session_on(cluster, alive, "well")
    commit(sessions, message(hurt, "a", "0"))
    monkeypatch.setattr(engine, "DEADLINE", 0.5)
    dead.kill()
    outcome: list[Any] = []
    post(sessions.commit, [message(hurt, "a", "1")], False, lambda found, error: outcome.append(found or error))
    assert [s.status for s in commit(sessions, message(well, "a", "1"))] == [STORED]
    wait_until(lambda: outcome, "the other one to fail")
    assert isinstance(outcome[0], StoreUnavailable)
    monkeypatch.setattr(engine, "DEADLINE", 20.0)
    post(sessions.commit, [message(hurt, "a", "2")], False, lambda found, error: outcome.append(found or error))
    dead.start()
    wait_until(lambda: len(outcome) == 2, "the sessions to be there again", 20)
    assert outcome[1][0].status == STORED
    wait_until(cluster.agreed, "the Cluster to be whole", 20)
    assert "0" in [e.pack_id for e in page(sessions, hurt)]


def test_the_log_of_the_shards_that_are_there_is_drained(
    cluster: RedisCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "DEADLINE", 0.5)
    monkeypatch.setattr(away, "AWAY_SECONDS", 1.0)
    sessions = make_sessions(client)
    consumer = Consumer(client, KEYS.session_tags(), ARCHIVE, "c", keep_seconds=0, idle=0.1)
    consumer.open("$")
    dead, alive = cluster.masters[1], cluster.masters[0]
    hurt, well = session_on(cluster, dead, "log_hurt"), session_on(cluster, alive, "log_well")
    for session in (hurt, well):
        for n in range(60):
            commit(sessions, message(session, "a", f"{session} {n}"))
    given = consumer.read(40)  # some of both, whatever each has
    assert len(given) == 40 and len({row.tag for row in given}) == 2
    dead.kill()
    consumer.ack(given)
    done = {row.id for row in given if row.tag == KEYS.session_tag(well)}
    while len(done) < 60:
        rows = consumer.read(1000)
        assert {row.tag for row in rows} <= {KEYS.session_tag(well)}
        consumer.ack(rows)
        done |= {row.id for row in rows}
    dead.start()
    wait_until(cluster.agreed, "the Cluster to be whole", 20)
    again: set[bytes] = set()

    def drained() -> bool:
        rows = consumer.read(1000)
        consumer.ack(rows)
        again.update(row.id for row in rows)
        return len(again) == 60 and consumer.trim().groups[ARCHIVE].pending == 0

    wait_until(drained, "the rest", 20)


def test_a_key_is_found_wherever_it_stands_in_a_command(cluster: RedisCluster, client: Client) -> None:
    for number in range(6):
        stream = f"{{x{number}}}:stream"
        client.ask("XGROUP", "CREATE", stream, "g", "0", "MKSTREAM")
        client.ask("XADD", stream, "*", "f", number)
        ((name, rows),) = client.ask("XREADGROUP", "GROUP", "g", "c", "COUNT", 10, "STREAMS", stream, ">")
        assert (name.decode(), len(rows)) == (stream, 1)
        assert client.ask("XINFO", "GROUPS", stream)
    assert all(server.connected for server in client.servers())


def test_what_asks_several_shards_gets_its_answers_in_order(cluster: RedisCluster, client: Client) -> None:
    sessions = make_sessions(client)
    names = [f"SC_many_{n}" for n in range(30)]
    for name in names:
        commit(sessions, message(name, "a", name))
    assert len({cluster.owner(slot_of(name)).port for name in names}) == 3
    seen: list[Any] = []
    post(sessions.overview, "a", [(name, 1) for name in names], lambda found, error: seen.append(error or found))
    wait_until(lambda: seen, "the overview")
    assert [(o.session, o.newest.pack_id) for o in seen[0]] == [(name, name) for name in names]
    users = Users(client, client, KEYS)
    given = [wait_for(lambda done, n=n: users.enter([(n, 1, b"", 0)], done))[0] for n in names]
    assert wait_for(lambda done: users.numbers([(name, 1) for name in names], done)) == given
