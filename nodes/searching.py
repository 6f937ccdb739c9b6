"""How messages are searched (75): what the caller may see, candidates from the archive, what is still so.

The index gives candidates, newest first, a few at a time. Each is taken as it is now (what was done to it a moment ago
lies in Redis), and compared with what was looked for. A search that looks at much and finds little is cut short; its
page has a cursor to go on from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from gevent.lock import BoundedSemaphore

from mesh.errors import AppError, Overloaded
from mesh.loop import now, wait_for
from nodes.contracts_search import SearchQuery
from nodes.reading import may_read
from nodes.terms import Query, group_scope, scopes_of, sender_term, text_of, user_scope
from packs.codes import Code
from packs.ids import canonical_session, is_group_id, is_user_id
from store.archive import search
from store.archive.search import Candidates, Wanted
from store.entries import Entry
from store.hot import HotStore

COUNT_DEFAULT, COUNT_MAX = 30, 100
TEXT_CHARACTERS = 200
"""Longest text of a search."""
PAGE_BYTES = 100_000
"""Payload bytes in one page, so that it fits a frame in every codec (JSON may write a byte as six)."""
LOOKED_AT = 2000
"""Candidates that one request looks at."""
AT_ONCE = 500
"""Candidates read in one step."""
SECONDS = 1.0
"""After this long no further step is begun."""
READING = 2
"""Searches of a process that read the archive at once; other questions are answered beside them."""
SEARCHES = 8
"""Searches of a process at once; more are refused (code 7)."""
TOP = 2**53
US_PER_MS = 1000

Place = tuple[str, ...]
"""Scopes, in all of which a message is: the two users of a single chat tell it from their others."""
Ask = Callable[..., Any]
"""Runs a function of the archive that only reads, with arguments."""


class Page(NamedTuple):
    """What was found, newest first, and where to go on, "" at the end."""

    messages: list[tuple[str, Entry]]
    cursor: str


class Searcher:
    """Searches. `ask` reads the archive; raises what the caller is to hear when that cannot be."""

    def __init__(self, store: HotStore, ask: Ask) -> None:
        self._store = store
        self._ask = ask
        self._reading = BoundedSemaphore(READING)
        self._running = 0

    def find(self, user: str, asked: SearchQuery) -> Page:
        """Search on behalf of `user`. In a greenlet. Raises `AppError`, `StoreError`, `Overloaded`."""
        if self._running >= SEARCHES:
            raise Overloaded(f"{SEARCHES} searches run")
        self._running += 1
        try:
            return self._find(user, asked)
        finally:
            self._running -= 1

    def _find(self, user: str, asked: SearchQuery) -> Page:
        query = _query(asked.text)
        may_see, places = self._seen_by(user, asked.session)
        wanted = self._wanted(asked, places, query)
        count = COUNT_DEFAULT if asked.limit <= 0 else min(asked.limit, COUNT_MAX)
        found: list[tuple[str, Entry]] = []
        most, spans, looked_at, ends = count + 1, 1, 0, now() + SECONDS
        while len(found) <= count and wanted.low <= wanted.high and looked_at < LOOKED_AT and now() < ends:
            with self._reading:
                candidates: Candidates = self._ask(search.find, wanted, most, spans)
            found += [
                (session, entry) for session, entry in self._as_it_is(candidates.messages)
                if may_see(session) and query.matches(text_of(entry))
            ]  # fmt: skip
            looked_at += candidates.rows
            most, spans = min(most * 4, AT_ONCE), spans * 2
            wanted = wanted._replace(high=candidates.reach - 1)
        return _page(found, count, str(wanted.high) if wanted.low <= wanted.high else "")

    def _seen_by(self, user: str, session: str) -> tuple[Callable[[str], bool], list[Place]]:
        """Which sessions are looked at, and where the index has them. Raises `AppError` for one that he may not see."""
        if not session:
            memberships = wait_for(partial(self._store.groups.of_users, [user]))
            groups = {membership.group for membership in memberships[0]}
            places: list[Place] = [(user_scope(user),), *((group_scope(group),) for group in sorted(groups))]
            return lambda s: s in groups if is_group_id(s) else may_read(user, s), places
        only = canonical_session(session)
        if only is None:
            raise AppError(Code.PARAM, "sessionId is malformed")
        if is_group_id(only):
            if not self._store.groups.present(only, [user]).members:
                raise AppError(Code.HISTORY_DENIED)
            return lambda s: s == only, [(group_scope(only),)]
        if not may_read(user, only):
            raise AppError(Code.HISTORY_DENIED)
        return lambda s: s == only, [scopes_of(only)]

    def _wanted(self, asked: SearchQuery, places: Sequence[Place], query: Query) -> Wanted:
        """What the archive is asked. Raises `AppError`."""
        if asked.sender and not is_user_id(asked.sender):
            raise AppError(Code.PARAM, "senderId is malformed")
        if asked.cursor and not (asked.cursor.isascii() and asked.cursor.isdecimal() and len(asked.cursor) <= 16):
            raise AppError(Code.PARAM, "bad cursor")
        bottom, top = self._ask(search.reach)
        low = max(bottom, asked.since * US_PER_MS)
        high = min(top, int(asked.cursor or TOP), asked.until * US_PER_MS - 1 if asked.until > 0 else TOP)
        session = canonical_session(asked.session) or ""
        words = (*query.terms, sender_term(asked.sender)) if asked.sender else query.terms
        return Wanted(tuple(places), words, low, high, session, asked.sender)

    def _as_it_is(self, messages: Sequence[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        """The same messages after what was done to them that the archive does not know yet."""
        held = self._store.sessions.held([(session, entry.seq) for session, entry in messages])
        return [
            (session, newer if newer is not None and newer.revision > entry.revision else entry)
            for (session, entry), newer in zip(messages, held, strict=True)
        ]


def _query(text: str) -> Query:
    if len(text) > TEXT_CHARACTERS:
        raise AppError(Code.PARAM, f"text has more than {TEXT_CHARACTERS} characters")
    try:
        return Query(text)
    except ValueError as error:
        raise AppError(Code.PARAM, str(error)) from None


def _page(found: list[tuple[str, Entry]], count: int, cursor: str) -> Page:
    """As many as fit. Messages with one seqId, of several sessions, are not parted: the cursor is a seqId."""
    size = 0
    for n, (_, entry) in enumerate(found):
        size += len(entry.payload) + len(entry.content)
        full = n >= count or size > PAGE_BYTES
        if n and full and entry.seq != found[n - 1][1].seq:
            return Page(found[:n], str(entry.seq))
    return Page(found, cursor)
