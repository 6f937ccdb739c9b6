"""Waiting for conditions, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def wait_until(condition: Callable[[], T], why: str, seconds: float = 10.0) -> T:
    """Poll `condition` until it is true and return its value; fail with `why` after `seconds`."""
    limit = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"after {seconds} s still not: {why}")
        gevent.sleep(0.01)
