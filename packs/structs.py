"""The payloads, one struct each. Wire names are camelCase (`from` is `sender` here); unknown fields are ignored.

Every field has a default, so a missing one never fails the decoder. What a request must carry is declared by `required`
and `present` and checked by `missing`. A required field whose zero value says something defaults to `ABSENT`, which
cannot be taken for a value and is never written. Fields for the acting user (`from`, `operatorId`, `userId`) are never
required: empty means the authenticated user.

    Payload    answers, pushes and the records they share: every field is written, readers need no defaults
    Request    what clients send: optional fields are written only when set

Times are ms since the epoch and seqIds µs since the epoch in size, unless a field says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from packs.pack import Int32, Int64, Pack

ABSENT: Any = UNSET
"""Default of a required field that has no zero value; `missing` finds it."""

MAX_ITEMS = 10_000
"""Items in a list of a request; larger groups are filled by several. A frame of empty records would cost 40 MB."""

Ids = Annotated[list[str], Meta(max_length=MAX_ITEMS)]
"""Ids in a request."""


class Payload(msgspec.Struct, rename="camel", gc=False):
    """Base of all payloads. Not tracked by the garbage collector: a payload never refers back to itself."""

    required: ClassVar[tuple[str, ...]] = ()
    """Attributes that must be there; strings and lists among them must not be empty. `a.b` is `b` of the record `a`."""

    present: ClassVar[tuple[str, ...]] = ()
    """Attributes that must be there and may be empty; they default to `ABSENT`."""


class Request(Payload, omit_defaults=True):
    """Base of what clients send."""


def missing(payload: Payload) -> str | None:
    """Wire name of the first field that `payload` must carry and does not; None when it is complete.

    Looks into required records and lists of records as well.
    """
    for get, wire_name, may_be_empty in _rules(type(payload)):
        value = get(payload)
        if value is UNSET or not (value or may_be_empty or type(value) is int):
            return wire_name
        if type(value) is str:
            continue
        for record in value if type(value) is list else (value,):
            if isinstance(record, Payload) and (name := missing(record)) is not None:
                return name
    return None


@cache
def _rules(struct: type[Payload]) -> tuple[tuple[Callable[[Payload], Any], str, bool], ...]:
    """For each field that must be there: its getter, its wire name, whether it may be empty."""

    def rule(name: str, may_be_empty: bool) -> tuple[Callable[[Payload], Any], str, bool]:
        head, *tail = name.rpartition(".")[2].split("_")
        return attrgetter(name), head + "".join(part.title() for part in tail), may_be_empty

    return tuple([rule(name, False) for name in struct.required] + [rule(name, True) for name in struct.present])


# Shared records


class CommonErrorCode(Payload, kw_only=True, omit_defaults=True, frozen=True):  # type: ignore[misc]  # msgspec may
    """The outcome: a `Code`, a short English text, and with code 7 how long to wait."""

    # Written even when 0 and empty: what a factory makes is no default in the eyes of `omit_defaults`.
    code: Int32 = field(default_factory=int)
    desc: str = field(default_factory=str)
    retry_after: Int64 = 0
    """ms."""


SUCCESS = CommonErrorCode()
"""The outcome of what went well."""


class PushInfo(Request, kw_only=True, frozen=True):  # type: ignore[misc]  # msgspec may
    """What a vendor's notification shows; empty fields are filled by the push node."""

    title: str = ""
    summary: str = ""
    url: str = ""


NO_PUSH_INFO = PushInfo()
"""The sender left the notification to the server."""


class GroupChatInfo(Payload, kw_only=True):
    """A group's profile. In an update, empty, 0 and absent fields leave things as they are."""

    group_id: str = ""
    name: str = ""
    avatar: str = ""
    creator_id: str = ""
    desc: str = ""
    member_limit: Int32 = 0
    """0: the server's default."""
    create_time: Int64 = 0
    update_time: Int64 = 0
    join_mode: Int32 | UnsetType = UNSET
    """A `JoinMode`. Absent in an update: unchanged, so that a new name does not open a closed group."""


class FriendInfo(Payload, kw_only=True):
    """One direction of a friendship; `remark` is the name that `userId` gives to `friendId`."""

    required = ("friend_id",)
    user_id: str = ""
    friend_id: str = ""
    remark: str = ""


class UserInfo(Payload, kw_only=True):
    """A user's profile."""

    user_id: str = ""
    name: str = ""
    avatar: str = ""
    mobile: str = ""
    birthday: Int64 = 0


class UserAttribute(Payload, kw_only=True):
    """An attribute that `userId` keeps about `friendId`; an empty value clears it."""

    required = ("friend_id", "attr_name")
    present = ("attr_value",)
    user_id: str = ""
    friend_id: str = ""
    attr_name: str = ""
    attr_value: str = ABSENT


class Empty(Request):
    """No fields: types without a payload."""


