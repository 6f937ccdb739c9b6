"""The window of history that Redis keeps: what is archived and older, or more, is taken out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from store.client import Call, Client
from store.keys import Keys
from store.log import ARCHIVE
from store.scripts import WINDOW
from store.settings import LEAST

CHANGED_SECONDS = 60
"""How long an archived message that was changed stays here: whoever began to change it before must still find it."""
CHUNK = 100
"""Sessions in one script: Redis answers others between two of them."""
SCANNED = 500
"""Keys looked at by one step of a sweep."""


class Window:
    """The window. Methods block their greenlet and raise `StoreError`."""

    def __init__(
        self, redis: Client, keys: Keys, messages: int, seconds: int, changed_seconds: int = CHANGED_SECONDS
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._limits = (messages, seconds, LEAST, changed_seconds, ARCHIVE)
        self._forget: dict[str, int] = {}
        self._server = 0  # of a Cluster: which one is swept
        self._cursor = b"0"  # and how far

    def forget(self, seconds: dict[str, int]) -> None:
        """From now on, messages of sessions whose ids begin so are kept for so many seconds only."""
        self._forget = seconds

    def trim(self, sessions: Iterable[str]) -> int:
        """Take out what is too much of these sessions; returns how many messages."""
        alike: dict[tuple[str, int], list[str]] = {}
        for session in sessions:
            forget = next((seconds for prefix, seconds in self._forget.items() if session.startswith(prefix)), 0)
            alike.setdefault((self._keys.session_tag(session), forget), []).append(session)
        calls: list[Call] = [
            (WINDOW, (f"{tag}:log",), (tag, *self._limits, forget, *found[i : i + CHUNK]))
            for (tag, forget), found in alike.items() for i in range(0, len(found), CHUNK)
        ]  # fmt: skip
        return sum(self._redis.run_all(calls)) if calls else 0

    def sweep(self) -> int:
        """Look at some of all sessions, also those in which nothing happens; the next call goes on behind them."""
        servers = self._redis.servers()
        server = servers[self._server % len(servers)]
        self._cursor, found = server.ask("SCAN", self._cursor, "MATCH", "{s*}:[ht]:*", "COUNT", SCANNED)
        if self._cursor == b"0":
            self._server += 1
        return self.trim(set(_sessions(found)))


def _sessions(found: Iterable[bytes]) -> Iterator[str]:
    for key in found:
        yield key.decode().split(":", 2)[2]
