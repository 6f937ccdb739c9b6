"""The one table of pack types: number, payloads, owner and routing key of each.

    request    what a client sends; None: clients may not send this type (answer code 1)
    response   what it is answered with, errors included
    push       what the server sends on its own, ACK clear
    owner      the kind of node that handles the request; None: nobody does (answer code 1)
    key        what routes it: "session" (one owner per session, order is kept), "group" (that owner, when the session
               is a group) or "user" (the authenticated user)

A new type gets the next free number from 60 up, a row here, its structs, its owner and its tests. Numbers are never
reused.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from packs import structs as s
from packs import structs_social as x
from packs.codes import Code
from packs.errors import PayloadError
from packs.ids import canonical_session, is_group_id, is_user_id, single_session

PING: Final = 10
LOGIN: Final = 11
LOGOUT: Final = 12
KICKOUT: Final = 13
MSG_SINGLE_CHAT: Final = 14
MSG_GROUP_CHAT: Final = 15
MSG_BIZ_NOTIFY: Final = 16
MSG_CTRL: Final = 17
MSG_READ: Final = 18
HOTSESSION_SYNC: Final = 19
HIGH_PRIOR_MSG_SYNC: Final = 20
HISTORY_MSG_PULL: Final = 21
SESSION_MONITOR_START: Final = 22
SESSION_MONITOR_STOP: Final = 23
SESSION_MONITOR_SYNC: Final = 24
SYNC_DATA_CMD: Final = 25
GROUPCHAT_SYNC: Final = 40
GROUPCHAT_CREATE: Final = 41
GROUPCHAT_JOIN: Final = 42
GROUPCHAT_QUIT: Final = 43
GROUPCHAT_DISMISS: Final = 44
GROUPCHAT_UPDATE_CREATOR: Final = 45
GROUPCHAT_INFO_UPDATE: Final = 46
GROUPCHAT_MEMBERS_GET: Final = 47
FRIEND_ADD: Final = 51
FRIEND_DEL: Final = 52
FRIEND_SYNC: Final = 53
USERINFO_GET: Final = 54
USERINFO_UPDATE: Final = 55
USERATTRIBUTE_SET: Final = 56
USERATTRIBUTE_GET: Final = 57
SESSIONATTRIBUTE_SET: Final = 58
BLOCK: Final = 60
UNBLOCK: Final = 61
BLOCKLIST_GET: Final = 62
FRIEND_REQUESTS_GET: Final = 63
FRIEND_REQUEST_ANSWER: Final = 64
PRESENCE_GET: Final = 65
PRESENCE_SUBSCRIBE: Final = 66
PRESENCE_UNSUBSCRIBE: Final = 67
PRESENCE_PUSH: Final = 68
TYPING: Final = 69
DEVICES_GET: Final = 70
PUSH_REGISTER: Final = 71
PUSH_UNREGISTER: Final = 72
PUSH_REGISTRATIONS_GET: Final = 73
SEARCH: Final = 75


class PackType(NamedTuple):
    """A row of the table; the module's docstring explains the columns."""

    number: int
    name: str
    request: type[s.Payload] | None
    response: type[s.Payload] | None
    push: type[s.Payload] | None
    owner: Literal["broker", "chat", "group", "history", "msgop", "olap", "push", "user"] | None
    key: Literal["session", "group", "user"] = "user"


