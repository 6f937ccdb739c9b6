"""Every error of the mesh, in one tree.

    MeshError
      ConfigError            topology or contract is wrong; the start is refused, exit 2
      WireError              a frame that cannot be read: the peer's version or our bug
      CallError  .ran        whether the handler may have run
        Unreachable   no     no live instance, or the send was refused
        Overloaded    no     refused before running: a queue is full, the node drains
        BadCall       no     the other side does not know the method or refuses its arguments
        Timeout       maybe  the deadline passed
        PeerLost      maybe  the link died after the send
        RemoteError   yes    the handler raised something undeclared; the text carries the call id, the log the stack
      AppError(code)  yes    what a handler raises on purpose; the same code arrives at the caller

A `CallError` raised by a call that never left this process means the same as one that crossed the wire.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Ran = Literal["no", "maybe", "yes"]


class MeshError(Exception):
    """Base of all errors of the mesh."""


class ConfigError(MeshError):
    """A topology or a contract is wrong. The text names file, line and key where there is one."""


class WireError(MeshError):
    """A mesh frame could not be read."""


class CallError(MeshError):
    """A call has no result. `ran` tells whether the handler may have run."""

    ran: ClassVar[Ran] = "maybe"


class Unreachable(CallError):
    """No live instance of the service, or its link refused the send."""

    ran = "no"


class Overloaded(CallError):
    """Refused before running: a bounded queue is full or the node drains."""

    ran = "no"


class BadCall(CallError):
    """The instance does not know the method, or its arguments do not decode."""

    ran = "no"


class Timeout(CallError):
    """The deadline passed before an answer came."""

    ran = "maybe"


class PeerLost(CallError):
    """The link to the instance died after the request was sent."""

    ran = "maybe"


class RemoteError(CallError):
    """The handler raised an error that its contract does not declare."""

    ran = "yes"


class AppError(MeshError):
    """A refusal on purpose: `code` is the application's number, `text` is for people, `retry_after` says in how many
    ms it may be different (0: never, or nobody knows). Crosses the wire unchanged."""

    ran: ClassVar[Ran] = "yes"

    def __init__(self, code: int, text: str = "", retry_after: int = 0) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


CALL_ERRORS: dict[str, type[CallError]] = {
    cls.__name__: cls for cls in (Unreachable, Overloaded, BadCall, Timeout, PeerLost, RemoteError)
}
"""Call errors by the name under which they cross the wire."""
