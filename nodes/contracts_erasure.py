"""What is called to erase a user."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.contract import call, contract
from nodes.contracts import ANSWER_SECONDS

ERASE_SECONDS = 20.0
WAITING, RUNNING, DONE = "waiting", "running", "done"


class Erasure(NamedTuple):
    """How the erasure of a user is going, or went.

    `state` is "waiting", "running" or "done"; it has looked at `seen` of `total` messages of the archive, and found so
    many `messages` of his, `notices` to him, `groups` that he was in and `friends`, as far as it has got. `started` and
    `ended` in ms. `trouble`: why it waits to be tried again.
    """

    user: str
    state: str = WAITING
    started: int = 0
    ended: int = 0
    seen: int = 0
    total: int = 0
    messages: int = 0
    notices: int = 0
    groups: int = 0
    friends: int = 0
    trouble: str = ""


@contract
class Erasures(Protocol):
    """Erasing users: all data of theirs, for ever."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def erase(self, user: str) -> Erasure:
        """Lock him out, and begin; whatever dies, it goes on until it is done. While it is under way another one
        changes nothing, and afterwards it is done again. Raises `AppError` 2 when there is no such user."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def erasure(self, user: str) -> Erasure | None:
        """How it is going, or went within the last 30 days; None when nothing is known of one."""
        ...


@contract
class Erasing(Protocol):
    """Deleting messages of a user who is no more."""

    @call(timeout=ERASE_SECONDS, idempotent=True)
    def erase(self, sender: str, messages: tuple[tuple[str, int, str], ...]) -> int:
        """Delete messages that `sender` sent, each (session, seqId, packId), for everybody and as he could himself, but
        also in groups that he is not in any more and in those that are dismissed. Those that are not there are passed
        over. Returns how many were deleted, now or before. Raises `AppError`."""
        ...
