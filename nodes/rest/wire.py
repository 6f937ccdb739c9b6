"""What is said over HTTP: requests, answers and the types of their fields. Times are ms since the epoch."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from webapi.exchange import Problem

MAX_ITEMS = 1_000
"""Items in one request."""
INT53 = 2**53 - 1

UserId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._@+-]{1,64}$", description="A user (or app) id")]
GroupId = Annotated[str, Meta(pattern=r"^GC_[A-Za-z0-9]{1,60}$", description="A group id")]
SessionId = Annotated[
    str,
    Meta(
        pattern=r"^((SC|BM)_[A-Za-z0-9.~@+-]{1,64}_[A-Za-z0-9.~@+-]{1,64}|GC_[A-Za-z0-9]{1,60})$",
        description="A session: SC_<user>_<user>, a group id, or BM_<app>_<user>; `_` inside an id is written `~`",
    ),
]
SeqId = Annotated[int, Meta(ge=1, le=INT53, description="The number of a message in its session")]
Int32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Meta(ge=1, le=MAX_ITEMS)]
Users = Annotated[list[UserId], Meta(min_length=1, max_length=MAX_ITEMS)]
Content = Annotated[str, Meta(min_length=1, max_length=600_000)]
Cursor = Annotated[
    str, Meta(max_length=256, pattern=r"^[!-~]*$", description="`next` of the page before; empty for the first")
]


class Body(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of requests."""


class Push(Body):
    """What a notification on a phone shows; left out: what the server makes of the message."""

    title: str = ""
    summary: str = ""
    url: str = ""


class Message(Body, kw_only=True):
    """A message of a user, or with `app` a business notice; to one user or to a group (of which `from` is a member)."""

    sender: UserId | None = field(default=None, name="from")
    app: UserId | None = None
    to: UserId | None = None
    group: GroupId | None = None
    content: Content
    content_type: Int32 = 1
    push: Push | None = None
    unread: bool = True
    """Whether it counts as unread."""
    high_priority: bool = False
    mentions: Annotated[list[str], Meta(max_length=MAX_ITEMS)] = []


class Messages(Body):
    """Up to 1,000 messages; those to one session are stored in this order."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_ITEMS)]


class Broadcast(Body, kw_only=True):
    """The same message to up to 1,000 users."""

    to: Users
    sender: UserId | None = field(default=None, name="from")
    app: UserId | None = None
    content: Content
    content_type: Int32 = 1
    push: Push | None = None
    unread: bool = True
    high_priority: bool = False


class Sent(msgspec.Struct):
    """A stored message."""

    id: str
    session_id: str
    seq_id: int
    timestamp: int


class SendResult(msgspec.Struct, omit_defaults=True):
    """What became of one message: `message`, or `error` with the status that it would have alone."""

    status: int
    message: Sent | None = None
    error: Problem | None = None


class SendResults(msgspec.Struct):
    """One per message, in their order."""

    results: list[SendResult]


class ItemResult(msgspec.Struct, omit_defaults=True):
    """What became of one item."""

    user_id: str
    status: int
    error: Problem | None = None


class ItemResults(msgspec.Struct):
    """One per item, in their order."""

    results: list[ItemResult]


class Done(msgspec.Struct):
    """It is done."""

    done: bool = True


class Operator(Body):
    """Who does it."""

    operator: UserId


class Override(Body):
    """The new content, and who replaces it."""

    operator: UserId
    content: Content


class OperatorQuery(Body):
    """Who does it."""

    operator: UserId


class OptionalOperator(Body):
    """Who does it; left out: the owner of the group."""

    operator: UserId | None = None


class StoredMessage(msgspec.Struct):
    """A message as its readers see it."""

    id: str
    session_id: str
    seq_id: int
    prev_seq_id: int
    timestamp: int
    sender: str = field(name="from")
    to: str
    content_type: int
    content: str
    kind: str
    """"single", "group" or "business"."""
    revoked: bool
    overridden: bool
    high_priority: bool
    mentions: list[str]


class MessagePage(msgspec.Struct):
    """Newest first. `next` is empty when there are no more."""

    messages: list[StoredMessage]
    next: str


class Page(Body):
    """Which part of a list."""

    cursor: Cursor = ""
    limit: Limit = 100


class SessionsPage(Body):
    """From where on."""

    cursor: Cursor = ""


class HistoryPage(Body):
    """Which part of a session."""

    cursor: Cursor = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 30


class Session(msgspec.Struct):
    """A session as one user sees it."""

    session_id: str
    read_seq_id: int
    unread: int
    newest: StoredMessage | None
    attributes: dict[str, str]


class SessionPage(msgspec.Struct):
    """Ascending by activity. `next` is empty when there are no more; keep `cursor` to ask for what changes later."""

    sessions: list[Session]
    next: str
    cursor: str


class Unread(msgspec.Struct):
    """How much a user has not read; `complete` is false when he has too many sessions to count."""

    unread: int
    sessions: int
    complete: bool


class ReadPosition(Body):
    """Read up to and including this message."""

    seq_id: SeqId


class Friend(msgspec.Struct):
    """A friend, with the name that the user gives him."""

    user_id: str
    remark: str


class FriendPage(msgspec.Struct):
    """By id. `next` is empty when there are no more."""

    friends: list[Friend]
    next: str


class NewFriend(Body):
    """A friend to be."""

    user_id: UserId
    remark: Annotated[str, Meta(max_length=128)] = ""


class NewFriends(Body):
    """They become friends whoever consents."""

    friends: Annotated[list[NewFriend], Meta(min_length=1, max_length=MAX_ITEMS)]


class NewGroup(Body):
    """A group to be. The owner is a member, listed or not."""

    owner: UserId
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    members: Annotated[list[UserId], Meta(max_length=MAX_ITEMS)] = []
    avatar: Annotated[str, Meta(max_length=2048)] = ""
    desc: Annotated[str, Meta(max_length=4096)] = ""
    member_limit: Int32 = 0
    """0: the server's default."""
    join_mode: Annotated[int, Meta(ge=0, le=2)] = 0
    """Who may add members: 0 all members, 1 the owner, 2 anybody himself."""


