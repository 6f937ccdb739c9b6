"""Recent sessions of a user: his list of single chats and notices, merged with the groups that he is in.

Nothing is written for a member when a message comes to a group. So the stamp of a group is that of his joining, or the
number of its newest message: both are µs of the store's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from store.client import Client
from store.keys import GROUP_PREFIX, Keys
from store.profiles import SESSION
from store.scripts import NEWEST

CHUNK = 500
"""Groups asked about by one script: Redis answers others between two of them."""


class Recent(NamedTuple):
    """Sessions and their stamps, ascending. All with a stamp up to `reach` are here; `more` have a higher one.

    `clock`: the store's time in µs, read before them. `attributed`: he has given attributes to sessions.
    """

    sessions: list[tuple[str, int]]
    reach: int
    more: bool
    clock: int
    attributed: bool = True


RecentDone = Callable[[Recent | None, Exception | None], None]


class RecentSessions:
    """Recent sessions in the hot store."""

    def __init__(self, reads: Client, keys: Keys) -> None:
        self._reads = reads
        self._keys = keys

    def read(self, user: str, after: int, count: int, done: RecentDone) -> None:
        """At most `count` sessions of `user` with a stamp above `after`, those with the lowest stamps.

        His list of groups may name one that he has just left: who reads the sessions themselves asks that.
        """

        def listed(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                done(None, error)
                return
            (seconds, micros), listed, joined, attributed = replies
            clock = int(seconds) * 1_000_000 + int(micros)
            noted, groups = _pairs(listed), _pairs(joined)

            def page(groups: dict[str, int]) -> Recent:
                return merged(noted, groups, after, count, clock)._replace(attributed=attributed != 0)

            if not groups:
                done(page(groups), None)
                return
            if not after and len(noted) + len(groups) <= count:
                # All of them fit: no stamp decides what is in the page, and the cursor need not be told by them.
                done(page(groups)._replace(reach=clock), None)
                return

            def asked(replies: list[Any] | None, error: Exception | None) -> None:
                if replies is None:
                    done(None, error)
                    return
                done(page({g: max(at, seq) for (g, at), seq in zip(groups.items(), replies, strict=True)}), None)

            self._ask_newest(list(groups), asked)

        commands = (
            ("TIME",),
            ("ZRANGEBYSCORE", self._keys.recent(user), f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, count + 1),
            ("ZRANGE", self._keys.my_groups(user), 0, -1, "WITHSCORES"),
            ("EXISTS", self._keys.of_user(SESSION, user)),
        )
        self._reads.command_all(listed, commands)

    def _ask_newest(self, sessions: list[str], done: Callable[[list[Any] | None, Exception | None], None]) -> None:
        rows = [(self._keys.session_tag(session), session) for session in sessions]
        self._reads.gather(done, NEWEST, (), rows, answers=1, chunk=CHUNK)


def merged(noted: dict[str, int], groups: dict[str, int], after: int, count: int, clock: int) -> Recent:
    """The page of both. `noted`: the `count` + 1 lowest of the list (fewer: there are no more). `groups`: all that he
    is in; another group in the list is one that he has left."""
    stamps = {session: stamp for session, stamp in noted.items() if session[:3] != GROUP_PREFIX}
    # What lies above the end of a cut list may have others before it that were not read: it is for a later page.
    limit = max(noted.values()) if len(noted) > count else None
    for group, stamp in groups.items():
        if (own := noted.get(group, 0)) > stamp:
            stamp = own
        if stamp > after and (limit is None or stamp <= limit):
            stamps[group] = stamp
    page = sorted(stamps.items(), key=itemgetter(1))
    if len(page) > count:
        cut = page[count][1]  # never between equal stamps, unless all are equal
        page = [item for item in page if item[1] < cut] or [item for item in page if item[1] == cut]
        return Recent(page, page[-1][1], True, clock)
    if limit is not None:
        return Recent(page, limit, True, clock)
    return Recent(page, page[-1][1] if page else after, False, clock)


def _pairs(reply: Sequence[bytes]) -> dict[str, int]:
    return dict(zip(map(bytes.decode, reply[::2]), map(int, reply[1::2]), strict=True))
