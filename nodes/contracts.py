"""What nodes call on each other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.contract import call, contract
from store.groups import Membership, Presence

ANSWER_SECONDS = 4.5
"""How long a broker waits for a node; a client is answered within 5 s in any case."""


class Origin(NamedTuple):
    """Who asks: an authenticated connection."""

    user: str
    device_type: int
    device_id: str
    connection: str  # unique for ever: broker process, its start, a counter
    address: str
    others: bool  # the user has more connections at this broker


class Request(NamedTuple):
    """A client's pack; `payload` is canonical msgpack, inflated."""

    type: int
    flags: int
    pack_id: str
    payload: bytes


@contract
class Packs(Protocol):
    """Every node that answers client packs implements this (through `nodes.packs.PackNode`).

    The result is the canonical payload of the response. Handlers must be harmless when run twice with one packId.
    """

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="key")
    def handle(self, key: str, origin: Origin, request: Request) -> bytes:
        """Any pack whose order against others does not matter."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="session", lane=("connection", "session"))
    def ordered(self, session: str, connection: str, origin: Origin, request: Request) -> bytes:
        """Messages: those of one connection to one session keep their order."""
        ...


class Login(NamedTuple):
    """A login request, its fields well formed but not yet believed."""

    client_id: str
    user_name: str
    secret: str  # password or token
    device_type: int
    device_id: str
    address: str


@contract
class User(Protocol):
    """Accounts and logins."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def login(self, login: Login) -> str:
        """Check who it is; returns the user id. Raises `AppError` with the code of the refusal."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def enter(self, user: str, device_type: int) -> int:
        """Number an accepted login and have older ones of the same user and device type kicked out."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def newest(self, logins: tuple[tuple[str, int], ...]) -> tuple[int, ...]:
        """The newest login number of each (user, device type)."""
        ...

    @call(timeout=10.0, idempotent=True)
    def add_account(self, user: str, password: str, replace: bool) -> bool:
        """Make an account, or with `replace` change its password; False when it exists already."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def accounts(self, start: int, count: int) -> tuple[tuple[str, int], ...]:
        """Accounts in order of creation, as (user, created ms)."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def token(self, user: str, seconds: int) -> str:
        """A token with which `user` may log in for `seconds`."""
        ...


@contract
class Groups(Protocol):
    """Who is in which group."""

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="group")
    def members(self, group: str) -> tuple[str, ...]:
        """All members. Raises `AppError` 35 when there is no such group."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="group")
    def is_member(self, group: str, user: str) -> bool:
        """Whether `user` is in the group; False when there is no such group."""
        ...

    @call(timeout=2.0, idempotent=True, key="group")
    def present(self, group: str, users: tuple[str, ...]) -> Presence:
        """Who of `users` is in the group."""
        ...

    @call(timeout=2.0, idempotent=True)
    def groups_of(self, users: tuple[str, ...]) -> tuple[tuple[Membership, ...], ...]:
        """The groups of each user. Logins wait for it, so not for long."""
        ...
