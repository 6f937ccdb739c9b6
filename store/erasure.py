"""What Redis holds of a user who is erased, beside his messages, groups, friends and blocks: those he could remove
himself, and others hear of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from store.client import Client
from store.keys import USERS, Keys
from store.marks import ACCOUNT, PROFILE, QUEUES
from store.profiles import SESSION, USER
from store.registrations import Registrations
from store.scripts import FORGET

CHUNK = 200
"""Elements taken out by one script: Redis answers others between two of them."""


class Erasure:
    """Takes it out. Methods block their greenlet and raise `StoreError`; all are harmless when repeated."""

    def __init__(self, redis: Client, keys: Keys, registrations: Registrations) -> None:
        self._redis = redis
        self._keys = keys
        self._registrations = registrations

    def queued(self, owner: str) -> list[bytes]:
        """The items of the queue of what a user, or a group, must not miss."""
        found: list[bytes] = self._redis.ask("ZRANGE", self._keys.priority(owner), 0, -1)
        return found

    def unqueue(self, owner: str, items: Iterable[bytes]) -> None:
        """Take items out of such a queue."""
        pairs = [(item, f"{owner}\0".encode() + item) for item in items]
        self._forget(self._keys.priority(owner), "ZREM", QUEUES, pairs)

    def notices(self, sessions: Iterable[str]) -> None:
        """Remove sessions in which nobody but he reads."""
        for session in sessions:
            tag = self._keys.session_tag(session)
            self._redis.ask("UNLINK", *(f"{tag}:{letter}:{session}" for letter in "htgm"))

    def positions(self, user: str, sessions: Iterable[str]) -> None:
        """Forget up to where he has read."""
        for session in sessions:
            self._forget(self._keys.meta(session), "HDEL", "positions", [(f"r:{user}", f"{session}\0{user}")])

    def memberships(self, user: str, groups: Iterable[str]) -> None:
        """Forget that he is in groups which he has left, or which are no more."""
        for group in groups:
            self._forget(self._keys.members(group), "ZREM", "members", [(user, f"{group}\0{user}")])
            self._forget(self._keys.my_groups(user), "ZREM", "user_groups", [(group, f"{user}\0{group}")])

    def person(self, user: str) -> None:
        """Remove all that is kept under his name. His account stays, without a password and disabled: nobody else shall
        take the id. So do the numbers of his logins, by which a connection that outlived them is found."""
        key = self._keys.of_user
        for about in (USER, SESSION):
            fields = [field for field in self._redis.ask("HKEYS", key(about, user)) if b"\0" in field]
            pairs = [(field, f"{user}\0{about}\0".encode() + field) for field in fields]
            self._forget(key(about, user), "HDEL", "attributes", pairs)
        self._registrations.forget_user(user)
        self.unqueue(user, self.queued(user))
        self._forget(key("i", user), "HDEL", "profiles", [(field, user) for field in PROFILE])
        self._redis.ask("UNLINK", *(key(letter, user) for letter in (USER, SESSION, "h", "r", "d")))
        self._redis.ask("ZREM", f"{self._keys.user_tag(user)}:w", user)
        self._forget(key("u", user), "HDEL", "users", [(field, user) for field in ACCOUNT if field != "disabled"])
        self._redis.ask("ZREM", USERS, user)

    def _forget(self, key: str, command: str, kind: str, pairs: Sequence[tuple[Any, Any]]) -> None:
        for i in range(0, len(pairs), CHUNK):
            elements = [part for pair in pairs[i : i + CHUNK] for part in pair]
            self._redis.run(FORGET, (key,), (command, kind, *elements))
