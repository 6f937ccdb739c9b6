"""What follows the archiving of messages, while a master of a Cluster is down: it waits for the dead one alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import gevent
import pytest

from mesh.log import get_log
from mesh.loop import wait_for
from mesh.stats import Stats
from nodes.draining import Drain
from nodes.finishing import Finisher
from packs import structs as s
from packs.flags import COUNTER, HIGH_PRIORITY
from packs.ids import single_session
from packs.message import stored_payload
from store import away, marks
from store import redis as engine
from store.archive import migrations
from store.archive.database import Archive
from store.archive.url import parse_archive
from store.client import wait_until_ready
from store.entries import tail
from store.hot import HotStore
from store.log import ARCHIVE
from store.profiles import Profile
from store.sessions import Message
from store.settings import LEAST, StoreSettings
from store.slots import key_slot
from store.window import Window
from tests.integration.test_archive import seqs
from tests.redis_cluster import Master, RedisCluster
from tests.waiting import wait_until

WEEK = 604_800


@pytest.fixture
def store(cluster: RedisCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HotStore]:
    for module, name, seconds in ((engine, "DEADLINE", 0.5), (away, "AWAY_SECONDS", 1.0)):
        monkeypatch.setattr(module, name, seconds)
    made = HotStore(StoreSettings(redis=cluster.url), tmp_path, tmp_path, archived=True)
    for client in (made.writes, made.reads):
        wait_until_ready(client, 20)
    yield made
    made.close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(parse_archive(f"sqlite:///{tmp_path}/archive.db", tmp_path))
    made.write(migrations.migrate)
    yield made
    made.close()


def send(store: HotStore, sender: str, to: str, number: int, flags: int = COUNTER) -> int:
    """A message; its seqId."""
    session, pack_id = single_session(sender, to), f"p{number}"
    payload = stored_payload(s.MsgReq(session_id=session, sender=sender, to=to, content="x"))
    message = Message(session, sender, "", pack_id, b"crc.", True, tail(14, flags, pack_id, payload))
    (stored,) = wait_for(lambda done: store.sessions.commit([message], False, done))
    assert stored.seq, stored
    return int(stored.seq)


def pair(store: HotStore, cluster: RedisCluster, *, session: Master, to: Master, name: str) -> tuple[str, str]:
    """Two users: their session lies on one master, and the second of them on another."""

    def owner(tag: str) -> Master | None:
        return cluster.owner(key_slot(tag))

    return next(
        (a, b) for a, b in ((f"{name}{n}", f"{name}{n}b") for n in count())
        if owner(store.keys.session_tag(single_session(a, b))) is session and owner(store.keys.user_tag(b)) is to
    )  # fmt: skip


def test_a_dead_master_holds_up_nothing_of_the_others(
    cluster: RedisCluster, store: HotStore, archive: Archive
) -> None:
    dead, alive = cluster.masters[1], cluster.masters[0]
    hurt, well = (pair(store, cluster, session=m, to=m, name="x") for m in (dead, alive))
    crossing = pair(store, cluster, session=alive, to=dead, name="y")
    consumer = store.consumer(ARCHIVE, "c")
    consumer._idle_ms = 200
    consumer.open()
    for n in range(LEAST + 20):
        for a, b in (hurt, well):
            send(store, a, b, n)
    stats, things = Stats("olap"), partial(marks.read, store.reads, store.keys)
    drain = Drain(consumer, archive, None, stats, get_log("olap"), things, Finisher(store, stats).after)
    window = Window(store.reads, store.keys, LEAST, WEEK)
    drained = gevent.spawn(drain.run)
    wait_until(lambda: stats.counts["archived"] >= 2 * (LEAST + 20), "all to be archived")

    dead.kill()
    sessions = [single_session(*users) for users in (hurt, well)]
    assert window.trim(sessions) == 20
    assert window.trim(sessions) == 0
    store.profiles.put(well[1], Profile("well", "", "", 0))
    urgent = send(store, *crossing, 1, COUNTER | HIGH_PRIORITY)
    last = [send(store, *well, n) for n in range(100, 110)]
    wait_until(lambda: seqs(archive, sessions[1], count=10) == last[::-1], "what came since to be archived")
    wait_until(lambda: stats.counts["late"], "the urgent one to be put off")
    assert seqs(archive, single_session(*crossing)) == [urgent]
    assert drain.trouble == ""
    assert consumer.trim().groups[ARCHIVE].pending == 1
    swept = {window.sweep() for _ in range(20)}  # all servers have their turn, again and again
    assert swept <= {0, 10}

    dead.start()
    wait_until(cluster.agreed, "the Cluster to be whole", 20)
    wait_until(lambda: store.erasure.queued(crossing[1]), "it to be in the queue of whom it is for", 20)
    wait_until(lambda: consumer.trim().groups[ARCHIVE].pending == 0, "all to be done")
    wait_until(lambda: window.sweep() >= 20, "the window of its sessions to be cut", 20)
    drain.stop()
    drained.get(timeout=10)
