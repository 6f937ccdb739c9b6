"""Ids and session ids: what is well formed, and how sessions are named.

Ids are ASCII and compared byte by byte. A single chat is `SC_<a>_<b>` with the two user ids sorted as byte strings, a
business notice `BM_<appId>_<user>`, a group chat the group id itself. Each `_` inside an id is written `~`, which no
id may contain, so that no two pairs share a session and a session id can be taken apart again.
"""

from __future__ import annotations

import re
from enum import Enum

_USER = re.compile(r"[A-Za-z0-9._@+-]{1,64}").fullmatch
_GROUP = re.compile(r"GC_[A-Za-z0-9]{1,60}").fullmatch
_VISIBLE = re.compile(r"[!-~]{1,64}").fullmatch
_PAIR = re.compile(r"(SC|BM)_([A-Za-z0-9.~@+-]{1,64})_([A-Za-z0-9.~@+-]{1,64})").fullmatch


class SessionKind(Enum):
    """What a session is; the value is the prefix of its id."""

    SINGLE = "SC"
    GROUP = "GC"
    BUSINESS = "BM"


def is_user_id(text: str) -> bool:
    """Is it a well-formed user or app id?"""
    return _USER(text) is not None


def is_group_id(text: str) -> bool:
    """Is it a well-formed group id?"""
    return _GROUP(text) is not None


def is_device_id(text: str) -> bool:
    """Is it a well-formed device id?"""
    return _VISIBLE(text) is not None


def is_pack_id(text: str) -> bool:
    """Is it a well-formed pack id?"""
    return _VISIBLE(text) is not None


def single_session(a: str, b: str) -> str:
    """The canonical session id of the single chat of two users, in either order; `a` = `b` is notes to self."""
    if b < a:
        a, b = b, a
    return f"SC_{a.replace('_', '~')}_{b.replace('_', '~')}"


def business_session(app: str, user: str) -> str:
    """The session id of an app's notices to a user."""
    return f"BM_{app.replace('_', '~')}_{user.replace('_', '~')}"


def single_members(session_id: str) -> tuple[str, str] | None:
    """The two users of a single chat, sorted, whichever order the id has; None if it is not a single chat's id."""
    if (parts := _pair(session_id, "SC")) is None:
        return None
    a, b = parts
    return (b, a) if b < a else parts


def business_members(session_id: str) -> tuple[str, str] | None:
    """App and user of a business session; None if it is not one's id."""
    return _pair(session_id, "BM")


def parties(session_id: str) -> tuple[str, ...]:
    """The users who have a session in their own lists: both of a single chat, the recipient of notices; none of a
    group, whose members do not."""
    if (members := single_members(session_id)) is not None:
        return tuple(dict.fromkeys(members))
    found = business_members(session_id)
    return found[1:] if found is not None else ()


def session_kind(session_id: str) -> SessionKind | None:
    """What a session id names; None if it is malformed."""
    if (match := _PAIR(session_id)) is not None:
        return SessionKind(match[1])
    return SessionKind.GROUP if is_group_id(session_id) else None


def canonical_session(session_id: str) -> str | None:
    """The form that is stored and answered (a single chat's users in order); None if the id is malformed."""
    if (members := single_members(session_id)) is not None:
        return single_session(*members)
    return session_id if session_kind(session_id) else None


def _pair(session_id: str, prefix: str) -> tuple[str, str] | None:
    match = _PAIR(session_id)
    if match is None or match[1] != prefix:
        return None
    return match[2].replace("~", "_"), match[3].replace("~", "_")
