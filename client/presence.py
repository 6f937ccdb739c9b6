"""Who is online: asked once, or watched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from client.events import Presence
from client.requests import Ask, Request
from packs import structs_social as x
from packs import table as t


class Presences:
    """As one user may see them: of his friends. Of others nothing is told."""

    def __init__(self, request: Request, ask: Ask, tell: Callable[[Presence], None]) -> None:
        """`tell` is given what has changed."""
        self._request = request
        self._ask = ask
        self._tell = tell
        self._lock = threading.Lock()
        self._watched: dict[str, None] = {}

    def get(self, users: Iterable[str] = ()) -> list[Presence]:
        """How it is with these users now; without any, all friends who are online."""
        response: x.PresenceResp = self._request(t.PRESENCE_GET, x.PresenceGetReq(user_ids=list(users)))
        return [presence_of(found) for found in response.presences]

    def watch(self, users: Iterable[str]) -> list[Presence]:
        """How it is with these users now, and from now on a `Presence` whenever that changes, across reconnects."""
        users = list(users)
        response: x.PresenceResp = self._request(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=users))
        with self._lock:
            self._watched.update(dict.fromkeys(users))
        return [presence_of(found) for found in response.presences]

    def unwatch(self, users: Iterable[str]) -> None:
        """Of these users no more."""
        users = list(users)
        with self._lock:
            for user in users:
                self._watched.pop(user, None)
        if users:
            self._request(t.PRESENCE_UNSUBSCRIBE, x.PresenceUnsubscribeReq(user_ids=users))

    def again(self) -> None:
        """On a new connection: the server has forgotten who is watched. On the reader's thread."""
        with self._lock:
            users = list(self._watched)

        def done(response: Any, error: Exception | None) -> None:
            if error is None:
                for found in response.presences:
                    self._tell(presence_of(found))

        if users:
            self._ask(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=users), done)


def presence_of(found: x.Presence) -> Presence:
    """A presence as the program gets it."""
    return Presence(found.user_id, bool(found.online), tuple(found.device_types), found.last_seen)
