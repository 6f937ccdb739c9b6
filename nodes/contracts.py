"""What nodes call on each other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mesh.contract import call, contract
from store.groups import Membership, Presence
from store.groups import Profile as GroupProfile
from store.profiles import Profile

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


class Accepted(NamedTuple):
    """Who logged in. `monitor`: he may listen to sessions of others. `issued`: when his token was (s); 0: unknown."""

    user: str
    monitor: bool
    issued: int


class Account(NamedTuple):
    """An account. `created` in ms, 0 where there is none; tokens issued before `not_before` (s) do not count."""

    created: int
    disabled: bool
    not_before: int


class Device(NamedTuple):
    """A device of a user. Times in ms; `last_seen` is 0 while it is online."""

    type: int
    id: str
    name: str
    online: bool
    login_time: int
    last_seen: int


class Watched(NamedTuple):
    """A user, and those who want to know where he is."""

    user: str
    viewers: tuple[str, ...]


class Whereabouts(NamedTuple):
    """Where a user is. `last_seen` in ms, 0 while he is online; `visible`: whether each of the viewers may know."""

    device_types: tuple[int, ...]
    last_seen: int
    visible: tuple[bool, ...]


@contract
class User(Protocol):
    """Accounts and logins."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def login(self, login: Login) -> Accepted:
        """Check who it is. Raises `AppError` with the code of the refusal."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def enter(self, user: str, device_type: int, device: bytes, issued: int) -> int:
        """Number an accepted login and have older ones of the same user and device type kicked out.

        `device` as in `store.devices.record`, `issued` as in `Accepted`. Raises `AppError` when the account is
        disabled, or the token older than the user's not-before.
        """
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def left(self, user: str, device_type: int, number: int, when: int, logged_out: bool, connection: str) -> None:
        """The connection of this login ended; it was last heard from at `when` (ms). `logged_out`: by a LOGOUT.
        Number 0: a login of which the broker did not hear whether it was entered."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def presence(self, asked: tuple[Watched, ...]) -> tuple[Whereabouts, ...]:
        """Where users are, and who of the viewers may know."""
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

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def disable(self, user: str, disabled: bool) -> bool:
        """Let a user log in no more and cut his connections at once; or let him in again. False: no such account."""
        ...

    @call(timeout=10.0, idempotent=True)
    def register(self, user: str, password: str, request: str) -> bool:
        """Make an account; False when it exists and was not made by this very request. Raises `AppError`."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def account(self, user: str) -> Account:
        """What is known of an account."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def not_before(self, user: str, when: int) -> None:
        """Let no token issued before `when` (s) count any more, and cut the user's connections. It only rises."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def devices(self, user: str) -> tuple[Device, ...]:
        """The devices of a user."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def sync(self, users: tuple[str, ...], command: int, content: str, pack_id: str) -> None:
        """Push a sync command (25) to all devices of these users that are online. Raises `AppError`."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def kick(self, user: str, device_type: int) -> bool:
        """Cut a user's connections of a device type, 0 for all; False when he never logged in so."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def add_friends(self, user: str, friends: tuple[tuple[str, str], ...]) -> None:
        """Make friends of `user` and each (friend, remark), whoever consents; all or none. Raises `AppError`."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def delete_friends(self, user: str, friends: tuple[str, ...]) -> None:
        """End friendships; all or none. Raises `AppError`."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def friends(self, user: str) -> tuple[tuple[str, str], ...]:
        """The friends of `user`, with his remarks."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def profiles(self, users: tuple[str, ...]) -> tuple[Profile, ...]:
        """Profiles in the order asked; an unknown user's is empty."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def set_profile(self, user: str, profile: Profile) -> None:
        """Replace a profile. Raises `AppError`."""
        ...


@contract
class Groups(Protocol):
    """Who is in which group."""

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="group")
    def members(self, group: str) -> tuple[str, ...]:
        """All members. Raises `AppError` 35 when there is no such group."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="group")
    def info(self, group: str) -> GroupProfile:
        """Its info. Raises `AppError` 35 when there is no such group."""
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


class Receipt(NamedTuple):
    """What became of a notice to one user. `repeated`: it was stored before, under these numbers."""

    code: int  # 0 stored, 6 unknown (ask again with the same packId), else refused
    seq_id: int
    timestamp: int  # ms
    repeated: bool


@contract
class Notices(Protocol):
    """Business notices (16) of apps to users.

    The same packId to the same user is stored once. `flags` are those of a message (COUNTER 4, high priority 32);
    `push_info` is title, summary and url of the notification, all empty for the usual.
    """

    @call(timeout=ANSWER_SECONDS, idempotent=True, key="to")
    def notify(
        self, app_id: str, to: str, content: str, content_type: int, flags: int, push_info: tuple[str, str, str],
        pack_id: str,
    ) -> Receipt:  # fmt: skip
        """Store a notice and push it to all devices of the user. Raises `AppError`: 2, 10, 40, 41."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def notify_many(
        self, app_id: str, to: tuple[str, ...], content: str, content_type: int, flags: int,
        push_info: tuple[str, str, str], pack_id: str,
    ) -> tuple[Receipt, ...]:  # fmt: skip
        """The same notice to each of at most 1000 users; what became of each, in their order."""
        ...


