"""What nodes ask and tell the olap node of what was sent: how much, by whom, and what became of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.contract import call, contract
from nodes.contracts import ANSWER_SECONDS


class Sent(NamedTuple):
    """Messages that were stored in a bucket, and how many of them are revoked, overridden and deleted by now. `start`
    in s since the epoch; buckets are of UTC."""

    start: int
    messages: int
    revoked: int
    overridden: int
    deleted: int


class OfUser(NamedTuple):
    """What one user sent in a bucket, and how many of the `messages` were in groups; the others were single chats."""

    start: int
    messages: int
    revoked: int
    overridden: int
    deleted: int
    in_groups: int


class OfGroup(NamedTuple):
    """What was sent in one group in a bucket, and how many users sent any of it."""

    start: int
    messages: int
    revoked: int
    overridden: int
    deleted: int
    users: int


class Period(NamedTuple):
    """A bucket of everything. `types`: messages by pack type. `users` sent something in it, `new_users` the first
    message that they ever sent; `accounts` were made (with `auth.mode = "password"`). `outcomes`: what processes
    counted of their own, by name (`nodes/outcomes.py`)."""

    sent: Sent
    types: tuple[tuple[int, int], ...]
    users: int
    new_users: int
    accounts: int
    outcomes: tuple[tuple[str, int], ...]


class Total(NamedTuple):
    """What one life of a process has counted of something within the hour that began at `hour` (s since the epoch)."""

    hour: int
    name: str
    total: int


@contract
class Statistics(Protocol):
    """What was sent, by hour or day.

    `by` is "hour" or "day". `since` and `until` are s since the epoch, widened to whole buckets (of UTC); all buckets
    between them are answered, ascending, also those in which nothing was. Messages count from when the archive has
    them, under the time at which they were stored. Raises `AppError` 2: another `by`, no bucket, or more than 2000.
    """

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def statistics(self, since: int, until: int, by: str) -> tuple[Period, ...]:
        """Everything."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def user_statistics(self, user: str, since: int, until: int, by: str) -> tuple[OfUser, ...]:
        """What a user sent, to whomever; nothing where he is unknown."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def group_statistics(self, group: str, since: int, until: int, by: str) -> tuple[OfGroup, ...]:
        """What was sent in a group; nothing where it is unknown."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def active_users(self, since: int, until: int, by: str) -> int:
        """How many users sent anything in these buckets together."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def top_users(self, since: int, until: int, by: str, count: int) -> tuple[tuple[str, int], ...]:
        """Who sent the most messages in these buckets together, and how many; at most 1000, the first first."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def top_groups(self, since: int, until: int, by: str, count: int) -> tuple[tuple[str, int], ...]:
        """The same of groups."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def report(self, source: str, totals: tuple[Total, ...]) -> None:
        """What a process has counted so far. `source` names one life of it, so totals only grow: harmless when
        repeated, in any order."""
        ...
