"""Payloads of the types from 60 on, and of 13 as clients send it. `packs/structs.py` tells what all have in common."""

from __future__ import annotations

from packs.pack import Int32, Int64, Pack
from packs.structs import ABSENT, SUCCESS, CommonErrorCode, Ids, Payload, Request


class KickOut(Request, kw_only=True):
    """13. From a client: end the login of this device of mine. Pushed: why the server closes the connection of this
    device (22: logged in elsewhere)."""

    required = ("device_type", "device_id")
    error_code: CommonErrorCode = SUCCESS
    device_type: Int32 = ABSENT
    device_id: str = ""


# Blocked users: 60 to 62


class BlockReq(Request, kw_only=True):
    """60, 61: block these users, or block them no more."""

    required = ("user_ids",)
    user_ids: Ids = ABSENT


class BlocklistResp(Payload, kw_only=True):
    """Answer to 62: whom one has blocked, sorted."""

    error_code: CommonErrorCode = SUCCESS
    user_ids: list[str] = []


# Requests to be friends: 63, 64


class FriendRequest(Payload, kw_only=True):
    """Somebody asks to be one's friend."""

    user_id: str = ""
    timestamp: Int64 = 0


class FriendRequestsResp(Payload, kw_only=True):
    """Answer to 63: the requests that wait for one, oldest first."""

    error_code: CommonErrorCode = SUCCESS
    requests: list[FriendRequest] = []


class FriendRequestAnswerReq(Request, kw_only=True):
    """64: accept (1) or decline (0) the request of `friendId`; `remark` as in 51."""

    required = ("friend_id", "accept")
    friend_id: str = ""
    accept: Int32 = ABSENT
    remark: str = ""


# Presence: 65 to 68


class Presence(Payload, kw_only=True):
    """Whether a user is online, and with which types of device. Of others than friends nothing is told."""

    user_id: str = ""
    online: Int32 = 0
    """1 or 0."""
    device_types: list[Int32] = []
    last_seen: Int64 = 0
    """When he was last online, as far as known; 0 while he is, and when nothing is told."""


class PresenceGetReq(Request, kw_only=True):
    """65: of these users; of all friends who are online when the list is empty."""

    user_ids: Ids = []


class PresenceSubscribeReq(Request, kw_only=True):
    """66: have changes of these users pushed to this connection."""

    required = ("user_ids",)
    user_ids: Ids = ABSENT


class PresenceUnsubscribeReq(Request, kw_only=True):
    """67: of these users no more; of all when the list is empty."""

    user_ids: Ids = []


class PresenceResp(Payload, kw_only=True):
    """Answer to 65 and 66."""

    error_code: CommonErrorCode = SUCCESS
    presences: list[Presence] = []


class PresencePush(Payload, kw_only=True):
    """68, pushed: how it is now with users whose presence changed."""

    presences: list[Presence] = []


# Typing, devices: 69, 70


class Typing(Request, kw_only=True):
    """69: the user is writing something (1) or stopped (0) in a session. Pushed to the others in it, never stored."""

    required = ("session_id",)
    session_id: str = ""
    user_id: str = ""
    """Who; set by the server."""
    typing: Int32 = 1


class Device(Payload, kw_only=True):
    """A device of one's own. Times in ms."""

    device_type: Int32 = 0
    device_id: str = ""
    device_name: str = ""
    online: Int32 = 0
    """1 or 0."""
    login_time: Int64 = 0
    last_seen: Int64 = 0
    """When its connection ended, as far as known; 0 while it is online."""


class DevicesResp(Payload, kw_only=True):
    """Answer to 70: the newest login of each of one's types of device."""

    error_code: CommonErrorCode = SUCCESS
    devices: list[Device] = []


# Where pushes go: 71 to 73


class PushRegisterReq(Request, kw_only=True):
    """71: pushes for this user go to this device too, in place of what it had registered for this package there."""

    required = ("service_type", "token")
    service_type: str = ""
    """The vendor: apns, fcm, huawei, xiaomi, meizu, vivo, oppo; log in development."""
    package_name: str = ""
    """The app's package or bundle id; may be empty where the server knows one app only."""
    token: str = ""
    """What the vendor gave to the device. Never logged."""
    app_version: str = ""
    quiet_hours: str = ""
    """`22:00-07:00`, local time of the device: pushes make no sound then. Empty: none."""
    utc_offset: Int32 = 0
    """Minutes that local time is ahead of UTC."""


class PushUnregisterReq(Request, kw_only=True):
    """72: this device takes no pushes any more; empty fields stand for every service and package."""

    service_type: str = ""
    package_name: str = ""


class PushRegistration(Payload, kw_only=True):
    """A device of one's own that takes pushes."""

    service_type: str = ""
    package_name: str = ""
    app_version: str = ""
    device_type: Int32 = 0
    """0: registered by others for this user."""
    device_id: str = ""
    registered: Int64 = 0
    """ms."""
    quiet_hours: str = ""
    utc_offset: Int32 = 0


class PushRegistrationsResp(Payload, kw_only=True):
    """Answer to 73: oldest first."""

    error_code: CommonErrorCode = SUCCESS
    registrations: list[PushRegistration] = []


# Search: 75


class SearchReq(Request, kw_only=True):
    """75: messages that one may see and that have all words of `text`, newest first. Empty fields do not filter."""

    required = ("text",)
    text: str = ""
    session_id: str = ""
    sender_id: str = ""
    since: Int64 = 0
    """ms, inclusive."""
    until: Int64 = 0
    """ms, exclusive."""
    cursor: str = ""
    count: Int32 = 30


class SearchResp(Payload, kw_only=True):
    """Answer to 75, newest first. `cursor` (opaque) is empty when there are no more; a page may be short, or empty,
    though there are."""

    error_code: CommonErrorCode = SUCCESS
    msgs: list[Pack] = []
    cursor: str = ""
