"""What a client tells its program: messages, what becomes of them, and everything else that happens.

All are immutable values. `client.Client.events` gives them in the order in which they happened, each once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from packs.enums import ControlCommand
from packs.flags import OVERRIDE, REVOKE
from packs.ids import is_group_id

How = Literal["revoked", "edited", "deleted"]
HOW: dict[int, How] = {
    ControlCommand.REVOKE: "revoked",
    ControlCommand.OVERRIDE: "edited",
    ControlCommand.DELETE: "deleted",
}
"""What each command of a control makes of a message."""


@dataclass(frozen=True)
class Message:
    """A received message. `via` is "live" or "history"; what was revoked has no content any more."""

    session_id: str
    seq_id: int
    prev_seq_id: int
    timestamp: int
    sender: str
    to: str
    content: str
    content_type: int
    flags: int
    pack_id: str
    via: str
    mentions: tuple[str, ...] = ()
    """User ids, or "*" for everybody."""

    @property
    def revoked(self) -> bool:
        return bool(self.flags & REVOKE)

    @property
    def edited(self) -> bool:
        return bool(self.flags & OVERRIDE)

    @property
    def in_group(self) -> bool:
        return is_group_id(self.session_id)


@dataclass(frozen=True)
class Sent:
    """A stored message of ours: its session, number (µs), and time (ms)."""

    session_id: str
    seq_id: int
    timestamp: int
    pack_id: str = ""


@dataclass(frozen=True)
class Changed:
    """A message was revoked, edited or deleted by `operator`; `content` is the new one of an edit."""

    session_id: str
    seq_id: int
    pack_id: str
    how: How
    content: str
    operator: str
    timestamp: int
    control_id: str = field(default="", compare=False)
    """packId of the control, where it is known."""

    def applied_to(self, message: Message) -> Message | None:
        """What the message is now; None when it was deleted. Of another message: that message, unchanged."""
        if (message.session_id, message.seq_id, message.pack_id) != (self.session_id, self.seq_id, self.pack_id):
            return message
        if self.how == "deleted":
            return None
        if self.how == "revoked":
            return replace(message, flags=message.flags | REVOKE, content="")
        content = "" if message.revoked else self.content
        return replace(message, flags=message.flags | OVERRIDE, content=content)


@dataclass(frozen=True)
class Read:
    """`user` has read a session up to and including `seq_id`: the peer of a single chat, or this user elsewhere."""

    session_id: str
    seq_id: int
    user: str


@dataclass(frozen=True)
class Presence:
    """Whether a user is online, and with which types of device; `last_seen` in ms, 0 while he is or when it is not
    known."""

    user: str
    online: bool
    device_types: tuple[int, ...] = ()
    last_seen: int = 0


@dataclass(frozen=True)
class Typing:
    """`user` is writing something in a session, or has stopped. Nothing else follows when he just goes away: forget it
    after some seconds."""

    session_id: str
    user: str
    typing: bool


@dataclass(frozen=True)
class ListChanged:
    """Something to be fetched again when it is shown: the "friends", "requests" to be friends, whom one has "blocked",
    the "groups" that one is in, or what a group is ("group") or who is in it ("members")."""

    what: Literal["friends", "requests", "blocked", "groups", "group", "members"]
    group: str = ""
    """The group, where it is about one."""


@dataclass(frozen=True)
class Connected:
    """Logged in at `address`, for the first time or again."""

    address: str


@dataclass(frozen=True)
class Disconnected:
    """The connection broke; the client makes a new one by itself."""

    reason: str


@dataclass(frozen=True)
class Resync:
    """The server says that something may have been missed; the client fetches it."""


@dataclass(frozen=True)
class Missed:
    """More came than fits: `count` events were dropped (0: unknown how many messages of a session, which are in its
    history below `before`)."""

    count: int
    session_id: str = ""
    before: int = 0


@dataclass(frozen=True)
class Ended:
    """The last event: this client was kicked out by a newer login, or is refused for good. It does not come back."""

    reason: str
    kicked: bool


Event = (
    Message | Changed | Read | Typing | Presence | ListChanged | Connected | Disconnected | Resync | Missed | Ended
)
