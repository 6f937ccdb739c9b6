"""Where pushes for this user go when he is not connected."""

from __future__ import annotations

from dataclasses import dataclass

from client.requests import Request
from packs import structs_social as x
from packs import table as t


@dataclass(frozen=True)
class Registration:
    """A device that takes pushes, by its vendor's service. `registered` in ms."""

    service: str
    package: str
    app_version: str
    device_type: int
    device_id: str
    registered: int
    quiet_hours: str
    utc_offset: int


class Pushes:
    """Of one user."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def register(
        self, service: str, token: str, package: str = "", *, app_version: str = "", quiet_hours: str = "",
        utc_offset: int = 0,
    ) -> None:  # fmt: skip
        """Have pushes sent to this device. `service`: apns, fcm, huawei, xiaomi, meizu, vivo, oppo, log; `token`: what
        it gave to this device. Do it after each start of the app: tokens change. `quiet_hours`: "22:00-07:00", in local
        time, which is `utc_offset` minutes ahead of UTC."""
        self._request(
            t.PUSH_REGISTER,
            x.PushRegisterReq(
                service_type=service, package_name=package, token=token, app_version=app_version,
                quiet_hours=quiet_hours, utc_offset=utc_offset,
            ),
        )  # fmt: skip

    def unregister(self, service: str = "", package: str = "") -> None:
        """Have no more sent to this device, by this service and to this package, or by any and to all."""
        self._request(t.PUSH_UNREGISTER, x.PushUnregisterReq(service_type=service, package_name=package))

    def list(self) -> list[Registration]:
        """All registrations of the user, oldest first."""
        response: x.PushRegistrationsResp = self._request(t.PUSH_REGISTRATIONS_GET)
        return [
            Registration(
                r.service_type, r.package_name, r.app_version, r.device_type, r.device_id, r.registered, r.quiet_hours,
                r.utc_offset,
            )
            for r in response.registrations
        ]  # fmt: skip
