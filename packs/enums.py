"""Numbers inside payloads. Struct fields stay plain `int`: unknown values pass through where the protocol says so."""

from __future__ import annotations

from enum import IntEnum


class DeviceType(IntEnum):
    """`LoginReq.deviceType`; 7 to 15 are reserved and allowed, 0 and everything else is refused."""

    NONE = 0
    IOS = 1
    ANDROID = 2
    MACOS = 3
    WINDOWS = 4
    LINUX = 5
    WEB = 6


class ContentType(IntEnum):
    """`MsgReq.contentType`; unknown values pass, the server never looks inside the content."""

    NONE = 0
    TEXT = 1
    IMAGE = 2
    VOICE = 3
    VIDEO = 4
    FILE = 5
    LOCATION = 6


class ControlCommand(IntEnum):
    """`MsgControl.command`."""

    REVOKE = 1
    OVERRIDE = 2
    DELETE = 3


class SyncCommand(IntEnum):
    """`SyncDataReq.command`: what the client should fetch again."""

    NONE = 0
    FRIENDS = 1
    GROUPS = 2
    GROUP_INFO = 3
    GROUP_MEMBERS = 4
    RESYNC = 5
    FRIEND_REQUESTS = 6
    BLOCKLIST = 7


class JoinMode(IntEnum):
    """`GroupChatInfo.joinMode`: who may add members."""

    MEMBERS = 0
    OWNER = 1
    OPEN = 2
