"""The limits of a broker: by user and by address (`mesh/limits.py`)."""

from __future__ import annotations

from mesh.limits import MAX_KEYS, Bucket, Buckets, address_key
from mesh.loop import now
from nodes.settings import BrokerSettings


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