class RegInfo(NamedTuple):
    """A device that takes pushes for a user. Registered by others than itself, `device_type` is 0 and it takes them
    until it is unregistered; else while the login of its device is the newest of its type and did not log out."""

    pack_id: str  # of the request; for logs
    service_type: str  # the vendor: apns, fcm, huawei, xiaomi, meizu, vivo, oppo, log
    package_name: str  # of an app in the topology
    user_id: str
    app_version: str
    token: str
    device_type: int
    device_id: str
    quiet_hours: str  # "22:00-07:00" in its local time, "" for none
    utc_offset: int  # of that time, minutes


class PushInfo(NamedTuple):
    """A push to all devices of a user, whether he is online or not."""

    pack_id: str  # the same id to the same user is pushed once
    user_id: str
    un_read_count: int  # the badge; -1: what he has not read
    title: str
    content: str
    uri: str  # what a tap opens
    extra_data: str  # JSON object for the app, "" for none


class Registered(NamedTuple):
    """A registration as it is listed: without its token."""

    service_type: str
    package_name: str
    app_version: str
    device_type: int
    device_id: str
    registered: int  # ms
    quiet_hours: str
    utc_offset: int


class Previewed(NamedTuple):
    """The call to a vendor that a push would be, without its credential."""

    service_type: str
    device_id: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class PushRecord(NamedTuple):
    """What became of a push. `id` orders records of one outlet; `outcome` is a value of `push.model.Outcome`."""

    id: str
    time: int  # ms
    user: str
    session: str
    seq: int  # of the message, 0 when there is none
    app: str
    vendor: str
    device: str
    outcome: str
    reason: str  # the vendor's code
    vendor_id: str
    tries: int
    waited: int  # ms from its queueing


@contract
class Push(Protocol):
    """Pushing to phones, and where to. Raises `AppError` 2 for what is malformed or not in the topology."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def register(self, info: RegInfo) -> None:
        """Register a device, in place of what it had registered for that package and vendor."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def unregister(self, user: str, device_id: str, service_type: str, package_name: str) -> int:
        """Remove registrations of a user; "" stands for any device, vendor, package. Returns how many there were."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def registrations(self, user: str) -> tuple[Registered, ...]:
        """The registrations of a user, oldest first, also those that get nothing now."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def push_message(self, info: PushInfo) -> int:
        """Queue a push to all devices of a user; returns to how many."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def preview(self, info: PushInfo) -> tuple[Previewed, ...]:
        """The calls that `push_message` would lead to; nothing is sent."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def records(self, app: str, vendor: str, before: str, count: int, user: str) -> tuple[PushRecord, ...]:
        """What became of pushes of an app through a vendor, to one user ("": to anybody): at most about `count` (1 to
        1000), newest first, older than the record with id `before` ("": from the newest)."""
        ...


class Audited(NamedTuple):
    """An entry of the audit. `id` orders entries, `time` in ms, `action` is start, stop or read."""

    id: str
    time: int
    who: str
    action: str
    session: str
    device: str
    address: str


class KeyInfo(NamedTuple):
    """An API key without its secret. Times in ms, `expires` 0: never; `per_second` 0: the usual."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created: int
    expires: int
    per_second: float


@contract
class ApiKeys(Protocol):
    """Keys of the HTTP API."""

    @call(timeout=ANSWER_SECONDS)
    def create_key(self, name: str, scopes: tuple[str, ...], seconds: int, per_second: float) -> str:
        """Make a key, good for `seconds` (0: for ever); the whole key, which is shown this once. Raises `AppError`."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def list_keys(self) -> tuple[KeyInfo, ...]:
        """All keys, oldest first."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def revoke_key(self, key_id: str) -> bool:
        """End a key, within a second on all nodes; False when there is none."""
        ...


@contract
class Monitoring(Protocol):
    """Listening to sessions of others; `origin` has the right to."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def watch(self, origin: Origin, session: str) -> None:
        """He is about to listen. Raises `AppError` 35 when there is no such group."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def unwatch(self, origin: Origin, sessions: tuple[str, ...]) -> None:
        """He listens no more."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def watched(self, origin: Origin, sessions: tuple[str, ...]) -> bytes:
        """The payload of the answer to 24: these sessions with their newest messages, ascending by these."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def audit(self, before: str, count: int) -> tuple[Audited, ...]:
        """Entries older than the one with id `before` ("": from the newest), newest first, at most 1000."""
        ...


class Repeat(NamedTuple):
    """What the archive knows of a message that is sent again. `seq` is 0 when it was never stored; `changed`: it was
    revoked, overridden or deleted since; `same`: it has the content that is repeated, as far as that can be told."""

    seq: int
    prev: int
    changed: bool
    same: bool


@contract
class Archive(Protocol):
    """What is kept for ever. Entries are those of `store/entries.py`; while SQL does not answer, calls fail."""

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def save_msg(self, session: str, entry: bytes) -> None:
        """Store a message, or a later revision of it; harmless when repeated, in any order."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def page(self, session: str, below: int, count: int) -> tuple[bytes, ...]:
        """Messages with seqId <= `below`, newest first, at most `count`, without deleted ones."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def entries(self, wanted: tuple[tuple[str, int], ...]) -> tuple[bytes, ...]:
        """The message of each (session, seqId), deleted ones as tombstones; b"" where there is none."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def greatest(self, session: str, seq: int) -> tuple[int, int]:
        """seqId and n of the newest message up to `seq`, deleted ones included; zeros when there is none."""
        ...

    @call(timeout=ANSWER_SECONDS, idempotent=True)
    def find(self, session: str, sender: str, pack_id: str, crc: bytes) -> Repeat:
        """Whether a message that is sent again was stored before. `crc` as in `store.sessions.Message`."""
        ...