class GroupChange(Body):
    """What is left out stays. `operator` left out: the owner."""

    operator: UserId | None = None
    name: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    avatar: Annotated[str, Meta(max_length=2048)] | None = None
    desc: Annotated[str, Meta(max_length=4096)] | None = None
    member_limit: Int32 | None = None
    join_mode: Annotated[int, Meta(ge=0, le=2)] | None = None


class Group(msgspec.Struct):
    """A group."""

    group_id: str
    name: str
    owner: str
    avatar: str
    desc: str
    member_limit: int
    join_mode: int
    created: int
    updated: int


class GroupCreated(msgspec.Struct):
    """A new group."""

    group_id: str


class GroupIds(msgspec.Struct):
    """The groups of a user."""

    group_ids: list[str]


class Members(Body):
    """Users to add, all of them or none. `operator` left out: the owner."""

    users: Users
    operator: UserId | None = None


class MemberPage(msgspec.Struct):
    """`next` is empty when there are no more."""

    members: list[str]
    next: str


class NewOwner(Body):
    """The member who becomes the owner. `operator` left out: the owner."""

    user_id: UserId
    operator: UserId | None = None


class Profile(Body):
    """What a user shows of himself; left out: unchanged."""

    name: Annotated[str, Meta(max_length=64)] | None = None
    avatar: Annotated[str, Meta(max_length=1024)] | None = None
    mobile: Annotated[str, Meta(max_length=32)] | None = None
    birthday: Annotated[int, Meta(ge=0, le=INT53)] | None = None


class NewUser(Body, kw_only=True):
    """A user to be. `password` where the system keeps passwords, and only there."""

    user_id: UserId
    password: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    profile: Profile | None = None


class UserChange(Body):
    """What is left out stays."""

    profile: Profile | None = None
    password: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    disabled: bool | None = None
    """True: he logs in no more, and his connections end at once."""
    not_before: Annotated[int, Meta(ge=1, le=2**33, description="Seconds since the epoch")] | None = None
    """Tokens issued before count no more, and his connections end at once. It only rises."""


class User(msgspec.Struct):
    """A user."""

    user_id: str
    name: str
    avatar: str
    mobile: str
    birthday: int
    disabled: bool
    not_before: int
    """s"""


class Account(msgspec.Struct):
    """An account with a password of ours."""

    user_id: str
    created: int


class AccountPage(msgspec.Struct):
    """In the order of creation. `next` is empty when there are no more."""

    users: list[Account]
    next: str


class TokenWish(Body):
    """How long a token is good for."""

    seconds: Annotated[int, Meta(ge=1, le=366 * 24 * 3600)] = 3600


class Token(msgspec.Struct):
    """What a client logs in with."""

    token: str
    expires: int


class Kick(Body):
    """Which connections; 0: all."""

    device_type: Annotated[int, Meta(ge=0, le=15)] = 0


class Device(msgspec.Struct):
    """The newest login of a type of device."""

    type: int
    id: str
    name: str
    online: bool
    login_time: int
    last_seen: int
    """0 while it is online."""


class Devices(msgspec.Struct):
    """The devices of a user."""

    devices: list[Device]


class Presence(msgspec.Struct):
    """Where a user is."""

    user_id: str
    online: bool
    device_types: list[int]
    last_seen: int
    """0 while he is online, and where it is not known."""


class Presences(msgspec.Struct):
    """One per user, in the order asked."""

    presences: list[Presence]


class UserList(Body):
    """Users to ask about."""

    users: Users


class Sync(Body):
    """What the clients of these users shall fetch again."""

    users: Users
    command: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    content: Annotated[str, Meta(max_length=4096, pattern="^[^\\u0000]*$")] = ""
