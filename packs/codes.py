"""Result codes of responses: `errorCode.code` (or `code` where the response is a bare `CommonErrorCode`).

Rule for clients: 0 done; 46 was done before; 6 and 8 unknown, resend with the same packId and DUP; 7 try again after
`retryAfter` ms; every other code: it did not happen and never will. Numbers are never reused.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Every code that a client may meet."""

    SUCCESS = 0
    PROTOCOL = 1
    PARAM = 2
    UNKNOWN = 3
    DB_ERROR = 5
    UNAVAILABLE = 6
    REFUSED = 7
    EXCEPTION = 8
    OUT_OF_MEMORY = 9
    SENSITIVE_WORD = 10
    REDIS_ERROR = 11

    CONN_IDENTITY = 20
    CONN_CREDENTIALS = 21
    CONN_KICKOUT = 22
    CONN_DENIED = 23
    CONN_THIRD_PARTY = 24
    HOT_SESSION_MORE = 25
    HOT_SESSION_FAILED = 26
    HISTORY_FAILED = 27
    HISTORY_DENIED = 28

    NOT_GROUP_MEMBER = 30
    GROUP_ID_EMPTY = 31
    GROUP_EMPTY = 32
    GROUP_NO_PRIVILEGE = 33
    GROUP_MEMBER_LIMIT = 34
    GROUP_NOT_FOUND = 35
    GROUP_NOT_OWNER = 36

    MSG_TOO_SHORT = 40
    MSG_TOO_LONG = 41
    MSG_FORMAT = 42
    MSG_FORBIDDEN = 43
    MSG_NOT_FOUND = 44
    MSG_TIMEOUT = 45
    MSG_REPEATED = 46
    MSG_COMMAND = 47

    NOT_FRIENDS = 50
    BLOCKED = 51
    CLIENT_VERSION = 52

    ATTR_NAME_EMPTY = 60
    ATTR_VALUE_EMPTY = 61


DESCRIPTIONS: dict[Code, str] = {
    Code.SUCCESS: "ok",
    Code.PROTOCOL: "unsupported pack type or header",
    Code.PARAM: "missing or bad parameter",
    Code.UNKNOWN: "unknown error",
    Code.DB_ERROR: "database error",
    Code.UNAVAILABLE: "service unavailable, outcome unknown: resend with the same packId",
    Code.REFUSED: "refused for now: try again later",
    Code.EXCEPTION: "server error, outcome unknown: resend with the same packId",
    Code.OUT_OF_MEMORY: "out of memory",
    Code.SENSITIVE_WORD: "content is not allowed",
    Code.REDIS_ERROR: "hot store error",
    Code.CONN_IDENTITY: "bad or missing clientId, deviceId or deviceType",
    Code.CONN_CREDENTIALS: "wrong user name, password or token",
    Code.CONN_KICKOUT: "logged in elsewhere",
    Code.CONN_DENIED: "not allowed: log in, and act as yourself only",
    Code.CONN_THIRD_PARTY: "refused by the third party",
    Code.HOT_SESSION_MORE: "more hot sessions: sync again",
    Code.HOT_SESSION_FAILED: "hot sessions could not be read",
    Code.HISTORY_FAILED: "history could not be read",
    Code.HISTORY_DENIED: "no right to read this history",
    Code.NOT_GROUP_MEMBER: "not a member of the group",
    Code.GROUP_ID_EMPTY: "group id is empty",
    Code.GROUP_EMPTY: "group has no members",
    Code.GROUP_NO_PRIVILEGE: "no right to do this in the group",
    Code.GROUP_MEMBER_LIMIT: "too many members",
    Code.GROUP_NOT_FOUND: "no such group",
    Code.GROUP_NOT_OWNER: "the group's owner has to do this",
    Code.MSG_TOO_SHORT: "message is empty",
    Code.MSG_TOO_LONG: "message is too long",
    Code.MSG_FORMAT: "payload cannot be decoded",
    Code.MSG_FORBIDDEN: "message is forbidden",
    Code.MSG_NOT_FOUND: "no such message",
    Code.MSG_TIMEOUT: "sending timed out",
    Code.MSG_REPEATED: "stored before",
    Code.MSG_COMMAND: "unknown control command",
    Code.NOT_FRIENDS: "not friends",
    Code.BLOCKED: "blocked by the recipient",
    Code.CLIENT_VERSION: "client version is not accepted",
    Code.ATTR_NAME_EMPTY: "attribute name is empty",
    Code.ATTR_VALUE_EMPTY: "attribute value is empty",
}
"""Short English for people; programs look at the number."""


def describe(code: int) -> str:
    """The description of `code`; for a number that is not ours "code N"."""
    try:
        return DESCRIPTIONS[Code(code)]
    except ValueError:
        return f"code {code}"
