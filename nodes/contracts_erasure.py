"""What is called to erase a user, beside what he could do himself."""

from __future__ import annotations

from typing import Protocol

from mesh.contract import call, contract

ERASE_SECONDS = 20.0


@contract
class Erasing(Protocol):
    """Deleting messages of a user who is no more."""

    @call(timeout=ERASE_SECONDS, idempotent=True)
    def erase(self, sender: str, messages: tuple[tuple[str, int, str], ...]) -> int:
        """Delete messages that `sender` sent, each (session, seqId, packId), for everybody and as he could himself, but
        also in groups that he is not in any more and in those that are dismissed. Those that are not there are passed
        over. Returns how many were deleted, now or before. Raises `AppError`."""
        ...
