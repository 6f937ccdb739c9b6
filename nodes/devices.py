"""The user node's devices (70), and what ends their logins: their owner (13), or whoever runs the system."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.dispatch import Incoming
from mesh.errors import AppError, Timeout
from mesh.node import batch
from nodes import publications
from nodes.contracts import Device as DeviceInfo
from nodes.contracts import User
from nodes.packs import Item, handles
from nodes.presence import PresenceNode, last_seen_of
from packs.codes import Code
from packs.ids import is_user_id
from packs.structs import KickOutAck
from packs.structs_social import Device, DevicesResp
from packs.table import DEVICES_GET, KICKOUT


class DevicesNode(PresenceNode):
    """Devices of users."""

    @handles(DEVICES_GET)
    def _devices(self, item: Item) -> DevicesResp:
        rows = [
            Device(
                device_type=d.type, device_id=d.id, device_name=d.name, online=int(d.online), login_time=d.login_time,
                last_seen=d.last_seen,
            )
            for d in self.devices(item.origin.user)
        ]  # fmt: skip
        return DevicesResp(devices=rows)

    def devices(self, user: str) -> tuple[DeviceInfo, ...]:
        require_user(user)
        found = []
        for device in self._store.devices.of(user):
            online = self.is_online(user, device)
            last_seen = 0 if online else last_seen_of(device)
            found.append(DeviceInfo(device.type, device.id, device.name, online, device.number // 1000, last_seen))
        return tuple(found)

    @handles(KICKOUT)
    def _kick(self, item: Item) -> KickOutAck:
        user, message = item.origin.user, item.message
        if message.device_type == item.origin.device_type:
            raise AppError(Code.PARAM, "that is this device: LOGOUT ends its login")
        for device in self._store.devices.of(user):
            if (device.type, device.id) == (message.device_type, message.device_id):
                self._cut(user, device.type, self._store.devices.expel(user, device))
                return KickOutAck()
        raise AppError(Code.PARAM, "no such device")

    def _cut(self, user: str, device_type: int, number: int) -> None:
        if number:
            self.publish(publications.USER + user, publications.kick(device_type, number))

    @batch(User.left)
    def _left(self, calls: Sequence[Incoming]) -> None:
        for part in self._store.by_user(calls, lambda call: call.args[0]):
            self._left_part(part)

    def _left_part(self, calls: Sequence[Incoming]) -> None:
        def noted(reply: object, error: Exception | None) -> None:
            for call in calls:
                if error is not None:
                    call.fail(Timeout(str(error)))
                else:
                    self.stir(call.args[0])
                    call.reply(None)

        self._store.devices.left([call.args for call in calls], noted)

    def kick(self, user: str, device_type: int) -> bool:
        require_user(user)
        number = self._store.devices.expel(user, None, device_type)
        self._cut(user, device_type, number)
        return number > 0

    def disable(self, user: str, disabled: bool) -> bool:
        require_user(user)
        if self._auth.mode == "password" and not self._store.users.exist([user])[0]:
            return False
        self._cut(user, 0, self._store.devices.expel(user, None, shut=disabled))
        return True

    def not_before(self, user: str, when: int) -> None:
        require_user(user)
        if when < 1:
            raise AppError(Code.PARAM, "a time is needed")
        self.require_accounts([user])
        self._cut(user, 0, self._store.devices.expel(user, None, not_before=when))


def require_user(user: str) -> None:
    """Refuse a malformed user id. Raises `AppError`."""
    if not is_user_id(user):
        raise AppError(Code.PARAM, "a user id has 1 to 64 of A-Z a-z 0-9 . _ @ + -")
