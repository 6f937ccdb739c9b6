"""The devices of users: the newest login of each type, and until when its connection was there.

In the hash of a user's devices, field `<type>` is the login number, NUL, and msgpack [deviceId, name, connection];
field `s<type>` is when the connection ended (ms), absent while it stands; `o<type>` is there when it logged out. A
process that died said nothing: whoever reads this must know which brokers live (`nodes/presence.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from store.client import Client
from store.keys import Keys
from store.scripts import EXPEL, LEFT, SEEN

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, str]).decode


class Device(NamedTuple):
    """The newest login of a device type. `number` is µs since the epoch in size."""

    type: int
    id: str
    name: str
    connection: str
    number: int
    left: int
    """When the connection ended (ms), 0 when nobody said so."""
    logged_out: bool = False
    """Whether it ended with a LOGOUT."""


class Sight(NamedTuple):
    """A user's devices, and for each of the viewers whether he may know of them."""

    devices: tuple[Device, ...]
    visible: tuple[bool, ...]


def record(device_id: str, name: str, connection: str) -> bytes:
    """A device as `Users.enter` takes it."""
    return _encode((device_id, name, connection))


class Devices:
    """Devices in the hot store. All methods but `left` block their greenlet and raise `StoreError`."""

    def __init__(self, writes: Client, reads: Client, keys: Keys, *, told: bool = False) -> None:
        """`told`: other systems are told of logins that end."""
        self._told = int(told)
        self._writes = writes
        self._reads = reads
        self._keys = keys

    def left(self, ended: Sequence[tuple[str, int, int, int, bool, str]], done: Any) -> None:
        """Note that connections ended: (user, device type, login number, when in ms, whether it logged out,
        connection). Number 0: whichever login the connection has. `done(_, error)`."""
        args: list[Any] = [self._told]
        for user, device_type, number, when, logged_out, connection in ended:
            args += (self._keys.of_user("d", user), device_type, number, when, int(logged_out), connection)
        self._writes.evaluate(done, LEFT, (args[1],), args)

    def of(self, user: str) -> tuple[Device, ...]:
        """The devices of a user, by type."""
        return _devices(self._reads.ask("HGETALL", self._keys.of_user("d", user)))

    def left_since(self, when: int) -> list[str]:
        """Users of whom a connection ended without LOGOUT and was last heard from after `when` (ms, ten minutes ago at
        the earliest)."""
        commands = [("ZRANGEBYSCORE", f"{tag}:w", f"({when}", "+inf") for tag in self._keys.user_tags()]
        return [user.decode() for reply in self._reads.ask_all(commands) for user in reply]

    def seen(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[Sight]:
        """The devices of each (user, viewers)."""
        key, tag = self._keys.of_user, self._keys.user_tag
        calls = [(SEEN, (key("d", user),), (tag(user), user, *viewers)) for user, viewers in asked]
        return [Sight(_devices(found), tuple(map(bool, may))) for found, *may in self._reads.run_all(calls)]

    def expel(
        self, user: str, device: Device | None, device_type: int = 0, shut: bool | None = None, not_before: int = 0
    ) -> int:
        """End logins: of this `device` while it is what is there, else of `device_type` (0: all).

        `shut` disables the account or enables it again; tokens issued before
        `not_before` (s) count no more. Returns the number below which logins end, 0 when there are
        none.
        """
        keys = (self._keys.account(user), self._keys.logins(user), self._keys.of_user("d", user))
        only = (device.type, device.number) if device is not None else (device_type, "")
        number: int = self._writes.run(EXPEL, keys, (*only, "" if shut is None else int(shut), not_before or ""))
        return number


def _devices(fields: Sequence[bytes]) -> tuple[Device, ...]:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    devices = []
    for field, value in found.items():
        if field.isdigit():
            number, _, packed = value.partition(b"\0")
            left, logged_out = int(found.get(b"s" + field, 0)), b"o" + field in found
            devices.append(Device(int(field), *_decode(packed), int(number), left, logged_out))
    return tuple(sorted(devices))
