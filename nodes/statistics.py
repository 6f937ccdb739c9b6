"""Answers of the contract `Statistics`, of rollups and the store; the olap node inherits them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.errors import AppError, Timeout
from nodes import contracts_statistics as c
from packs.codes import Code
from store.archive import statistics
from store.archive.database import Archive
from store.archive.rollups import DAY, HOUR, Kind
from store.errors import StoreError
from store.hot import HotStore

SPANS = {"hour": HOUR, "day": DAY}
BUCKETS_MAX = 2000
TOP_MAX = 1000
NOTHING = (0, 0, 0, 0, 0)


class StatisticsAnswers(c.Statistics):
    """For a node with an archive. Its calls run in greenlets."""

    _archive: Archive
    _store: HotStore

    def statistics(self, since: int, until: int, by: str) -> tuple[c.Period, ...]:
        span, starts = _buckets(since, until, by)
        ends = starts[0], starts[-1] + span
        sent = self._read(statistics.series, Kind.ALL, "", span, starts)
        types = self._read(statistics.by_type, span, *ends)
        new_users = self._read(statistics.new_users, span, *ends)
        outcomes = self._read(statistics.outcomes, span, *ends)
        accounts = _stored(self._store.users.made_since, [start * 1000 for start in (*starts, ends[1])])
        return tuple(
            c.Period(
                c.Sent(start, *sent.get(start, NOTHING)[:4]),
                tuple(sorted((int(name), number) for name, number in types.get(start, {}).items())),
                sent.get(start, NOTHING)[4], new_users[start], made,
                tuple(sorted(outcomes.get(start, {}).items())),
            )
            for start, made in zip(starts, accounts, strict=True)
        )  # fmt: skip

    def user_statistics(self, user: str, since: int, until: int, by: str) -> tuple[c.OfUser, ...]:
        span, starts = _buckets(since, until, by)
        sent = self._read(statistics.series, Kind.USER, user, span, starts)
        in_groups = self._read(statistics.in_groups, user, span, starts[0], starts[-1] + span)
        found = []
        for start in starts:
            messages, revoked, overridden, deleted, _ = sent.get(start, NOTHING)
            found.append(c.OfUser(start, messages, revoked, overridden, deleted, in_groups[start]))
        return tuple(found)

    def group_statistics(self, group: str, since: int, until: int, by: str) -> tuple[c.OfGroup, ...]:
        span, starts = _buckets(since, until, by)
        sent = self._read(statistics.series, Kind.GROUP, group, span, starts)
        return tuple(c.OfGroup(start, *sent.get(start, NOTHING)) for start in starts)

    def active_users(self, since: int, until: int, by: str) -> int:
        span, starts = _buckets(since, until, by)
        return int(self._read(statistics.active, span, starts[0], starts[-1] + span))

    def top_users(self, since: int, until: int, by: str, count: int) -> tuple[tuple[str, int], ...]:
        return self._top(Kind.USER, since, until, by, count)

    def top_groups(self, since: int, until: int, by: str, count: int) -> tuple[tuple[str, int], ...]:
        return self._top(Kind.GROUP, since, until, by, count)

    def _top(self, kind: Kind, since: int, until: int, by: str, count: int) -> tuple[tuple[str, int], ...]:
        span, starts = _buckets(since, until, by)
        most = max(0, min(count, TOP_MAX))
        return tuple(self._read(statistics.top, kind, span, starts[0], starts[-1] + span, most))

    def report(self, source: str, totals: tuple[c.Total, ...]) -> None:
        _stored(self._archive.write, statistics.report, source, totals)

    def _read(self, function: Any, *args: Any) -> Any:
        return _stored(self._archive.read, function, *args)


def _buckets(since: int, until: int, by: str) -> tuple[int, range]:
    """The span, and where the buckets start."""
    span = SPANS.get(by)
    if span is None:
        raise AppError(Code.PARAM, f'by is "hour" or "day", not "{by}"')
    if not 0 <= since < until:
        raise AppError(Code.PARAM, "since and until are no span of time")
    starts = range(since // span * span, -(-until // span) * span, span)
    if len(starts) > BUCKETS_MAX:
        raise AppError(Code.PARAM, f"{len(starts)} {by}s are more than {BUCKETS_MAX}")
    return span, starts


def _stored(function: Callable[..., Any], *args: Any) -> Any:
    """What a store says. Raises `Timeout` when it cannot say it now."""
    try:
        return function(*args)
    except StoreError as error:
        raise Timeout(str(error)) from None
