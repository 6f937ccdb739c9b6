"""One's own devices."""

from __future__ import annotations

from dataclasses import dataclass

from client.requests import Request
from packs import structs_social as x
from packs import table as t


@dataclass(frozen=True)
class Device:
    """The newest login of a type of device. Times in ms; `last_seen` is 0 while it is online."""

    device_type: int
    device_id: str
    name: str
    online: bool
    login_time: int
    last_seen: int


class Devices:
    """Of one user."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def list(self) -> list[Device]:
        """All that have logged in, online or not."""
        response: x.DevicesResp = self._request(t.DEVICES_GET)
        return [
            Device(d.device_type, d.device_id, d.device_name, bool(d.online), d.login_time, d.last_seen)
            for d in response.devices
        ]

    def kick(self, device: Device) -> None:
        """End the login of a device; it gets `Ended`."""
        self._request(t.KICKOUT, x.KickOut(device_type=device.device_type, device_id=device.device_id))