_ROWS = (
    PackType(PING, "PING", s.Empty, s.CommonErrorCode, None, "broker"),
    PackType(LOGIN, "LOGIN", s.LoginReq, s.LoginResp, None, "broker"),
    PackType(LOGOUT, "LOGOUT", s.Empty, s.CommonErrorCode, None, "broker"),
    PackType(KICKOUT, "KICKOUT", x.KickOut, s.KickOutAck, x.KickOut, "user"),
    PackType(MSG_SINGLE_CHAT, "MSG_SINGLE_CHAT", s.MsgReq, s.MsgAck, s.MsgReq, "chat", "session"),
    PackType(MSG_GROUP_CHAT, "MSG_GROUP_CHAT", s.MsgReq, s.MsgAck, s.MsgReq, "group", "session"),
    PackType(MSG_BIZ_NOTIFY, "MSG_BIZ_NOTIFY", None, s.MsgAck, s.MsgReq, "chat"),
    PackType(MSG_CTRL, "MSG_CTRL", s.MsgControl, s.CommonErrorCode, s.MsgControl, "msgop", "session"),
    PackType(MSG_READ, "MSG_READ", s.MsgReaded, s.CommonErrorCode, s.MsgReaded, "msgop", "session"),
    PackType(HOTSESSION_SYNC, "HOTSESSION_SYNC", s.HotSessionReq, s.HotSessionResp, None, "history"),
    PackType(
        HIGH_PRIOR_MSG_SYNC,
        "HIGH_PRIOR_MSG_SYNC",
        s.MsgHighPrioritySyncReq,
        s.MsgHighPrioritySyncResp,
        None,
        "history",
    ),
    PackType(
        HISTORY_MSG_PULL, "HISTORY_MSG_PULL", s.HistoryMsgPullReq, s.HistoryMsgPullResp, None, "history", "session"
    ),
    PackType(SESSION_MONITOR_START, "SESSION_MONITOR_START", s.SessionMonitor, s.CommonErrorCode, None, "broker"),
    PackType(SESSION_MONITOR_STOP, "SESSION_MONITOR_STOP", s.SessionMonitor, s.CommonErrorCode, None, "broker"),
    PackType(SESSION_MONITOR_SYNC, "SESSION_MONITOR_SYNC", s.Empty, s.HotSessionResp, None, "broker"),
    PackType(SYNC_DATA_CMD, "SYNC_DATA_CMD", None, None, s.SyncDataReq, None),
    PackType(GROUPCHAT_SYNC, "GROUPCHAT_SYNC", s.GroupChatSyncReq, s.GroupChatSyncResp, None, "group"),
    PackType(GROUPCHAT_CREATE, "GROUPCHAT_CREATE", s.GroupChatCreateReq, s.GroupChatCreateResp, None, "group"),
    PackType(GROUPCHAT_JOIN, "GROUPCHAT_JOIN", s.GroupChatJoinQuitReq, s.CommonErrorCode, None, "group", "group"),
    PackType(GROUPCHAT_QUIT, "GROUPCHAT_QUIT", s.GroupChatJoinQuitReq, s.CommonErrorCode, None, "group", "group"),
    PackType(GROUPCHAT_DISMISS, "GROUPCHAT_DISMISS", s.GroupChatDismissReq, s.CommonErrorCode, None, "group", "group"),
    PackType(
        GROUPCHAT_UPDATE_CREATOR,
        "GROUPCHAT_UPDATE_CREATOR",
        s.GroupChatCreatorUpdateReq,
        s.CommonErrorCode,
        None,
        "group",
        "group",
    ),
    PackType(
        GROUPCHAT_INFO_UPDATE,
        "GROUPCHAT_INFO_UPDATE",
        s.GroupChatInfoUpdateReq,
        s.CommonErrorCode,
        None,
        "group",
        "group",
    ),
    PackType(
        GROUPCHAT_MEMBERS_GET,
        "GROUPCHAT_MEMBERS_GET",
        s.GroupChatMemberGetReq,
        s.GroupChatMemberGetResp,
        None,
        "group",
        "group",
    ),
    PackType(FRIEND_ADD, "FRIEND_ADD", s.FriendAddReq, s.CommonErrorCode, None, "user"),
    PackType(FRIEND_DEL, "FRIEND_DEL", s.FriendDelReq, s.CommonErrorCode, None, "user"),
    PackType(FRIEND_SYNC, "FRIEND_SYNC", s.FriendSyncReq, s.FriendSyncResp, None, "user"),
    PackType(USERINFO_GET, "USERINFO_GET", s.UserInfoGetReq, s.UserInfoGetResp, None, "user"),
    PackType(USERINFO_UPDATE, "USERINFO_UPDATE", s.UserInfoUpdateReq, s.CommonErrorCode, None, "user"),
    PackType(USERATTRIBUTE_SET, "USERATTRIBUTE_SET", s.UserAttrSetReq, s.CommonErrorCode, None, "user"),
    PackType(USERATTRIBUTE_GET, "USERATTRIBUTE_GET", s.UserAttrGetReq, s.UserAttrGetResp, None, "user"),
    PackType(SESSIONATTRIBUTE_SET, "SESSIONATTRIBUTE_SET", s.SessionAttrSetReq, s.CommonErrorCode, None, "user"),
    PackType(BLOCK, "BLOCK", x.BlockReq, s.CommonErrorCode, None, "user"),
    PackType(UNBLOCK, "UNBLOCK", x.BlockReq, s.CommonErrorCode, None, "user"),
    PackType(BLOCKLIST_GET, "BLOCKLIST_GET", s.Empty, x.BlocklistResp, None, "user"),
    PackType(FRIEND_REQUESTS_GET, "FRIEND_REQUESTS_GET", s.Empty, x.FriendRequestsResp, None, "user"),
    PackType(FRIEND_REQUEST_ANSWER, "FRIEND_REQUEST_ANSWER", x.FriendRequestAnswerReq, s.CommonErrorCode, None, "user"),
    PackType(PRESENCE_GET, "PRESENCE_GET", x.PresenceGetReq, x.PresenceResp, None, "user"),
    PackType(PRESENCE_SUBSCRIBE, "PRESENCE_SUBSCRIBE", x.PresenceSubscribeReq, x.PresenceResp, None, "broker"),
    PackType(PRESENCE_UNSUBSCRIBE, "PRESENCE_UNSUBSCRIBE", x.PresenceUnsubscribeReq, s.CommonErrorCode, None, "broker"),
    PackType(PRESENCE_PUSH, "PRESENCE_PUSH", None, None, x.PresencePush, None),
    PackType(TYPING, "TYPING", x.Typing, s.CommonErrorCode, x.Typing, "user"),
    PackType(DEVICES_GET, "DEVICES_GET", s.Empty, x.DevicesResp, None, "user"),
    PackType(PUSH_REGISTER, "PUSH_REGISTER", x.PushRegisterReq, s.CommonErrorCode, None, "push"),
    PackType(PUSH_UNREGISTER, "PUSH_UNREGISTER", x.PushUnregisterReq, s.CommonErrorCode, None, "push"),
    PackType(PUSH_REGISTRATIONS_GET, "PUSH_REGISTRATIONS_GET", s.Empty, x.PushRegistrationsResp, None, "push"),
    PackType(SEARCH, "SEARCH", x.SearchReq, x.SearchResp, None, "olap"),
)

