"""The right of one process to do something alone, kept in the store."""

from __future__ import annotations

from mesh.loop import now
from store.leases import Leases

SECONDS = 6.0
RENEW_SECONDS = 2.0


class Lease:
    """Asked for when it is needed. When its holder dies, the next has it after `SECONDS`; he himself has it at once."""

    def __init__(self, leases: Leases, what: str, owner: str) -> None:
        self._leases = leases
        self._what = what
        self._owner = owner
        self._renew_at = 0.0  # ours without asking until then
        self._until = 0.0  # ours, if nothing was heard since

    @property
    def clock(self) -> float:
        """s, `now()`."""
        return now()

    @property
    def good(self) -> bool:
        """Whether nobody else can have it yet. To be asked before what must not be done by two: a process may have
        stood still since `held`."""
        return now() < self._until

    def held(self) -> bool:
        """Whether it is ours. In a greenlet. Raises `StoreError` when that is not known."""
        if now() < self._renew_at:
            return True
        asked = now()
        if self._leases.take(self._what, self._owner, SECONDS):
            self._renew_at, self._until = asked + RENEW_SECONDS, asked + SECONDS
            return True
        self._renew_at = self._until = 0.0
        return False

    def give_up(self) -> None:
        """Let another have it at once. Raises `StoreError`."""
        if self._renew_at:
            self._renew_at = self._until = 0.0
            self._leases.release(self._what, self._owner)
