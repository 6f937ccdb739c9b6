"""Friends, requests to be friends, whom one has blocked, and what one keeps about others."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from client.requests import Request
from packs import structs as s
from packs import structs_social as x
from packs import table as t


@dataclass(frozen=True)
class Friend:
    """A friend; `remark` is what one calls him oneself."""

    user: str
    remark: str


class Friends:
    """Of one user."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lock = threading.Lock()  # of the two
        self._known: dict[str, Friend] = {}
        self._cursor = 0

    def add(self, user: str, remark: str = "") -> None:
        """Make friends, in both directions; where the server wants consent, ask for it."""
        friends = [s.FriendInfo(friend_id=user, remark=remark)]
        self._request(t.FRIEND_ADD, s.FriendAddReq(friends=friends))

    def delete(self, user: str) -> None:
        """Be friends no more, in both directions."""
        self._request(t.FRIEND_DEL, s.FriendDelReq(friends=[s.FriendInfo(friend_id=user)]))

    def list(self) -> list[Friend]:
        """All friends. Only what has changed since the last time is fetched."""
        with self._lock:
            ids = self._fetch()
            if any(friend not in self._known for friend in ids):  # the cursor was another server's
                self._cursor, self._known = 0, {}
                ids = self._fetch()
            self._known = {friend: self._known[friend] for friend in ids if friend in self._known}
            return [*self._known.values()]

    def _fetch(self) -> builtins.list[str]:
        """Fetch what has changed, in as many pages as there are; the ids of all friends."""
        while True:
            response: s.FriendSyncResp = self._request(t.FRIEND_SYNC, s.FriendSyncReq(timestamp=self._cursor))
            new = {f.friend_id: Friend(f.friend_id, f.remark) for f in response.friends}
            more = response.timestamp > self._cursor and not new.items() <= self._known.items()
            self._known.update(new)
            self._cursor = response.timestamp
            if not more:
                return response.friend_ids

    def requests(self) -> builtins.list[str]:
        """Who asks to be one's friend, the oldest first."""
        response: x.FriendRequestsResp = self._request(t.FRIEND_REQUESTS_GET)
        return [request.user_id for request in response.requests]

    def accept(self, user: str, remark: str = "") -> None:
        """Say yes to a request."""
        self._request(t.FRIEND_REQUEST_ANSWER, x.FriendRequestAnswerReq(friend_id=user, accept=1, remark=remark))

    def decline(self, user: str) -> None:
        """Say no to a request."""
        self._request(t.FRIEND_REQUEST_ANSWER, x.FriendRequestAnswerReq(friend_id=user, accept=0))

    def block(self, users: Iterable[str]) -> None:
        """Hear nothing of these users any more: their messages are refused with code 51."""
        self._request(t.BLOCK, x.BlockReq(user_ids=[*users]))

    def unblock(self, users: Iterable[str]) -> None:
        """Undo `block`."""
        self._request(t.UNBLOCK, x.BlockReq(user_ids=[*users]))

    def blocked(self) -> builtins.list[str]:
        """Whom one has blocked, sorted."""
        response: x.BlocklistResp = self._request(t.BLOCKLIST_GET)
        return response.user_ids

    def set(self, user: str, name: str, value: str) -> None:
        """Keep an attribute about another user, for all one's devices; "" clears it."""
        attribute = s.UserAttribute(friend_id=user, attr_name=name, attr_value=value)
        self._request(t.USERATTRIBUTE_SET, s.UserAttrSetReq(attribute=attribute))

    def get(self, user: str) -> dict[str, str]:
        """All attributes that one keeps about another user."""
        response: s.UserAttrGetResp = self._request(t.USERATTRIBUTE_GET, s.UserAttrGetReq(friend_id=user))
        return {attribute.attr_name: attribute.attr_value for attribute in response.attributes}
