"""The right of one process to do something alone: `imesh:{lease}:<what>`, who has it; expires."""

from __future__ import annotations

from store.client import Client
from store.scripts import LEASE


class Leases:
    """Methods block their greenlet and raise `StoreError`."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    def take(self, what: str, owner: str, seconds: float) -> bool:
        """Take or renew it. An owner who starts again still has it."""
        return bool(self._redis.run(LEASE, (_key(what),), (owner, int(seconds * 1000))))

    def release(self, what: str, owner: str) -> None:
        """Give it up, when it is one's own."""
        self._redis.run(LEASE, (_key(what),), (owner, 0))


def _key(what: str) -> str:
    return "imesh:{lease}:" + what  # on a Cluster, a script names one more key of this tag
