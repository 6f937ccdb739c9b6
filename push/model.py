"""What is pushed, and what becomes of it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Notification(NamedTuple):
    """What a phone shows. `id` is the same for every try to push it to one device, and different for each device."""

    id: str
    """Up to 32 letters and digits."""
    title: str
    body: str
    url: str = ""
    """What a tap opens, "" for the app."""
    extra: str = ""
    """JSON object for the app, "" for none."""
    collapse: str = ""
    """What it is about, for example a conversation: a later one about the same takes its place."""
    badge: int = -1
    """Number on the app's icon, -1 to leave it."""
    expires: float = 0.0
    """Seconds since the epoch after which it is worth nothing."""
    alert: bool = True
    """Whether it may make a sound: what replaces another quietly may not."""


class Push(NamedTuple):
    """A notification on its way to one device."""

    token: str
    notification: Notification


class Outcome(Enum):
    """What a vendor's answer means for us."""

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    """The vendor does not deliver it now (switched off, folded), and the token is good: no retry."""
    DEAD = "dead_token"
    """The token will never work again."""
    AUTH = "auth"
    """Our credential has expired."""
    THROTTLED = "throttled"
    BUSY = "device_busy"
    """Too much for this device; others may go on."""
    QUOTA = "quota"
    """Nothing more today."""
    BAD = "bad_payload"
    """This notification will never be accepted."""
    CONFIG = "config"
    """Our key, app or category is wrong: nothing will be accepted until somebody mends it."""
    SERVER = "server"
    """The vendor failed and has not sent it."""
    UNKNOWN = "unknown"
    """An answer that the vendor does not document."""
    LOST = "lost"
    """No answer: it may have been sent."""
    UNREACHABLE = "unreachable"
    """It was not sent."""
    SPLIT = "split"
    """The call was refused for one of several tokens, and not which: in halves it will be known."""


class Verdict(NamedTuple):
    """The outcome of one push."""

    outcome: Outcome
    reason: str = ""
    """The vendor's word for it: a code or a short text, never a token."""
    retry_after: float = 0.0
    """Seconds that the vendor asks us to wait, 0 when it does not say."""
    id: str = ""
    """The vendor's id of what it accepted."""
    since: int = 0
    """With DEAD: since when (ms), 0 when the vendor does not say. A token registered later is good."""


ACCEPTED = Verdict(Outcome.ACCEPTED)


class VendorError(Exception):
    """Nothing of a call was accepted."""

    def __init__(self, outcome: Outcome, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{outcome.value}: {reason}")
        self.verdict = Verdict(outcome, reason, retry_after)
