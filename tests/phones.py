"""Phones: simulated vendors, a topology whose push node talks to them, and registrations."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq.green as zmq

from packs import table as t
from packs.structs import FriendAddReq, FriendInfo
from packs.structs_social import PresenceGetReq, PushRegisterReq
from tests.raw import Raw
from tests.simulators import SIMULATORS, HuaweiV3, Simulator
from tests.simulators.apns import TOPIC
from tests.simulators.server import Shown
from tests.system import System, running, topology_text
from tests.waiting import wait_until

LAYOUT = {"edge": ["broker", "user"], "core": ["chat", "group", "history", "msgop"], "push": ["push"]}
QUICK = {"rest": 0.2, "burst": 1.0}
"""Times in the table [push] for tests."""


class Phones:
    """A system, and the vendors that its push node knows by name."""

    def __init__(self, system: System, vendors: Sequence[Simulator]) -> None:
        self.system = system
        self.vendors = {vendor.name: vendor for vendor in vendors}
        self._numbers: dict[tuple[str, str], int] = {}

    def client(self, user: str, device_type: int = 2, **login: Any) -> Raw:
        return self.system.client(user, device_type=device_type, **login)

    def call(self, method: str, *arguments: Any) -> Any:
        return self.system.call(method, *arguments)

    def counters(self, kind: str = "counters") -> dict[str, float]:
        """What the push node counts, as it publishes it, or its "gauges"."""
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        try:
            socket.connect(self.system.status()["push-1"]["stats"])
            socket.subscribe(b"stats.push")
            assert socket.poll(5000), "no statistics"
            found: dict[str, float] = json.loads(socket.recv_multipart()[1])[kind]
            return found
        finally:
            socket.close(0)
            context.destroy(0)

    def records(self, vendor: str, user: str) -> list[list[Any]]:
        """What became of pushes to a user."""
        return list(self.call("push.records", "main", vendor, "", 100, user))

    def token(self, user: str, vendor: str = "apns") -> str:
        """The token of this user's phone."""
        number = self._numbers.setdefault((user, vendor), len(self._numbers) + 1)
        return self.vendors[vendor].token(number)

    def register(self, client: Raw, user: str, *vendors: str, **more: Any) -> None:
        """Register the device of a connection."""
        for vendor in vendors or ("apns",):
            request = PushRegisterReq(service_type=vendor, package_name=TOPIC, token=self.token(user, vendor), **more)
            answer = client.ask(t.PUSH_REGISTER, request)
            assert answer.code == 0, answer

    def away(self, user: str, *vendors: str, device_type: int = 2, **more: Any) -> None:
        """Have a phone of this user registered, and nobody connected."""
        client = self.client(user, device_type)
        self.register(client, user, *vendors, **more)
        client.close()
        self.gone(user)

    def gone(self, user: str) -> None:
        """Wait until everybody knows that this user is not connected."""
        watcher = self.client("watcher", 4)
        assert watcher.ask(t.FRIEND_ADD, FriendAddReq(friends=[FriendInfo(friend_id=user)])).code == 0

        def away() -> bool:
            (row,) = watcher.ask(t.PRESENCE_GET, PresenceGetReq(user_ids=[user])).presences
            return not row.online

        wait_until(away, f"{user} is gone")
        watcher.close()

    def got(self, user: str, vendor: str = "apns") -> list[Shown]:
        """What the vendor took for this user."""
        token = self.token(user, vendor)
        return [shown for shown in self.vendors[vendor].accepted if shown.token == token]

    def wait(self, user: str, count: int = 1, vendor: str = "apns", seconds: float = 15.0) -> list[Shown]:
        """Wait for so many pushes to this user."""
        wait_until(lambda: len(self.got(user, vendor)) >= count, f"{count} pushes to {user} by {vendor}", seconds)
        return self.got(user, vendor)


@contextmanager
def phones(names: Sequence[str] = (), more: dict[str, dict[str, Any]] | None = None, **push: Any) -> Iterator[Phones]:
    """A running system with these vendors (default: all), keys of the table [push], and `more` tables."""
    with tempfile.TemporaryDirectory(prefix="imesh-phones-") as directory:
        kinds = [k for k in SIMULATORS if k is not HuaweiV3 and (not names or k.name in names)]
        vendors = [kind(Path(directory)) for kind in kinds]
        for vendor in vendors:
            vendor.start()
        try:
            with running(topology_text(LAYOUT, tables={**tables(vendors, **push), **(more or {})})) as system:
                yield Phones(system, vendors)
        finally:
            for vendor in vendors:
                vendor.stop()


def tables(vendors: Sequence[Simulator], **push: Any) -> dict[str, dict[str, Any]]:
    """Tables of a topology for these vendors."""
    found: dict[str, dict[str, Any]] = {"push": {**QUICK, **push}, "push.app.main": {"package": TOPIC}}
    for vendor in vendors:
        found[f"push.app.main.{vendor.name}"] = {"timeout": 1.0, **vendor.settings()}
    return found
