"""Where pushes for a user go: the tokens that his devices registered with the services of phone vendors.

The hash `{uNN}:k:<user>` has a field for each: device type, NUL, device id, NUL, app, NUL, vendor; its value is msgpack
[token, appVersion, registered (ms), quiet from, quiet to (minutes after midnight, -1: never), minutes ahead of UTC].
A token belongs to whoever registered it last: `{uNN}:o:<digest>` (its own shard) names him, so that a phone that went
from hand to hand gets nothing of its owner before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from mesh.loop import wait_for
from store import keys as names
from store.client import Client
from store.keys import Keys
from store.scripts import PUSH_FORGET, PUSH_PUT, PUSH_TARGETS

MAX_REGISTRATIONS = 32
"""Of one user: more than that, and the oldest goes."""
TARGETS_AT_ONCE = 25
"""Users in one call to Redis, which answers nobody meanwhile."""
OWNER_SECONDS = 180 * 86_400
"""A token that was not registered for so long is nobody's; its registration counts then too."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, int, int, int, int]).decode


class Registration(NamedTuple):
    """A device that takes pushes."""

    device_type: int
    """That of the login, 0 when others registered it for the user."""
    device_id: str
    app: str
    vendor: str
    token: str
    app_version: str = ""
    registered: int = 0
    """ms; set when it is registered."""
    quiet_from: int = -1
    quiet_to: int = -1
    utc_offset: int = 0

    @property
    def field(self) -> str:
        return f"{self.device_type}\0{self.device_id}\0{self.app}\0{self.vendor}"

    def is_quiet(self, clock: float) -> bool:
        """Whether its user wants quiet at this time (s since the epoch)."""
        if self.quiet_from < 0 or self.quiet_from == self.quiet_to:
            return False
        minute = (int(clock) // 60 + self.utc_offset) % 1440
        if self.quiet_from < self.quiet_to:
            return self.quiet_from <= minute < self.quiet_to
        return minute >= self.quiet_from or minute < self.quiet_to


class Registrations:
    """In the hot store. Methods block their greenlet and raise `StoreError`."""

    def __init__(self, writes: Client, reads: Client, keys: Keys) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys

    def put(self, user: str, found: Registration) -> None:
        """Register, in place of what this device had for this app and vendor. Harmless when repeated."""
        stamp = int(time.time() * 1000)
        value = _encode((found.token, found.app_version, stamp, found.quiet_from, found.quiet_to, found.utc_offset))
        self._writes.ask_all(
            [
                ("SET", names.PUSHING, "1"),
                ("SET", self._owner_key(found), user, "EX", OWNER_SECONDS),
            ]
        )
        self._writes.run(PUSH_PUT, (self._keys.of_user("k", user),), (found.field, value))
        held = self._parse(self._reads.ask("HGETALL", self._keys.of_user("k", user)))
        for old in sorted(held, key=lambda r: r.registered)[: max(0, len(held) - MAX_REGISTRATIONS)]:
            self.forget(user, old.field)

    def any(self) -> bool:
        """Whether anybody ever registered: until then nobody needs to look at messages."""
        return bool(self._reads.ask("EXISTS", names.PUSHING))

    def of(self, user: str) -> list[Registration]:
        """All of a user, oldest first, whether they stand or not."""
        found = self._parse(self._reads.ask("HGETALL", self._keys.of_user("k", user)))
        return sorted(found, key=lambda r: r.registered)

    def targets(self, asked: Sequence[tuple[str, str]]) -> list[list[Registration]]:
        """For each (user, session): where a push goes. Nowhere when he muted that session ("": whichever it is)."""
        if not asked:
            return []
        rows = [(self._keys.user_tag(user), user, session) for user, session in asked]
        found: list[list[bytes]] = wait_for(
            lambda done: self._reads.gather(done, PUSH_TARGETS, (), rows, answers=1, chunk=TARGETS_AT_ONCE)
        )
        return self._owned([user for user, _ in asked], [self._parse(row) if row else [] for row in found])

    def _owned(self, users: Sequence[str], found: list[list[Registration]]) -> list[list[Registration]]:
        flat = [(user, r) for user, rows in zip(users, found, strict=True) for r in rows]
        if not flat:
            return found
        owners = self._reads.ask_all([("GET", self._owner_key(r)) for _, r in flat])
        foreign = {id(r) for (user, r), owner in zip(flat, owners, strict=True) if owner not in (None, user.encode())}
        return [[r for r in rows if id(r) not in foreign] for rows in found] if foreign else found

    def forget(self, user: str, field: str, token: str = "", since: int = 0) -> bool:
        """Remove a registration, while it has this `token` ("": any) and is not younger than `since` (ms, 0: any)."""
        return bool(self._writes.run(PUSH_FORGET, (self._keys.of_user("k", user),), (field, token, since)))

    def forget_all(self, user: str, fields: Iterable[str]) -> int:
        """Remove registrations; how many there were."""
        return sum(self.forget(user, field) for field in fields)

    def forget_user(self, user: str) -> None:
        """Remove all of a user, also that tokens were his."""
        for found in self.of(user):
            owner = self._owner_key(found)
            if self._reads.ask("GET", owner) == user.encode():
                self._writes.ask("UNLINK", owner)
            self.forget(user, found.field)

    def _owner_key(self, found: Registration) -> str:
        digest = blake2b(f"{found.vendor}\0{found.app}\0{found.token}".encode(), digest_size=16).hexdigest()
        return self._keys.of_user("o", digest)

    @staticmethod
    def _parse(rows: Sequence[bytes]) -> list[Registration]:
        found = []
        for field, value in zip(rows[::2], rows[1::2], strict=True):
            kind, device, app, vendor = field.decode().split("\0")
            found.append(Registration(int(kind), device, app, vendor, *_decode(value)))
        return found
