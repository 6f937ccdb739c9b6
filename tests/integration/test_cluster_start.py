"""Processes that start while a master of a Cluster is down: the other shards are served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from packs.ids import single_session
from store.keys import Keys
from store.slots import key_slot
from tests.controls import send, stored
from tests.redis_cluster import Master, RedisCluster
from tests.system import System, running, topology_text
from tests.waiting import wait_until

KEYS = Keys(64)


def shard_on(cluster: RedisCluster, masters: list[Master], names: Iterator[tuple[str, str]]) -> tuple[str, str]:
    """Two users who lie, as does what they say, on some of these masters."""

    def there(a: str, b: str) -> bool:
        tags = (KEYS.user_tag(a), KEYS.user_tag(b), KEYS.session_tag(single_session(a, b)))
        return all(cluster.owner(key_slot(tag)) in masters for tag in tags)

    return next((a, b) for a, b in names if there(a, b))


def test_a_process_that_starts_while_a_master_is_down_serves_the_others(
    tmp_path: Path, user: Callable[[], str]
) -> None:
    cluster = RedisCluster(tmp_path)
    try:
        cluster.start()
        with running(topology_text(tables={"store": {"redis": cluster.url}})) as system:
            check(system, cluster, user)
    finally:
        cluster.stop()


def check(system: System, cluster: RedisCluster, user: Callable[[], str]) -> None:
    alive, dead = cluster.masters[:2], cluster.masters[2]
    names = ((f"well{n}", f"well{n}b") for n in count())
    alice, bob = shard_on(cluster, alive, names)
    before = send(system.client(alice), bob, "before")
    dead.kill()
    for process in system.status():
        system.kill(process)
    system.wait_serving()
    assert "the store was not checked as a whole" in system.log
    again = system.client(alice)
    after = send(again, bob, "after")
    assert [m.seq_id for _, m in stored(again, after.session)] == [after.seq, before.seq]
    dead.start()
    wait_until(cluster.agreed, "the Cluster to be whole", 20)
    a, b = shard_on(cluster, [dead], ((user(), user()) for _ in count()))
    message = send(system.client(a), b, "whole again")
    assert [m.seq_id for _, m in stored(system.client(b), message.session)] == [message.seq]
