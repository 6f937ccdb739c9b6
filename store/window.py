"""The window of history that Redis keeps: what is archived and older, or more, is taken out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from store.away import Away
from store.client import Call, Client
from store.errors import StoreUnavailable
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
LATE_MAX = 20_000
"""Sessions that wait for their server; a sweep finds any others."""


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
        self._away = Away()
        self._late: dict[str, set[str]] = {}  # sessions whose server did not answer, by shard

    def forget(self, seconds: dict[str, int]) -> None:
        """From now on, messages of sessions whose ids begin so are kept for so many seconds only."""
        self._forget = seconds

    def trim(self, sessions: Iterable[str]) -> int:
        """Take out what is too much of these sessions; returns how many messages. Those whose server, one of a Cluster,
        does not answer hold up no others, and have their turn when it is back."""
        alike: dict[tuple[str, int], list[str]] = {}
        for session in sessions:
            tag = self._keys.session_tag(session)
            if tag in self._away:
                self._put_off(tag, (session,))
                continue
            forget = next((seconds for prefix, seconds in self._forget.items() if session.startswith(prefix)), 0)
            alike.setdefault((tag, forget), []).append(session)
        parts = [
            (tag, forget, found[i : i + CHUNK])
            for (tag, forget), found in alike.items() for i in range(0, len(found), CHUNK)
        ]  # fmt: skip
        calls: list[Call] = [
            (WINDOW, (f"{tag}:log",), (tag, *self._limits, forget, *some)) for tag, forget, some in parts
        ]  # fmt: skip
        taken = 0
        for (tag, _, some), reply in zip(parts, self._redis.run_each(calls), strict=True):
            if isinstance(reply, Exception):
                self._away.note((tag,))
                self._put_off(tag, some)
            else:
                taken += reply
        return taken

    def _put_off(self, tag: str, sessions: Iterable[str]) -> None:
        late = self._late.setdefault(tag, set())
        if sum(map(len, self._late.values())) < LATE_MAX:
            late.update(sessions)

    def sweep(self) -> int:
        """Look at some of all sessions, also those in which nothing happens; the next call goes on behind them."""
        again = [tag for tag in self._late if tag not in self._away]
        late = [session for tag in again for session in self._late.pop(tag)]
        servers = self._redis.servers()
        server = servers[self._server % len(servers)]
        found: list[bytes] = []
        try:
            self._cursor, found = server.ask("SCAN", self._cursor, "MATCH", "{s*}:[ht]:*", "COUNT", SCANNED)
        except StoreUnavailable:
            if len(servers) == 1:
                raise
            self._cursor = b"0"  # go on with the next one
        if self._cursor == b"0":
            self._server += 1
        return self.trim({*late, *_sessions(found)})


def _sessions(found: Iterable[bytes]) -> Iterator[str]:
    for key in found:
        yield key.decode().split(":", 2)[2]
