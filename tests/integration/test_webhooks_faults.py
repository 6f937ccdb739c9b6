"""Webhooks when those who tell die, on a Cluster: two nodes take turns, and whoever is gone is told of as gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from tests.integration.test_olap import server_of
from tests.raw import code
from tests.receiver import FAILS, TAKES, Receiver, Sent
from tests.redis_cluster import RedisCluster
from tests.system import COLD, System, running, topology_text
from tests.waiting import wait_until
from tests.web import Web

LAYOUT = {
    "edge": ["broker"], "core": ["user", "http", "chat", "group", "history", "msgop"], "cold": COLD, "hooks": ["hooks"],
}  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.go()


@pytest.fixture
def system(receiver: Receiver, cluster: RedisCluster) -> Iterator[System]:
    tables: dict[str, dict[str, Any]] = {
        "store": {"redis": cluster.url},
        "mesh": {"heartbeat": 0.25, "lost_after": 1.0},
        "hooks.endpoint.all": {"url": f"{receiver.url}/all", "private": True, "timeout": 1.0},
    }
    with running(topology_text(LAYOUT, {"hooks": 2}, tables)) as found:
        receiver.secrets["/all"] = found.run("webhook", "secret", "all").stdout.strip()
        yield found
    assert not receiver.forged


def told_of(receiver: Receiver, user: str) -> list[str]:
    """Whether a user came or went, each login once, in order."""
    return [e["type"] for e in receiver.of("user.online", "user.offline") if e["data"]["user_id"] == user]


def holders(system: System) -> set[str]:
    """The processes that feed and deliver."""
    found = server_of(system).mget("imesh:{lease}:hooks", "imesh:{lease}:endpoint:all")
    return {name.decode() for name in found if name is not None}


def keep_dead(system: System, process: str, until: Callable[[], Any]) -> None:
    """SIGKILL a process as often as it is started again, until somebody else does its work."""

    def done() -> bool:
        system.kill_if_there(process)
        return bool(until())

    wait_until(done, f"another to do the work of {process}", 40)


@pytest.mark.seconds(120)
def test_two_hooks_nodes_lose_nothing_when_one_is_killed(system: System, receiver: Receiver) -> None:
    web = Web(system.http(), system.first_key)
    sent = Sent(web, receiver)
    raw = system.client("bob")
    ack = raw.text("ann", "x")
    assert code(system.client("ann").ask(t.MSG_READ, s.MsgReaded(session_id=ack.session_id, seq_id=ack.seq_id))) == 0
    sent.seqs[ack.session_id].append(ack.seq_id)
    sent.send(3)
    sent.wait_told("the first to be told")
    wait_until(lambda: told_of(receiver, "bob") == ["user.online"], "that bob came")

    dan = system.client("dan")
    for _ in range(5):
        ack = raw.text("dan", "x")
        sent.seqs[ack.session_id].append(ack.seq_id)
        assert code(dan.ask(t.MSG_READ, s.MsgReaded(session_id=ack.session_id, seq_id=ack.seq_id))) == 0
    system.kill("core-1")  # which moved his position just now
    system.wait_serving()
    web.address = system.http()

    system.kill("edge-1")  # with bob's connection, and whoever would say that it ended
    receiver.telling = FAILS
    sent.send(4)
    first = holders(system)
    assert first <= {"hooks-1", "hooks-2"} and first
    for process in first:
        keep_dead(system, process, lambda p=process: p not in holders(system) and holders(system))  # type: ignore[misc]
    receiver.telling = TAKES
    sent.send(2)
    sent.wait_told("all to be told by the other")

    (holder, *_) = holders(system)
    system.wait_serving()
    os.kill(system.pid(holder), signal.SIGSTOP)  # it does not know that it is taken for dead
    try:
        sent.send(3)
        sent.wait_told("all to be told while one stands still")
    finally:
        os.kill(system.pid(holder), signal.SIGCONT)
    sent.send(2)
    sent.wait_told("all to be told when it goes on")
    wait_until(lambda: told_of(receiver, "bob") == ["user.online", "user.offline"], "that bob went", 20)
    assert told_of(receiver, "ann") == ["user.online", "user.offline"]
    assert [e["data"]["user_id"] for e in receiver.of("message.read")] == ["ann", *5 * ["dan"]]
