"""What the parts of the user node share. The node itself, in `nodes/user.py`, is put together from them:

    nodes/friends.py    friends, requests, blocked users
    nodes/profiles.py   profiles and attributes
    nodes/presence.py   who is online
    nodes/devices.py    devices, and what ends their logins
    nodes/typists.py    who is typing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from mesh.errors import AppError
from nodes import hot, publications
from nodes.auth import AuthSettings
from nodes.packs import Item, PackNode
from packs.codes import Code
from packs.enums import SyncCommand
from packs.ids import is_user_id

DIRECT, REQUEST = "direct", "request"
SYNC_MAX, SYNC_CONTENT_MAX = 1_000, 4_096
"""Users that get one sync command of others, and characters in it."""
STIRRED = publications.stirred()


class UserSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [node.user]."""

    friend_mode: str = DIRECT
    """"direct": adding makes friends at once; "request": it asks, and the other one accepts or declines (63, 64)."""
    max_friends: int = 5_000
    """Friends of one user, at most."""
    max_blocked: int = 1_000
    """Users that one user may have blocked."""
    typing_per_minute: int = 60
    """Typing notices of one user (code 7)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.friend_mode not in (DIRECT, REQUEST):
            yield "friend_mode", f'must be "{DIRECT}" or "{REQUEST}"'
        for key in ("max_friends", "max_blocked"):
            if not 1 <= getattr(self, key) <= 5_000:  # more do not fit an answer of one frame
                yield key, "must be from 1 to 5000"
        if self.typing_per_minute < 1:
            yield "typing_per_minute", "must be at least 1"


class SocialNode(PackNode):
    """Base of the parts."""

    Settings = UserSettings
    sections = {**hot.SECTIONS, "auth": AuthSettings}
    publishes = True

    def start(self) -> None:
        self._auth: AuthSettings = self.section("auth")
        self._store = hot.opened(self.process)

    def tell(self, users: Iterable[str], command: SyncCommand, skip: str = "") -> None:
        """Have users fetch something again, on all their devices but connection `skip`."""
        body = publications.sync(skip, command, "")
        for user in users:
            topic = publications.USER + user
            if self.process.fanout.holders(topic):
                self.publish(topic, body)

    def sync(self, users: tuple[str, ...], command: int, content: str, pack_id: str) -> None:
        require_ids(users, SYNC_MAX)
        require_short("content", content, SYNC_CONTENT_MAX)
        body = publications.sync("", command, content, pack_id)
        for user in dict.fromkeys(users):
            topic = publications.USER + user
            if self.process.fanout.holders(topic):
                self.publish(topic, body)

    def stir(self, *users: str) -> None:
        """Have those who watch the presence of these users look again. Costs nothing where nobody does."""
        for user in users:
            topic = publications.PRESENCE + user
            if self.process.fanout.holders(topic):
                self.publish(topic, STIRRED)

    def require_accounts(self, users: Sequence[str]) -> None:
        """Where users have accounts, all of these must. In a greenlet. Raises `AppError`."""
        if self._auth.mode == "password" and not all(self._store.users.exist(users)):
            raise AppError(Code.PARAM, "no such user")


def require_self(item: Item, *users: str) -> str:
    """The acting user; whoever the request names as such must be him."""
    if any(user and user != item.origin.user for user in users):
        raise AppError(Code.CONN_DENIED, "userId is not you")
    return item.origin.user


def require_ids(users: Sequence[str], most: int) -> list[str]:
    """Well-formed ids, each once, in order. Raises `AppError`."""
    if len(users) > most:
        raise AppError(Code.PARAM, f"at most {most} users at once")
    if not all(map(is_user_id, users)):
        raise AppError(Code.PARAM, "a user id is malformed")
    return list(dict.fromkeys(users))


def require_short(name: str, text: str, most: int) -> str:
    """A text of at most `most` characters, none of them NUL. Raises `AppError`."""
    if len(text) > most:
        raise AppError(Code.PARAM, f"{name} has more than {most} characters")
    if "\0" in text:
        raise AppError(Code.PARAM, f"{name} holds a NUL")
    return text


def require_line(name: str, text: str, most: int) -> str:
    """`require_short` for what is shown in one line: no control characters. Raises `AppError`."""
    if any(c < " " or c == "\x7f" for c in text):
        raise AppError(Code.PARAM, f"{name} holds control characters")
    return require_short(name, text, most)
