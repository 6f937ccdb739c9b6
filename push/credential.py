"""A token with which we prove to a vendor who we are: renewed before it expires, by one greenlet while others wait."""

from __future__ import annotations

from collections.abc import Callable

from gevent.lock import RLock

from mesh.loop import now
from push.model import VendorError

FAILED_SECONDS = 1.0
"""How long a failure answers for those who ask: a hundred greenlets make one request, not a hundred."""


class Credential:
    """One token and its renewal."""

    def __init__(self, fetch: Callable[[], tuple[str, float]], *, early: float, least_age: float = 0.0) -> None:
        """`fetch` returns the token and for how many seconds it is good; it raises `VendorError`. Renewed `early`
        seconds before that; never within `least_age` seconds, where vendors forbid it."""
        self._fetch = fetch
        self._early = early
        self._least_age = least_age
        self._lock = RLock()
        self._value = ""
        self._fetched = 0.0
        self._until = 0.0
        self._failed: tuple[float, VendorError] | None = None

    def value(self) -> str:
        """The token. Blocks while it is fetched. Raises `VendorError`."""
        if self._value and now() < self._until:
            return self._value
        with self._lock:
            if self._value and now() < self._until:
                return self._value
            if self._failed is not None and now() < self._failed[0]:
                raise self._failed[1]
            try:
                value, seconds = self._fetch()
            except VendorError as error:
                self._failed = now() + FAILED_SECONDS, error
                raise
            self._value, self._fetched, self._failed = value, now(), None
            self._until = self._fetched + max(seconds - self._early, seconds / 2)
            return value

    def reject(self, value: str) -> bool:
        """The vendor does not take this token any more. False when it may not be renewed yet."""
        if value != self._value:
            return True  # somebody has renewed it already
        if now() < self._fetched + self._least_age:
            return False
        self._until = 0.0
        return True