TABLE: Final[dict[int, PackType]] = {row.number: row for row in _ROWS}
"""All pack types by number."""


def payload_struct(number: int, *, response: bool) -> type[s.Payload]:
    """The struct of a pack's payload as it travels: of the response, or of the request or push of that type.

    For types and directions that the table lacks, what an error about them needs: `CommonErrorCode`, else `Empty`.
    """
    row = TABLE.get(number)
    if response:
        return (row and row.response) or s.CommonErrorCode
    return (row and (row.request or row.push)) or s.Empty


class _Key(msgspec.Struct, rename="camel", gc=False):
    """The fields that can route a pack; a decoder of it skips everything else unread."""

    to: str = ""
    session_id: str = ""


_decode_key = msgspec.msgpack.Decoder(_Key).decode


class _InfoKey(msgspec.Struct, rename="camel", gc=False, frozen=True):
    group_id: str = ""


class _GroupKey(msgspec.Struct, rename="camel", gc=False):
    """`_Key` of requests about a group."""

    group_id: str = ""
    group_info: _InfoKey = _InfoKey()


_decode_group_key = msgspec.msgpack.Decoder(_GroupKey).decode


def route_key(type_: int, payload: bytes, user_id: str) -> str:
    """What the broker routes a request by: the canonical session id, the group id, or `user_id`, as the table says.

    `payload` is canonical and only its key is looked at. Raises `PayloadError`: 42 when it does not decode, 2 when the
    key is missing or malformed, 1 for a type that the table lacks.
    """
    row = TABLE.get(type_)
    if row is None:
        raise PayloadError(Code.PROTOCOL)
    if row.key == "user":
        return user_id
    if row.key == "group":
        return _group_key(payload)
    try:
        key = _decode_key(payload or b"\x80")
    except (ValueError, RecursionError):
        raise PayloadError(Code.MSG_FORMAT) from None
    if type_ == MSG_SINGLE_CHAT:
        if is_user_id(key.to):
            return single_session(user_id, key.to)
    elif type_ == MSG_GROUP_CHAT:
        if is_group_id(key.to):
            return key.to
    elif (session := canonical_session(key.session_id)) is not None:
        return session
    raise PayloadError(Code.PARAM, f"bad {'to' if type_ in (MSG_SINGLE_CHAT, MSG_GROUP_CHAT) else 'sessionId'}")


def _group_key(payload: bytes) -> str:
    try:
        key = _decode_group_key(payload or b"\x80")
    except (ValueError, RecursionError):
        raise PayloadError(Code.MSG_FORMAT) from None
    group = key.group_id or key.group_info.group_id
    if not is_group_id(group):
        raise PayloadError(Code.PARAM, "bad groupId")
    return group
