"""What the archive answers: search and statistics."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from nodes.contracts_search import Search, SearchQuery
from nodes.contracts_statistics import Sent, Statistics
from nodes.reading import pack_of
from nodes.rest import wire
from nodes.rest.acting import Nodes, there
from nodes.rest.sessions import KINDS, message_of
from store import entries
from webapi.routes import Call, route

Moment = Annotated[int, Meta(ge=0, le=wire.INT53, description="ms since the epoch")]
MS = 1000


class SearchAsked(msgspec.Struct, forbid_unknown_fields=True):
    """`q`: all of these words, in whatever order and case."""

    q: Annotated[str, Meta(min_length=1, max_length=1000)]
    session: wire.SessionId | None = None
    sender: wire.UserId | None = None
    since: Moment = 0
    until: Moment = 0
    cursor: wire.Cursor = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 30


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Buckets of UTC from `since` to before `until`, widened to whole ones."""

    since: Moment
    until: Moment
    by: Literal["hour", "day"] = "day"


class TopAsked(msgspec.Struct, forbid_unknown_fields=True):
    """As above, and how many."""

    since: Moment
    until: Moment
    by: Literal["hour", "day"] = "day"
    limit: wire.Limit = 20


class SentCount(msgspec.Struct):
    """Messages of a bucket that begins at `start` (ms), and how many of them were revoked, overridden, deleted."""

    start: int
    messages: int
    revoked: int
    overridden: int
    deleted: int


class UserCount(SentCount):
    """As above; `kinds`: messages by kind."""

    kinds: dict[str, int]


class GroupCount(SentCount):
    """As above; `users` sent something."""

    users: int


class UserCounts(msgspec.Struct):
    """Ascending, without gaps."""

    buckets: list[UserCount]


class GroupCounts(msgspec.Struct):
    """Ascending, without gaps."""

    buckets: list[GroupCount]


class Active(msgspec.Struct):
    """How many users sent something."""

    users: int


class PeriodCount(msgspec.Struct):
    """A bucket of everything. `kinds`: messages by kind; `users` sent something, `new_users` for the first time;
    `accounts` were made; `outcomes`: deliveries and pushes by what became of them."""

    start: int
    messages: int
    revoked: int
    overridden: int
    deleted: int
    kinds: dict[str, int]
    users: int
    new_users: int
    accounts: int
    outcomes: dict[str, int]


class PeriodCounts(msgspec.Struct):
    """Ascending, without gaps."""

    buckets: list[PeriodCount]


class Ranked(msgspec.Struct):
    """A user or group, and its messages."""

    id: str
    messages: int


class Ranking(msgspec.Struct):
    """The first first."""

    ranking: list[Ranked]


class Archived:
    """Routes of the archive; None for what the topology lacks."""

    def __init__(self, nodes: Nodes, search: Search | None, statistics: Statistics | None) -> None:
        self._nodes = nodes
        self._search = search
        self._statistics = statistics

    @route("GET", "/v1/users/{user}/search", scope="messages:read", tag="sessions", errors=(403, 422),
           summary="Messages that a user may see, by their words")  # fmt: skip
    def search(self, call: Call, user: wire.UserId, query: SearchAsked) -> wire.MessagePage:
        """Newest first. A page may be short, or empty, though `next` says that there are more."""
        asked = SearchQuery(
            query.q, query.session or "", query.sender or "", query.since, query.until, query.cursor, query.limit
        )
        found = there(self._search).search(user, asked)
        rows = [message_of(pack_of(entries.parse(entry))) for _, entry in found.messages]
        return wire.MessagePage(rows, found.cursor)

    @route("GET", "/v1/statistics", scope="statistics:read", tag="statistics", errors=(422,),
           summary="What was sent, by hour or day")  # fmt: skip
    def all(self, call: Call, query: Asked) -> PeriodCounts:
        periods = there(self._statistics).statistics(query.since // MS, -(-query.until // MS), query.by)
        return PeriodCounts([
            PeriodCount(
                *_sent(p.sent), {KINDS.get(kind, str(kind)): count for kind, count in p.types}, p.users, p.new_users,
                p.accounts, dict(p.outcomes),
            )
            for p in periods
        ])  # fmt: skip

    @route("GET", "/v1/statistics/active-users", scope="statistics:read", tag="statistics", errors=(422,),
           summary="How many users sent something")  # fmt: skip
    def active(self, call: Call, query: Asked) -> Active:
        """In these buckets together: each user once."""
        return Active(there(self._statistics).active_users(query.since // MS, -(-query.until // MS), query.by))

    @route("GET", "/v1/statistics/top-users", scope="statistics:read", tag="statistics", errors=(422,),
           summary="Which users sent the most")  # fmt: skip
    def top_users(self, call: Call, query: TopAsked) -> Ranking:
        found = there(self._statistics).top_users(query.since // MS, -(-query.until // MS), query.by, query.limit)
        return Ranking([Ranked(*row) for row in found])

    @route("GET", "/v1/statistics/top-groups", scope="statistics:read", tag="statistics", errors=(422,),
           summary="Where the most was sent")  # fmt: skip
    def top_groups(self, call: Call, query: TopAsked) -> Ranking:
        found = there(self._statistics).top_groups(query.since // MS, -(-query.until // MS), query.by, query.limit)
        return Ranking([Ranked(*row) for row in found])

    @route("GET", "/v1/users/{user}/statistics", scope="statistics:read", tag="statistics", errors=(422,),
           summary="What a user sent, by hour or day")  # fmt: skip
    def of_user(self, call: Call, user: wire.UserId, query: Asked) -> UserCounts:
        found = there(self._statistics).user_statistics(user, query.since // MS, -(-query.until // MS), query.by)
        return UserCounts([
            UserCount(row.start * MS, *row[1:5], {"single": row.messages - row.in_groups, "group": row.in_groups})
            for row in found
        ])  # fmt: skip

    @route("GET", "/v1/groups/{group}/statistics", scope="statistics:read", tag="statistics", errors=(404, 422),
           summary="What was sent in a group, by hour or day")  # fmt: skip
    def of_group(self, call: Call, group: wire.GroupId, query: Asked) -> GroupCounts:
        """Also of a group that was dismissed since."""
        found = there(self._statistics).group_statistics(group, query.since // MS, -(-query.until // MS), query.by)
        if not any(row.messages for row in found):
            self._nodes.group.info(group)
        return GroupCounts([GroupCount(row.start * MS, *row[1:]) for row in found])


def _sent(row: Sent) -> tuple[int, int, int, int, int]:
    return (row.start * MS, *row[1:])
