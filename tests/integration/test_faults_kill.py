"""Any process dies at any instant, under load of 100 clients, and no promise is broken.

`FAULT_KILLS=100 pytest tests/integration/test_faults_kill.py` kills for longer.
"""

from __future__ import annotations

import os
import random
import signal
import time

import gevent
import pytest

from client.client import Client
from client.errors import ClientError
from tests.integration.launching import is_running
from tests.load import Load
from tests.system import ERRORS, System, free_port, running, topology_text
from tests.waiting import wait_until

KILLS = int(os.environ.get("FAULT_KILLS", 10))
"""In each layout; every process once at least."""
WHOLE_SECONDS = 20.0


def topology(layout: str, port: int, **counts: int) -> str:
    return topology_text(layout, counts=counts, tables={"node.broker": {"listen": f"127.0.0.1:{port}"}})


def works(address: str, name: str) -> bool:
    """Whether somebody new can log in and send."""
    try:
        with Client(address, name).connect(timeout=8) as client:
            return client.send(f"{name}-peer", "x", timeout=8) is not None
    except ClientError:
        return False


def whole_again(system: System, address: str, name: str, since: float) -> float:
    """Wait until every process serves and somebody new can log in and send; seconds since `since`."""
    system.wait_serving()
    wait_until(lambda: works(address, name), "a login and a message to work")
    return time.monotonic() - since


@pytest.mark.seconds(60 + 8 * KILLS)
@pytest.mark.parametrize("layout", ["default", "split"])
def test_any_process_killed_at_random(layout: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    port = free_port()
    address = f"127.0.0.1:{port}"
    slowest = 0.0
    with running(topology(layout, port)) as system:
        load = Load([address], pairs=50)
        load.start()
        wait_until(lambda: load.acked > 200, "the load to run")
        targets = [*system.status(), "redis"]
        plan = targets + [rng.choice(targets) for _ in range(KILLS - len(targets))]
        rng.shuffle(plan)
        for n, process in enumerate(plan):
            gevent.sleep(rng.uniform(0.05, 0.6))
            pid, before = system.pid(process), load.acked
            wait_until(lambda: load.in_flight, "messages to be under way")
            started = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            seconds = whole_again(system, address, f"probe{n}", started)
            slowest = max(slowest, seconds)
            assert seconds < WHOLE_SECONDS, f"{process}: whole again after {seconds:.1f} s"
            assert not is_running(pid)
            wait_until(lambda b=before: load.acked > b, "the load to go on")  # type: ignore[misc]
        broken = load.finish()
        load.close()
        assert not ERRORS.search(system.log), system.log
    print(f"{layout}: {len(plan)} kills with messages under way, {load.acked} acks, slowest {slowest:.1f} s")
    assert broken == []


def test_all_processes_at_once() -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    with running(topology("default", port)) as system:
        load = Load([address], pairs=20)
        load.start()
        wait_until(lambda: load.acked > 200, "the load to run")
        pids = [system.pid(p) for p in (*system.status(), "redis")]
        started = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert whole_again(system, address, "probe", started) < WHOLE_SECONDS
        before = load.acked
        wait_until(lambda: load.acked > before, "the load to go on")
        assert load.finish() == []
        load.close()
