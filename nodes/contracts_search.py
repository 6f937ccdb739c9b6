"""Searching messages: what other nodes call on the olap node. One that has another contract of it gets this one by
`self.service(Search, "olap")`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.contract import call, contract
from nodes.contracts import ANSWER_SECONDS


class SearchQuery(NamedTuple):
    """What is looked for: messages with all words of `text`. `session`, `sender`: "" for any; times in ms, 0 for any,
    `until` exclusive; `cursor` of the page before; at most `limit` messages (0: 30; 100 are the most)."""

    text: str
    session: str = ""
    sender: str = ""
    since: int = 0
    until: int = 0
    cursor: str = ""
    limit: int = 0


class SearchPage(NamedTuple):
    """(session, entry) of what was found, newest first. `cursor` is "" when there are no more; a page may be short, or
    empty, though there are."""

    messages: tuple[tuple[str, bytes], ...]
    cursor: str


@contract
class Search(Protocol):
    """Full text over what somebody may see."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def search(self, user: str, query: SearchQuery) -> SearchPage:
        """Messages that `user` may see, as they are now. Raises `AppError`: 2 nothing to look for, or malformed; 28 a
        session that he may not see."""
        ...
