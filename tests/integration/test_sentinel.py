"""Redis behind a sentinel: the master dies, its replica takes over, and what waited is done there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.loop import post
from store import redis as engine
from store.address import Address, SentinelAddress
from store.client import wait_until_ready
from store.connect import connect
from store.connection import query
from store.errors import StoreRefused
from store.scripts import ALL
from store.sessions import STORED
from store.settings import redis_server
from tests.integration.test_redis_client import commit, make_sessions, message
from tests.system import free_port
from tests.waiting import wait_until


def place(port: int) -> Address:
    return Address("", "127.0.0.1", port, "", "", 0)


def answers(port: int) -> bool:
    try:
        return query(place(port), ("PING",)) == [b"PONG"]
    except (OSError, StoreRefused):
        return False


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[SentinelAddress, subprocess.Popen[bytes], int]]:
    """The address, the master's process, and the port of its replica."""
    master, replica, sentinel = (free_port() for _ in range(3))
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    server = redis_server() or ""
    common = [server, "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), "--repl-diskless-sync-delay", "0"]
    commands = [
        [*common, "--port", str(master)],
        [*common, "--port", str(replica), "--replicaof", "127.0.0.1", str(master)],
        [server, str(config), "--sentinel"],
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command, port in zip(commands, (master, replica, sentinel), strict=True):
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            wait_until(lambda p=port: answers(p), "the server to answer", 20)  # type: ignore[misc]
        yield SentinelAddress((place(sentinel),), "main", place(0)), processes[0], replica
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_client_follows_a_failover(
    watched: tuple[SentinelAddress, subprocess.Popen[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "DEADLINE", 30.0)
    address, master, replica = watched
    client = connect(address, ALL)
    try:
        wait_until_ready(client, 20)
        sessions = make_sessions(client)
        commit(sessions, message("SC_a_b", "a", "1"))
        wait_until(lambda: query(place(replica), ("DBSIZE",))[0] > 0, "the replica to have it", 20)
        wait_until(
            lambda: b"slaves=1" in query(address.sentinels[0], ("INFO", "sentinel"))[0], "the sentinel to know it", 30
        )
        master.kill()
        outcome: list[Any] = []
        post(sessions.commit, [message("SC_a_b", "a", "2")], False, lambda found, error: outcome.append(error or found))
        wait_until(lambda: outcome, "the message to be stored", 30)
        assert outcome[0][0].status == STORED
        assert query(place(replica), ("ROLE",))[0][0] == b"master"
    finally:
        client.close()
