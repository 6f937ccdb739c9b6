"""Rate limits in memory: so many events per second, and a burst of more at once.

A bucket holds `burst` tokens and is refilled evenly. It is kept as one number: the time from which on it is full again.
A bucket that nobody takes from is full, and a full one says nothing, so full ones are forgotten.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from mesh.loop import now
from nodes.settings import BrokerSettings

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


class UserLimits:
    """What one user may ask of one broker, with all his connections there."""

    __slots__ = ("messages", "requests")

    def __init__(self, settings: BrokerSettings) -> None:
        self.messages = Bucket(settings.messages_per_second, settings.message_burst)
        self.requests = Bucket(settings.requests_per_second, settings.request_burst)


class BrokerLimits:
    """The limits of one broker: by user and by address."""

    def __init__(self, settings: BrokerSettings, *, loopback: bool) -> None:
        """`loopback`: whether addresses of this machine are limited too."""
        self._settings = settings
        self._loopback = loopback
        self._users: dict[str, UserLimits] = {}
        self._connections = Buckets(settings.connections_per_second, settings.connection_burst)
        self._logins = Buckets(settings.logins_per_second, settings.login_burst)

    def of_user(self, user: str) -> UserLimits:
        """His limits: the same after he has logged out and in again."""
        found = self._users.get(user)
        if found is None:
            if len(self._users) >= MAX_KEYS:
                self._forget_idle()
            found = self._users[user] = UserLimits(self._settings)
        return found

    def _forget_idle(self) -> None:
        """Limits of nobody who is near them; who is connected keeps his own."""
        time = now()
        busy = {u: m for u, m in self._users.items() if not (m.messages.is_full(time) and m.requests.is_full(time))}
        self._users = busy

    def connection(self, address: str) -> float:
        """Count a connection; or the seconds that this address has to wait."""
        return self._ask(self._connections, address)

    def login(self, address: str) -> float:
        """Count a login, good or bad; or the seconds that this address has to wait."""
        return self._ask(self._logins, address)

    def _ask(self, buckets: Buckets, address: str) -> float:
        key = address_key(address, self._loopback)
        return buckets.ask(key) if key else 0.0


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
