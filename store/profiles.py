"""Profiles, and the attributes that a user keeps about others and about his sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from store.client import Client
from store.keys import Keys
from store.scripts import ATTRIBUTE, ATTRIBUTES, PUT_PROFILE

FAILED, DONE, RENAMED = range(3)
"""What became of an attribute: FAILED: there are too many; RENAMED: the remark of a friend is another now."""

USER, SESSION = "a", "s"
"""What attributes are about."""
NAMES_MAX = 64
"""Attributes of one subject."""
FIELDS_MAX = 50_000
"""Attributes of one user together, and their subjects."""

_FIELDS = ("name", "avatar", "mobile", "birthday")


class Profile(NamedTuple):
    """How a user shows himself; `birthday` in ms."""

    name: str = ""
    avatar: str = ""
    mobile: str = ""
    birthday: int = 0


class Profiles:
    """Profiles and attributes in the hot store. Without `done`, a method blocks its greenlet and raises
    `StoreError`."""

    def __init__(self, writes: Client, reads: Client, keys: Keys) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys

    def put(self, user: str, profile: Profile) -> None:
        """Replace a profile."""
        fields = [part for name, value in zip(_FIELDS, profile, strict=True) for part in (name, value)]
        self._writes.run(PUT_PROFILE, (self._keys.of_user("i", user),), fields)

    def get(self, users: Sequence[str]) -> list[Profile]:
        """Profiles in the order asked; an unknown user's is empty."""
        commands = [("HMGET", self._keys.of_user("i", user), *_FIELDS) for user in users]
        replies = self._reads.ask_all(commands)
        return [
            Profile(_text(name), _text(avatar), _text(mobile), int(birthday or 0))
            for name, avatar, mobile, birthday in replies
        ]

    def set_attribute(self, about: str, user: str, subject: str, name: str, value: str) -> int:
        """Set an attribute that `user` keeps about a USER or a SESSION; "" clears it. FAILED, DONE, RENAMED."""
        of_user = self._keys.of_user
        keys = (of_user(about, user), f"{self._keys.user_tag(user)}:stamp", of_user("f", user))
        args = (subject, name, value, NAMES_MAX, FIELDS_MAX, int(about == USER))
        status: int = self._writes.run(ATTRIBUTE, keys, args)
        return status

    def attribute(self, about: str, user: str, subject: str, name: str) -> str:
        """One attribute, "" when it is not set."""
        found = self._reads.ask("HGET", self._keys.of_user(about, user), f"{subject}\0{name}")
        return _text(found)

    def attributes(self, about: str, user: str, subjects: Sequence[str]) -> list[dict[str, str]]:
        """All attributes of each of the subjects."""
        reply = self._reads.run(ATTRIBUTES, (self._keys.of_user(about, user),), subjects)
        return attributes_of(reply, len(subjects))


def attributes_of(reply: list[list[bytes]], count: int) -> list[dict[str, str]]:
    """What the script says of the attributes of `count` subjects: nothing at all when there are none."""
    if not reply:
        return [{}] * count
    return [dict(zip(*[(part.decode() for part in row)] * 2, strict=True)) for row in reply]


def _text(found: bytes | None) -> str:
    return found.decode() if found is not None else ""
