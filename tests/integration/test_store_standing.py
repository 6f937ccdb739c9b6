"""What other systems are told of is written by the scripts that do it, and nothing is told twice."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.loop import wait_for
from packs import structs as s
from packs.message import stored_payload
from store.controls import Controls, Reading
from store.devices import Devices, record
from store.entries import tail
from store.groups import Groups
from store.keys import Keys
from store.leases import Leases
from store.log import HOOKS, Consumer, noted_of
from store.redis import Redis
from store.sessions import Message, Sessions
from store.standing import Standing
from store.users import Users
from tests.waiting import wait_until

KEYS = Keys(4)


class Told:
    """What a consumer of the log is told, oldest first in each shard."""

    def __init__(self, redis: Redis) -> None:
        self._consumer = Consumer(redis, KEYS.session_tags() + KEYS.user_tags(), HOOKS, "x", keep_seconds=600.0)
        self._consumer.open()

    def __call__(self) -> list[tuple[str, bytes]]:
        rows = self._consumer.read(100)
        self._consumer.ack(rows)
        return [(noted.type, noted.data) for row in rows if (noted := noted_of(row)) is not None]


@pytest.fixture
def told(redis: Redis) -> Told:
    return Told(redis)


def enter(redis: Redis, user: str, device_type: int, connection: str, told: bool = True) -> int:
    users = Users(redis, redis, KEYS, told=told)
    logins = [(user, device_type, record("d", "n", connection), 0)]
    return wait_for(lambda done: users.enter(logins, done))[0]  # type: ignore[no-any-return]


def leave(redis: Redis, *ended: Any) -> None:
    devices = Devices(redis, redis, KEYS, told=True)
    wait_for(lambda done: devices.left([ended], done))


def online(user: str, device_type: int) -> tuple[str, bytes]:
    return "user.online", b'{"user_id":"%b","device_type":%d}' % (user.encode(), device_type)


def offline(user: str, device_type: int, seen: int, logged_out: bool = False) -> tuple[str, bytes]:
    data = b'{"user_id":"%b","device_type":%d,"last_seen":%d,"logged_out":%b}'
    return "user.offline", data % (user.encode(), device_type, seen, b"true" if logged_out else b"false")


def test_logins_and_their_ends_are_told_once_each(redis: Redis, told: Told) -> None:
    first = enter(redis, "ann", 1, "edge-1/a/1")
    assert told() == [online("ann", 1)]
    for _ in range(2):
        leave(redis, "ann", 1, first, 7, True, "edge-1/a/1")
    assert told() == [offline("ann", 1, 7, logged_out=True)]
    second = enter(redis, "ann", 1, "edge-1/a/2")
    enter(redis, "ann", 5, "edge-1/a/3")
    enter(redis, "ann", 1, "edge-1/a/4")
    leave(redis, "ann", 1, second, 8, False, "edge-1/a/2")  # another took its place
    types = [(kind, b'"device_type":1' in data) for kind, data in told()]
    assert types == [
        ("user.online", True), ("user.online", False), ("user.offline", True), ("user.online", True),
    ]  # fmt: skip
    leave(redis, "ann", 1, 0, 9, False, "edge-1/a/2")
    assert told() == []
    leave(redis, "ann", 1, 0, 10, False, "edge-1/a/4")
    assert told() == [offline("ann", 1, 10)]
    assert [d.left for d in Devices(redis, redis, KEYS).of("ann")] == [10, 0]
    enter(redis, "bob", 1, "edge-1/a/5", told=False)
    assert told() == []


def test_logins_at_a_dead_broker_end(redis: Redis, told: Told) -> None:
    standing = Standing(redis, KEYS)
    enter(redis, "ann", 1, "edge-1/old/1")
    enter(redis, "bob", 1, "edge-1/new/1")
    made = enter(redis, "cat", 1, "edge-1/unheard/1") // 1000
    brokers = standing.note(["edge-1/old", "edge-1/new"], {})
    assert brokers.last == {"edge-1/old": brokers.now, "edge-1/new": brokers.now}
    told()
    assert standing.end({"edge-1/new"}, brokers, made - 60_000) == 1  # the other may not have been noted yet
    assert told() == [offline("ann", 1, brokers.now)]
    assert standing.end({"edge-1/new"}, brokers, brokers.now) == 1
    assert told() == [offline("cat", 1, made)]
    assert standing.end({"edge-1/new"}, brokers, brokers.now) == 0
    assert set(standing.note([], {"edge-1/old": brokers.now, "edge-1/new": 1}).last) == {"edge-1/new"}


def test_reads_are_told_in_order_with_what_is_stored(redis: Redis, told: Told) -> None:
    sessions = Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=0)
    entry = tail(14, 4, "p1", stored_payload(s.MsgReq(content="x")))
    message = Message("SC_a_b", "a", "", "p1", b"crc.", True, entry)
    (stored,) = wait_for(lambda done: sessions.commit([message], False, done))
    controls = Controls(redis, KEYS, dedup_seconds=3600, told=True)
    for _ in range(2):
        wait_for(lambda done: controls.read([Reading("SC_a_b", False, "b", stored.seq)], done))
    assert told() == [("message.read", b'{"session_id":"SC_a_b","user_id":"b","seq_id":%d}' % stored.seq)]


def test_changes_of_groups_are_told_when_they_change_something(redis: Redis, told: Told) -> None:
    groups = Groups(redis, redis, KEYS, remember_seconds=60)
    for _ in range(2):
        groups.create("GC_1", "a", ["a", "b"], limit=3, mode=0, name="g", event=("1", b"created"))
        groups.join("GC_1", "a", ["b", "c"], event=("2", b"joined"))
    groups.join("GC_1", "a", ["d"], event=("3", b"one too many"))
    groups.quit("GC_1", "a", ["c", "d"], event=("4", b"left"))
    groups.quit("GC_1", "a", ["c"], event=("5", b"left already"))
    groups.update("GC_1", "b", {"name": "x"}, event=("6", b"not the owner"))
    groups.update("GC_1", "a", {"name": "x"}, event=("7", b"info"))
    groups.hand_over("GC_1", "a", "b", event=("8", b"owner"))
    groups.dismiss("GC_1", "b", event=("9", b"dismissed"))
    groups.dismiss("GC_1", "b", event=("10", b"dismissed already"))
    groups.create("GC_1", "b", ["b"], limit=3, mode=0, name="g")  # nobody is told
    expected = [b"created", b"joined", b"left", b"info", b"owner", b"dismissed"]
    assert told() == [("group.changed", data) for data in expected]


def test_a_lease_has_one_holder(redis: Redis) -> None:
    leases = Leases(redis)
    assert [leases.take("x", "a", 60), leases.take("x", "b", 60), leases.take("x", "a", 0.001)] == [1, 0, 1]
    leases.release("x", "b")
    wait_until(lambda: leases.take("x", "b", 60), "the lease to end")
    leases.release("x", "b")
    assert leases.take("x", "a", 60)
