"""Rate limits in memory: so many events per second, and a burst of more at once.

A bucket holds `burst` tokens and is refilled evenly. It is kept as one number: the time from which on it is full again.
A bucket that nobody takes from is full, and a full one says nothing, so full ones are forgotten.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from mesh.loop import now

MAX_KEYS = 100_000
"""Keys kept; when there are more, full buckets are forgotten."""
IPV6_SITE = 64
"""Bits of an IPv6 address that count: one customer has all the others to himself."""


class Bucket:
    """One bucket. Costs 0.2 µs per event."""

    __slots__ = ("_full_at", "_span", "_step")

    def __init__(self, per_second: float, burst: int) -> None:
        """`per_second` 0: no limit."""
        self._step = 1 / per_second if per_second else 0.0  # seconds that a token needs to come back
        self._span = self._step * (burst - 1)  # how far ahead of the clock `_full_at` may be for one more
        self._full_at = 0.0

    def take(self, time: float) -> float:
        """Count an event at `time` (`now()` clock) and return 0; or the seconds to wait, and nothing is counted."""
        full_at = self._full_at
        if full_at < time:
            full_at = time
        wait = full_at - time - self._span
        if wait > 0:
            return wait
        self._full_at = full_at + self._step
        return 0.0

    def is_full(self, time: float) -> bool:
        return self._full_at <= time


class Buckets:
    """One bucket per key; a key that is not here has a full one."""

    def __init__(self, per_second: float, burst: int) -> None:
        """`per_second` 0: no limit."""
        self._step = 1 / per_second if per_second else 0.0
        self._span = self._step * (burst - 1)
        self._full_at: dict[str, float] = {}

    def wait(self, key: str) -> float:
        """Seconds until the next event of `key` is allowed; 0 when it is now."""
        return max(0.0, self._full_at.get(key, 0.0) - now() - self._span)

    def take(self, key: str) -> None:
        """Count an event, allowed or not."""
        time = now()
        self._full_at[key] = max(self._full_at.get(key, 0.0), time) + self._step
        if len(self._full_at) > MAX_KEYS:
            self._full_at = {k: at for k, at in self._full_at.items() if at > time}

    def ask(self, key: str) -> float:
        """Count an event if it is allowed; else the seconds to wait."""
        wait = self.wait(key)
        if not wait:
            self.take(key)
        return wait


@lru_cache(maxsize=4096)
def address_key(address: str, loopback: bool) -> str:
    """What an address is limited by: itself, or the site of an IPv6 address; "" for loopback, unless `loopback`."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return address_key(str(parsed.ipv4_mapped), loopback)
        if not parsed.is_loopback:
            return str(ipaddress.IPv6Network((parsed.packed, IPV6_SITE), strict=False))
    return "" if parsed.is_loopback and not loopback else address
