"""Erasures of users: which are under way, and how each is, or was, going.

    imesh:erasures         set      the users
    imesh:erasure:<user>   string   how it is going, as whoever does it says; expires once it is done
"""

from __future__ import annotations

from store.client import Client

UNDER_WAY = "imesh:erasures"
KEPT_SECONDS = 30 * 86_400


class Erasures:
    """Methods block their greenlet and raise `StoreError`."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    def begin(self, user: str, state: bytes) -> bool:
        """From now on it is under way; False when it was already."""
        if not self._redis.ask("SADD", UNDER_WAY, user):
            return False
        self._redis.ask("SET", _key(user), state)
        return True

    def under_way(self) -> list[str]:
        """The users, in some order."""
        return sorted(user.decode() for user in self._redis.ask("SMEMBERS", UNDER_WAY))

    def state(self, user: str) -> bytes | None:
        """How it is going, or went; None when nothing is known of one."""
        found: bytes | None = self._redis.ask("GET", _key(user))
        return found

    def note(self, user: str, state: bytes) -> None:
        """Note how it is going."""
        self._redis.ask("SET", _key(user), state)

    def end(self, user: str, state: bytes) -> None:
        """It is done."""
        self._redis.ask("SET", _key(user), state, "EX", KEPT_SECONDS)
        self._redis.ask("SREM", UNDER_WAY, user)


def _key(user: str) -> str:
    return f"imesh:erasure:{user}"
