"""Processes that hang: they neither answer nor close, and come back later with what they had."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from client.client import Client
from packs import structs as s
from packs import table as t
from packs.flags import COUNTER
from tests.integration.test_faults_kill import topology
from tests.load import Load
from tests.system import free_port, running
from tests.waiting import wait_until

ANSWER_SECONDS = 5.5
"""The promise is 5 s; the rest is the test's own machine."""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("group", "layout"), [("chat", "split"), ("core", "edge and core"), ("user", "split")])
def test_one_of_two_instances_hangs_and_comes_back(group: str, layout: str) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    with running(topology(layout, port, **{group: 2})) as system:
        load = Load([address], pairs=20)
        load.start()
        wait_until(lambda: load.acked > 200, "the load to run")
        with stopped(system.pid(f"{group}-1")):
            for n in range(5):  # logins go on, also before it is given up
                started = time.monotonic()
                Client(address, f"new{n}").connect(timeout=ANSWER_SECONDS).close()
                assert time.monotonic() - started < ANSWER_SECONDS
            wait_until(lambda: "reason=silent" in system.log, "it to be given up")
            before = load.acked
            wait_until(lambda: load.acked > before + 300, "the other instance to take over", 15)
        system.wait_serving()
        assert load.finish() == []
        load.close()


@pytest.mark.parametrize("seconds", [1.5, 7.0])
def test_redis_hangs(seconds: float) -> None:
    """Each request has one answer within 5 s, and after it came back order holds."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with running(topology("default", port)) as system:
        load = Load([address], pairs=10)
        load.start()
        wait_until(lambda: load.acked > 200, "the load to run")
        raw = system.client("waiting")
        with stopped(system.pid("redis")):
            ends = time.monotonic() + seconds
            started = time.monotonic()
            ids = [
                raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to="x", content=str(n)), f"w{n}", COUNTER) for n in range(5)
            ]
            codes = []
            if seconds > ANSWER_SECONDS:
                codes = [raw.answer(pack_id).error_code.code for pack_id in ids]
                assert time.monotonic() - started < ANSWER_SECONDS
                assert set(codes) == {6}
            gevent.sleep(max(0.0, ends - time.monotonic()))
        if not codes:
            assert {raw.answer(pack_id).error_code.code for pack_id in ids} == {0}
            assert time.monotonic() - started < ANSWER_SECONDS
        assert raw.silent()  # no second answers
        assert load.finish() == []
        load.close()


def test_a_broker_hangs_and_its_clients_go_elsewhere() -> None:
    port = free_port()
    text = topology("split", port, broker=2).replace("[node.broker]", "[node.broker]\nheartbeat = 1.0")
    with running(text) as system:
        load = Load([f"127.0.0.1:{port}"], pairs=20)
        load.start()
        wait_until(lambda: load.acked > 200, "the load to run")
        with stopped(system.pid("broker-1")):
            # The kernel still gives new connections to the stopped one (they share a port), so some tries fail.
            before = load.acked
            wait_until(lambda: load.acked > before + 300, "others to go on", 15)
        assert load.finish(60) == []
        load.close()