# Connection: 10 to 13


class LoginReq(Request, kw_only=True):
    """11. Nothing is required here: LOGIN answers what is missing with code 20."""

    client_id: str = ""
    user_name: str = ""
    password: str = ""
    """Password or signed token. Never logged."""
    device_type: Int32 = 0
    device_name: str = ""
    device_id: str = ""
    version: str = ""
    """Version of the app."""


class LoginResp(Payload, kw_only=True):
    """Answer to 11."""

    error_code: CommonErrorCode = SUCCESS
    client_id: str = ""
    extra_data: str = ""
    """JSON: `heartbeat` in s, `maxFrame` and `maxPayload` in bytes, `server`."""


class KickOutAck(Payload, kw_only=True):
    """Answer to 13."""

    error_code: CommonErrorCode = SUCCESS


# Messages: 14 to 18, 25


class MsgReq(Request, kw_only=True):
    """14, 15, 16: a message. `seqId`, `timestamp` and `prevSeqId` are the server's; a client's are ignored.

    `sessionId` may be empty or, in a single chat, name the users in either order.
    """

    required = ("to",)
    session_id: str = ""
    seq_id: Int64 = 0
    timestamp: Int64 = 0
    sender: str = field(default="", name="from")
    to: str = ""
    push_info: PushInfo = NO_PUSH_INFO
    content_type: Int32 = 0
    content: str = ""
    status: Int32 = 0
    prev_seq_id: Int64 = 0
    """seqId of the message before it in the session, 0 for the first."""
    mentions: Ids = []
    """User ids; `*` means all."""


class MsgAck(Payload, kw_only=True):
    """Answer to 14, 15, 16. Code 0: stored under these numbers; 46: stored before under these numbers."""

    error_code: CommonErrorCode = SUCCESS
    session_id: str = ""
    seq_id: Int64 = 0
    timestamp: Int64 = 0
    prev_seq_id: Int64 = 0


class MsgControl(Request, kw_only=True):
    """17: a `ControlCommand` on the message that has both this seqId and this packId."""

    required = ("command", "session_id", "pack_id", "seq_id")
    command: Int32 = ABSENT
    session_id: str = ""
    pack_id: str = ""
    seq_id: Int64 = ABSENT
    content: str = ""
    """The new content of an override."""
    operator_id: str = ""
    timestamp: Int64 = 0
    """When it was done; set by the server."""


class MsgReaded(Request, kw_only=True):
    """18: read up to and including `seqId`. Pushed to the reader's other devices and, in single chats, the peer."""

    required = ("session_id", "seq_id")
    session_id: str = ""
    seq_id: Int64 = ABSENT
    user_id: str = ""
    """The reader; set by the server."""


class SyncDataReq(Payload, kw_only=True):
    """25, pushed: a `SyncCommand`; `content` is the id of the group or empty."""

    command: Int32 = 0
    content: str = ""


# History: 19 to 24


class HotSessionReq(Request, kw_only=True):
    """19. `timestamp` is the cursor of the last answer, 0 for everything."""

    required = ("timestamp",)
    timestamp: Int64 = ABSENT


class HotSessionItem(Payload, kw_only=True):
    """One recent session of the asking user."""

    session_id: str = ""
    read_seq_id: Int64 = 0
    """Read up to and including this one, 0 for nothing."""
    unread_count: Int32 = 0
    last_msgs: list[Pack] = []
    """The newest message that still exists."""
    attribute: str = ""
    """JSON object of the session's attributes."""


class HotSessionResp(Payload, kw_only=True):
    """Answer to 19, ascending by activity. Code 25: there is more, ask again from `timestamp` (opaque cursor)."""

    error_code: CommonErrorCode = SUCCESS
    timestamp: Int64 = 0
    sessions: list[HotSessionItem] = []


class MsgHighPrioritySyncReq(Request, kw_only=True):
    """20. `seqId` is the `lastSeqId` of the last answer, 0 for everything that is kept."""

    required = ("seq_id",)
    seq_id: Int64 = ABSENT
    count: Int32 = 200


class MsgHighPrioritySyncResp(Payload, kw_only=True):
    """Answer to 20, ascending. `lastSeqId` is an opaque cursor."""

    error_code: CommonErrorCode = SUCCESS
    last_seq_id: Int64 = 0
    msgs: list[Pack] = []


class HistoryMsgPullReq(Request, kw_only=True):
    """21: `count` messages of a session from `seqId` (inclusive, <= 0: the newest) downwards."""

    required = ("session_id", "seq_id")
    session_id: str = ""
    seq_id: Int64 = ABSENT
    count: Int32 = 30


class HistoryMsgPullResp(Payload, kw_only=True):
    """Answer to 21, newest first. Nothing visible lies between the entries."""

    error_code: CommonErrorCode = SUCCESS
    session_id: str = ""
    msgs: list[Pack] = []


