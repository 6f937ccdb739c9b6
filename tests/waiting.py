"""Waiting for conditions, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")
LEAST_PAUSE, MOST_PAUSE = 0.01, 0.2
"""Seconds between two looks at a condition."""


def wait_until(condition: Callable[[], T], why: str, seconds: float = 10.0) -> T:
    """Poll `condition` until it is true and return its value; fail with `why` after `seconds`."""
    limit = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        answered = time.monotonic()
        if answered > limit:
            raise AssertionError(f"after {seconds} s still not: {why}")
        gevent.sleep(min(max(LEAST_PAUSE, answered - asked), MOST_PAUSE))  # what takes long is asked less often
