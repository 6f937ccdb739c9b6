"""Sessions: what they are called, what was said in them, how far they are read, and what one keeps about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from client.events import Message
from client.requests import Request
from client.sync import PAGE, message_of
from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.codes import Code
from packs.ids import business_members, canonical_session, is_group_id, is_user_id, single_members, single_session

MUTE, TOP = "MUTE", "TOP"
"""Attributes that clients know: do not disturb, and keep above the others. "1" is yes, "" no."""


def session_of(user: str, where: str) -> str:
    """The session that `where` names for `user`: a user's id, a group's id, or a session id. Raises `ValueError`."""
    if is_group_id(where):
        return where
    if where.startswith(("SC_", "BM_")) and (session := canonical_session(where)) is not None:
        return session
    if not is_user_id(where):
        raise ValueError(f"{where!r} is no user, group or session id")
    return single_session(user, where)


def peer_of(user: str, session: str) -> str:
    """Who or what a session is with: the other user, the group, or the app."""
    if (pair := single_members(session)) is not None:
        return pair[1] if pair[0] == user else pair[0]
    if (business := business_members(session)) is not None:
        return business[0]
    return session


@dataclass(frozen=True)
class HotSession:
    """A recent session: `newest` is its last message. `attributes` by name (MUTE, TOP, or your own)."""

    session_id: str
    read_seq_id: int
    unread: int
    newest: Message | None
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def muted(self) -> bool:
        return bool(self.attributes.get(MUTE))


def hot_session(item: s.HotSessionItem) -> HotSession:
    """A recent session as the program gets it. Raises `PayloadError`."""
    newest = message_of(item.last_msgs[0], "history") if item.last_msgs else None
    return HotSession(item.session_id, item.read_seq_id, item.unread_count, newest, _attributes(item.attribute))


class Sessions:
    """Of one user. `where` is a user's id, a group's id or a session id."""

    def __init__(self, user: str, request: Request) -> None:
        self._user = user
        self._request = request

    def hot(self) -> list[HotSession]:
        """All recent sessions, ascending by activity."""
        found: dict[str, HotSession] = {}
        cursor = 0
        while True:
            response: s.HotSessionResp = self._request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
            for item in response.sessions:
                found.pop(item.session_id, None)
                found[item.session_id] = hot_session(item)
            cursor = response.timestamp
            if response.error_code.code != Code.HOT_SESSION_MORE:
                return list(found.values())

    def history(self, where: str, before: int = 0, count: int = 30) -> list[Message]:
        """A page, newest first: from `before` (inclusive; 0: the newest) downwards, at most `count` and 200. May be
        shorter than that when its messages are long; an empty one is the end."""
        payload = s.HistoryMsgPullReq(session_id=session_of(self._user, where), seq_id=before, count=count)
        response: s.HistoryMsgPullResp = self._request(t.HISTORY_MSG_PULL, payload)
        return [message_of(pack, "history") for pack in response.msgs]

    def scroll(self, where: str, before: int = 0) -> Iterator[Message]:
        """All messages, newest first, page by page as they are taken."""
        while page := self.history(where, before, PAGE):
            yield from page
            if not page[-1].prev_seq_id:
                return
            before = page[-1].seq_id - 1

    def search(
        self, text: str, where: str = "", *, sender: str = "", since: int = 0, until: int = 0
    ) -> Iterator[Message]:  # fmt: skip
        """Messages that one may see and that have all words of `text`, newest first, page by page as they are taken.
        In all sessions, or in `where`; of anybody, or of `sender`; from `since` on and before `until` (ms, 0: always).
        A message is found about a second after it was sent. Raises `Refused`: 2 when `text` has no word."""
        session = session_of(self._user, where) if where else ""
        asked = x.SearchReq(text=text, session_id=session, sender_id=sender, since=since, until=until)
        while True:
            response: x.SearchResp = self._request(t.SEARCH, asked)
            for pack in response.msgs:
                yield message_of(pack, "history")
            if not response.cursor:
                return
            asked.cursor = response.cursor

    def mark_read(self, where: str, seq_id: int | None = None) -> None:
        """Everything up to and including `seq_id` (None: the newest) is read. Never moves back."""
        if seq_id is None:
            newest = self.history(where, count=1)
            if not newest:
                return
            seq_id = newest[0].seq_id
        self._request(t.MSG_READ, s.MsgReaded(session_id=session_of(self._user, where), seq_id=seq_id))

    def set(self, where: str, name: str, value: str) -> None:
        """Keep an attribute of a session, for all one's devices; "" clears it."""
        session = session_of(self._user, where)
        self._request(
            t.SESSIONATTRIBUTE_SET, s.SessionAttrSetReq(session_id=session, attr_name=name, attr_value=value)
        )

    def mute(self, where: str, on: bool = True) -> None:
        """Do not disturb."""
        self.set(where, MUTE, "1" if on else "")

    def pin(self, where: str, on: bool = True) -> None:
        """Keep above the others."""
        self.set(where, TOP, "1" if on else "")


def _attributes(text: str) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
