"""Pushing to phones: what devices take pushes, and pushes that no message leads to."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nodes.contracts import Push, PushInfo, RegInfo
from nodes.rest import wire
from nodes.rest.acting import there
from webapi.api import unique
from webapi.routes import Call, route

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[!-~]*$")]
Text = Annotated[str, Meta(max_length=4000)]


class Registration(wire.Body, kw_only=True):
    """A device. `service`: apns, fcm, huawei, xiaomi, meizu, vivo, oppo or log; `package`: of an app in the topology;
    `quiet_hours` like 22:00-07:00 in its local time, which is `utc_offset` minutes ahead of UTC."""

    service: Name
    package: Name
    token: Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[!-~]*$")]
    device_id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[!-~]*$")]
    app_version: Annotated[str, Meta(max_length=64)] = ""
    quiet_hours: Annotated[str, Meta(pattern=r"^(\d\d:\d\d-\d\d:\d\d)?$")] = ""
    utc_offset: Annotated[int, Meta(ge=-840, le=840)] = 0


class Registered(msgspec.Struct):
    """A registration, without its token. `registered` in ms."""

    service: str
    package: str
    app_version: str
    device_type: int
    device_id: str
    registered: int
    quiet_hours: str
    utc_offset: int


class RegisteredList(msgspec.Struct):
    """Oldest first."""

    registrations: list[Registered]


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """Which registrations; left out: any."""

    service: str = ""
    package: str = ""
    device_id: str = ""


class Removed(msgspec.Struct):
    """How many."""

    removed: int


class PushTest(wire.Body, kw_only=True):
    """A push to all devices of a user. `badge` left out: what he has not read. `extra`: for the app."""

    title: Text = "Test"
    content: Text = "This is a test."
    url: Text = ""
    badge: Annotated[int, Meta(ge=0, le=99_999)] | None = None
    extra: dict[str, Any] = {}


class Queued(msgspec.Struct):
    """To how many devices."""

    devices: int


class PushRecord(msgspec.Struct):
    """What became of a push. `time` in ms, `waited`: ms from its queueing."""

    id: str
    time: int
    user: str
    session: str
    seq_id: int
    app: str
    vendor: str
    device: str
    outcome: str
    reason: str
    vendor_id: str
    tries: int
    waited: int


class PushRecords(msgspec.Struct):
    """Newest first."""

    records: list[PushRecord]
    next: str


class RecordsAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Of an app of the topology and a vendor, and of one user when he is named."""

    app: Name
    vendor: Name
    user: str = ""
    cursor: wire.Cursor = ""
    limit: wire.Limit = 100


class Pushing:
    """Routes of the push node; None when the topology has none."""

    def __init__(self, push: Push | None) -> None:
        self._push = push

    @route("POST", "/v1/users/{user}/push/registrations", scope="push:write", status=201, tag="push", errors=(422,),
           summary="Register a device for pushes")  # fmt: skip
    def register(self, call: Call, user: wire.UserId, body: Registration) -> wire.Done:
        """In place of what the device had registered for that package and service. It takes pushes until it is
        unregistered, whoever logs in."""
        there(self._push).register(RegInfo(
            unique(call.seed, "register"), body.service, body.package, user, body.app_version, body.token, 0,
            body.device_id, body.quiet_hours, body.utc_offset,
        ))  # fmt: skip
        return wire.Done()

    @route("GET", "/v1/users/{user}/push/registrations", scope="push:read", tag="push",
           summary="The devices that take pushes for a user")  # fmt: skip
    def registrations(self, call: Call, user: wire.UserId) -> RegisteredList:
        return RegisteredList([Registered(*row) for row in there(self._push).registrations(user)])

    @route("DELETE", "/v1/users/{user}/push/registrations", scope="push:write", tag="push",
           summary="Unregister devices")  # fmt: skip
    def unregister(self, call: Call, user: wire.UserId, query: Chosen) -> Removed:
        return Removed(there(self._push).unregister(user, query.device_id, query.service, query.package))

    @route("POST", "/v1/users/{user}/push", scope="push:write", status=202, tag="push", errors=(422,),
           summary="Push to all devices of a user")  # fmt: skip
    def push(self, call: Call, user: wire.UserId, body: PushTest) -> Queued:
        """Whether he is online or not. What becomes of it: `GET /v1/push/records`."""
        badge = -1 if body.badge is None else body.badge
        extra = msgspec.json.encode(body.extra).decode() if body.extra else ""
        info = PushInfo(unique(call.seed, "push"), user, badge, body.title, body.content, body.url, extra)
        return Queued(there(self._push).push_message(info))

    @route("GET", "/v1/push/records", scope="push:read", tag="push", errors=(422,),
           summary="What became of pushes")  # fmt: skip
    def records(self, call: Call, query: RecordsAsked) -> PushRecords:
        found = there(self._push).records(query.app, query.vendor, query.cursor, query.limit, query.user)
        rows = [PushRecord(*row) for row in found]
        return PushRecords(rows, rows[-1].id if len(rows) >= query.limit else "")
