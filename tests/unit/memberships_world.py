"""The world of a broker's memberships, in memory: a group node that knows the truth, answers when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mesh.errors import Timeout
from nodes.memberships import Deliveries, Memberships
from nodes.publications import DELIVER, DISMISSED, MEMBERS
from store.groups import Membership, Presence
from tests.waiting import wait_until


class Device:
    """A connection. `got` are the packs delivered to it, "hint" for a hint to resync."""

    codec = "msgpack"

    def __init__(self, name: str) -> None:
        self.name = name
        self.got: list[str] = []


class World:
    """A group node with the truth, and what a broker has around its memberships. Nothing happens by itself."""

    def __init__(self) -> None:
        self.members: dict[str, dict[str, None]] = {}
        self.versions: dict[str, int] = {}
        self.newest: dict[str, int] = {}
        self.devices: dict[str, list[Device]] = {}
        self.topics: dict[str, int] = {}  # held, with the number of holders
        self.confirmations: list[Callable[[bool], None]] = []
        self.lists_asked: list[tuple[tuple[str, ...], Callable[..., None]]] = []
        self.presence_asked: list[tuple[str, tuple[str, ...], Callable[..., None]]] = []
        self.memberships = Memberships(self)

    # ---- what the memberships use

    def subscribe(self, topics: list[str], done: Callable[[bool], None], late: Callable[[], None]) -> None:
        fresh = [topic for topic in topics if topic not in self.topics]
        for topic in topics:
            self.topics[topic] = self.topics.get(topic, 0) + 1
        if fresh:
            self.confirmations.append(done)
        else:
            done(True)

    def unsubscribe(self, topics: list[str]) -> None:
        for topic in topics:
            self.topics[topic] -= 1
            if not self.topics[topic]:
                del self.topics[topic]

    def groups_of(self, users: tuple[str, ...], done: Callable[..., None]) -> None:
        self.lists_asked.append((users, done))

    def present(self, group: str, users: tuple[str, ...], done: Callable[..., None]) -> None:
        self.presence_asked.append((group, users, done))

    def connections(self, user: str) -> Iterable[Device]:
        return self.devices.get(user, ())

    def deliver(self, by_codec: Mapping[Any, Iterable[Device]], items: Deliveries) -> None:
        for devices in by_codec.values():
            for device in devices:
                device.got += [body.decode() for skip, body in items if skip != device.name]

    def hint(self, user: str) -> None:
        for device in self.connections(user):
            device.got.append("hint")

    # ---- what the test decides

    def change(self, group: str, added: Sequence[str] = (), removed: Sequence[str] = ()) -> list[Any]:
        """Change the truth; the item that is published about it."""
        members = self.members.setdefault(group, {})
        members.update(dict.fromkeys(added))
        for user in removed:
            del members[user]
        self.versions[group] = self.versions.get(group, 100) + 1
        return [MEMBERS, self.versions[group], list(added), list(removed)]

    def message(self, group: str, text: str, skip: str = "") -> list[Any]:
        """Store a message; the item that is published."""
        self.newest[group] = self.newest.get(group, 0) + 1
        return [DELIVER, skip, text.encode(), self.versions[group]]

    def dismissed(self, group: str) -> list[Any]:
        self.members.pop(group)
        self.versions[group] = 0
        return [DISMISSED]

    def lists_now(self, users: Iterable[str]) -> list[list[Membership]]:
        return [
            [Membership(g, self.versions[g], self.newest.get(g, 0)) for g, who in self.members.items() if u in who]
            for u in users
        ]

    def presence_now(self, group: str, users: Iterable[str]) -> Presence:
        members = self.members.get(group, {})
        found = tuple(u for u in users if u in members)
        return Presence(self.versions.get(group, 0), self.newest.get(group, 0), found)

    def answer_lists(self, failing: bool = False) -> None:
        wait_until(lambda: self.lists_asked, "the question for lists")
        users, done = self.lists_asked.pop(0)
        if failing:
            done(None, Timeout("no answer"))
        else:
            done(self.lists_now(users), None)

    def answer_presence(self, failing: bool = False) -> None:
        group, users, done = self.presence_asked.pop(0)
        if failing:
            done(None, Timeout("no answer"))
        else:
            done(self.presence_now(group, users), None)

    def confirm(self) -> None:
        waiting, self.confirmations = self.confirmations, []
        for done in waiting:
            done(True)

    def login(self, user: str, name: str = "") -> Device:
        """Log a user in, all answers included."""
        ready: list[bool] = []
        self.memberships.enter(user, lambda: ready.append(True))
        while not ready:
            if not self.confirmations:
                self.answer_lists()
            self.confirm()
        return self.logged_in(user, name)

    def logged_in(self, user: str, name: str = "") -> Device:
        device = Device(name or f"{user}'s")
        self.devices.setdefault(user, []).append(device)
        self.memberships.came(user, device)
        return device

    def logout(self, user: str, device: Device) -> None:
        self.memberships.went(user, device)
        self.devices[user].remove(device)
        self.memberships.leave(user)

    def publish(self, group: str, *items: list[Any]) -> None:
        self.memberships.published(group, list(items))

    def join(self, user: str, group: str) -> None:
        """What is published to a user who was added, as of now."""
        self.memberships.joined(user, group, self.versions[group], self.newest.get(group, 0))
