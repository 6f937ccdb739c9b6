"""Monitors: the statistics socket, as the docs describe it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gevent
import zmq.green as zmq

from tests.system import System
from tests.waiting import wait_until


def test_every_node_publishes_its_counters_every_second(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    sender = system.client(alice)
    assert sender.text(bob, "x").error_code.code == 0
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        for process in system.status().values():
            socket.connect(process["stats"])
        socket.subscribe(b"stats.")
        seen: dict[str, dict[str, Any]] = {}

        def take() -> bool:
            try:
                topic, body = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            seen[topic.decode()] = json.loads(body)
            return {"stats.process", "stats.broker", "stats.chat", "stats.user", "stats.history"} <= seen.keys()

        wait_until(take, "statistics of every node", 10)
    finally:
        socket.close(0)
        context.destroy(0)
    assert seen["stats.chat"]["counters"]["messages"] >= 1
    assert seen["stats.user"]["counters"]["logins"] >= 1
    assert seen["stats.broker"]["gauges"]["connections"] >= 1
    process = seen["stats.process"]
    assert {"process", "host", "time", "node", "counters", "gauges", "histograms"} == process.keys()
    assert process["gauges"]["rss_bytes"] > 1_000_000 and process["gauges"]["hub_lag_seconds"] >= 0


def test_several_clients_of_one_program_ask_at_once(system: System) -> None:
    asking = [gevent.spawn(system.serves) for _ in range(5)]
    gevent.joinall(asking, timeout=10, raise_error=True)
    assert [greenlet.value for greenlet in asking] == [True] * 5