class SessionMonitor(Request, kw_only=True):
    """22, 23: begin or end listening to a session."""

    required = ("session_id",)
    session_id: str = ""


# Groups: 40 to 47


class GroupChatSyncReq(Request, kw_only=True):
    """40. `timestamp` is the cursor of the last answer, 0 for everything."""

    required = ("timestamp",)
    timestamp: Int64 = ABSENT


class GroupChatSyncResp(Payload, kw_only=True):
    """Answer to 40: the profiles that changed, the ids of all my groups, and the next cursor (opaque)."""

    error_code: CommonErrorCode = SUCCESS
    timestamp: Int64 = 0
    group_chats: list[GroupChatInfo] = []
    group_ids: list[str] = []


class GroupChatCreateReq(Request, kw_only=True):
    """41. The creator is a member and the owner, listed or not."""

    required = ("group_info", "group_info.name")
    present = ("member_ids",)
    group_info: GroupChatInfo = ABSENT
    member_ids: Ids = ABSENT


class GroupChatCreateResp(Payload, kw_only=True):
    """Answer to 41."""

    error_code: CommonErrorCode = SUCCESS
    group_id: str = ""


class GroupChatJoinQuitReq(Request, kw_only=True):
    """42, 43: add or remove members; done whole or not at all."""

    required = ("group_id", "member_ids")
    group_id: str = ""
    member_ids: Ids = ABSENT


class GroupChatDismissReq(Request, kw_only=True):
    """44."""

    required = ("group_id",)
    group_id: str = ""
    operator_id: str = ""


class GroupChatCreatorUpdateReq(Request, kw_only=True):
    """45: hand the group over."""

    required = ("group_id", "new_creator_id")
    group_id: str = ""
    operator_id: str = ""
    new_creator_id: str = ""


class GroupChatInfoUpdateReq(Request, kw_only=True):
    """46: change the profile of the group `groupInfo.groupId`."""

    required = ("group_info", "group_info.group_id")
    operator_id: str = ""
    group_info: GroupChatInfo = ABSENT


class GroupChatMemberGetReq(Request, kw_only=True):
    """47. `cursor` is that of the page before."""

    required = ("group_id",)
    group_id: str = ""
    cursor: str = ""


class GroupChatMemberGetResp(Payload, kw_only=True):
    """Answer to 47. `cursor` (opaque) is empty when there are no more."""

    error_code: CommonErrorCode = SUCCESS
    group_id: str = ""
    member_ids: list[str] = []
    cursor: str = ""


# Friends, profiles, attributes: 51 to 58


class FriendAddReq(Request, kw_only=True):
    """51."""

    required = ("friends",)
    friends: Annotated[list[FriendInfo], Meta(max_length=MAX_ITEMS)] = ABSENT


class FriendDelReq(Request, kw_only=True):
    """52."""

    required = ("friends",)
    friends: Annotated[list[FriendInfo], Meta(max_length=MAX_ITEMS)] = ABSENT


class FriendSyncReq(Request, kw_only=True):
    """53. `timestamp` is the cursor of the last answer, 0 for everything."""

    required = ("timestamp",)
    timestamp: Int64 = ABSENT


class FriendSyncResp(Payload, kw_only=True):
    """Answer to 53: the friends that changed, the ids of all friends, and the next cursor (opaque)."""

    error_code: CommonErrorCode = SUCCESS
    friends: list[FriendInfo] = []
    timestamp: Int64 = 0
    friend_ids: list[str] = []


class UserInfoGetReq(Request, kw_only=True):
    """54."""

    required = ("user_ids",)
    user_ids: Ids = ABSENT


class UserInfoGetResp(Payload, kw_only=True):
    """Answer to 54, one entry per id in the order asked; an unknown user's has only the id."""

    error_code: CommonErrorCode = SUCCESS
    user_infos: list[UserInfo] = []


class UserInfoUpdateReq(Request, kw_only=True):
    """55: replace the own profile."""

    required = ("user_info",)
    user_info: UserInfo = ABSENT


class UserAttrSetReq(Request, kw_only=True):
    """56."""

    required = ("attribute",)
    attribute: UserAttribute = ABSENT


class UserAttrGetReq(Request, kw_only=True):
    """57: one attribute, or all when `attrName` is empty."""

    required = ("friend_id",)
    user_id: str = ""
    friend_id: str = ""
    attr_name: str = ""


class UserAttrGetResp(Payload, kw_only=True):
    """Answer to 57."""

    error_code: CommonErrorCode = SUCCESS
    attributes: list[UserAttribute] = []


class SessionAttrSetReq(Request, kw_only=True):
    """58: set an attribute (TOP, MUTE, …) of one of the own sessions; an empty value clears it."""

    required = ("session_id", "attr_name")
    present = ("attr_value",)
    user_id: str = ""
    session_id: str = ""
    attr_name: str = ""
    attr_value: str = ABSENT
