"""A closed loop of greenlets that call: the same load for the mesh and for zerorpc."""

from __future__ import annotations

import time
from collections.abc import Callable
from os import getpid

import gevent

from bench.measure import Clock, Outcome, percentile

BLOB_BYTES = 100
WARM_UP_SECONDS = 0.1


def blob(number: int) -> bytes:
    """What waiter `number` sends and must get back: no two are equal."""
    return number.to_bytes(4, "big") * (BLOB_BYTES // 4)


def run(call: Callable[[bytes], bytes], waiters: int, seconds: float, server: int) -> Outcome:
    """Have `waiters` greenlets do `call(blob)` over and over, for `seconds` after a warm-up. `server` is a pid."""
    latencies: list[float] = []
    wrong = 0
    running = True
    read = time.perf_counter

    def wait(number: int) -> None:
        nonlocal wrong
        mine = blob(number)
        while running:
            begun = read()
            try:
                good = call(mine) == mine
            except Exception as error:  # whatever it is, it is counted and told
                good = False
                print(f"waiter {number}: {error!r}", flush=True)
            if not good:
                wrong += 1
            latencies.append(read() - begun)

    greenlets = [gevent.spawn(wait, number) for number in range(waiters)]
    gevent.sleep(WARM_UP_SECONDS)
    latencies.clear()
    clock = Clock({"server": [server], "client": [getpid()]})
    gevent.sleep(seconds)
    elapsed, used, foreign = clock.stop()
    counted = latencies.copy()
    running = False
    gevent.joinall(greenlets)
    return Outcome(
        len(counted), wrong, elapsed, used["server"], used["client"], foreign,
        percentile(counted, 0.5), percentile(counted, 0.99),
    )  # fmt: skip
