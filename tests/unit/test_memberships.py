"""Who of a broker gets what is published to a group: in a world in memory, where answers come when the test says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from mesh.errors import Timeout
from nodes.memberships import MAX_WAITING, Deliveries, Memberships
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


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.memberships.close()


# ---- logins


def test_a_login_waits_for_the_groups_and_their_topics(world: World) -> None:
    world.change("G", ["alice"])
    world.change("H", ["alice"])
    ready: list[str] = []
    world.memberships.enter("alice", lambda: ready.append("first"))
    world.memberships.enter("alice", lambda: ready.append("second"))
    world.answer_lists()
    assert world.topics == {"g:G": 1, "g:H": 1} and ready == []
    world.confirm()
    assert ready == ["first", "second"]
    world.memberships.enter("alice", lambda: ready.append("third"))
    assert ready == ["first", "second", "third"] and not world.lists_asked


def test_logins_of_one_turn_are_asked_about_at_once(world: World) -> None:
    ready: list[str] = []
    for user in ("a", "b", "c"):
        world.memberships.enter(user, lambda user=user: ready.append(user))  # type: ignore[misc]
    world.memberships.leave("b")
    world.answer_lists()
    assert ready == ["a", "c"] and not world.lists_asked and not world.confirmations


def test_who_gives_up_leaves_nothing_behind(world: World) -> None:
    world.change("G", ["alice"])
    for confirmed in (False, True):
        world.memberships.enter("alice", lambda: None)
        world.answer_lists()
        if confirmed:
            world.confirm()
        world.memberships.leave("alice")
        assert world.topics == {} and world.memberships.groups == 0
    # The answer to a question for who has left changes nothing, not even when he is back.
    world.memberships.enter("alice", lambda: None)
    wait_until(lambda: world.lists_asked, "the first question")
    world.memberships.leave("alice")
    ready: list[bool] = []
    world.memberships.enter("alice", lambda: ready.append(True))
    wait_until(lambda: len(world.lists_asked) == 2, "the second question")
    world.answer_lists()
    assert world.topics == {} and not ready
    world.answer_lists()
    world.confirm()
    assert ready and world.topics == {"g:G": 1}


def test_a_failed_question_lets_him_in_and_is_asked_again(world: World) -> None:
    world.change("G", ["alice"])
    ready: list[bool] = []
    world.memberships.enter("alice", lambda: ready.append(True))
    world.answer_lists(failing=True)
    assert ready
    alice = world.logged_in("alice")
    world.answer_lists(failing=True)
    world.answer_lists()
    world.confirm()
    world.publish("G", world.message("G", "1"))
    assert alice.got == ["hint", "1"]


def test_the_last_connection_gives_the_topics_up(world: World) -> None:
    world.change("G", ["alice", "bob"])
    one, two, bob = world.login("alice"), world.login("alice", "two"), world.login("bob")
    world.publish("G", world.message("G", "1", skip="two"))
    assert (one.got, two.got, bob.got) == (["1"], [], ["1"])
    world.logout("alice", one)
    world.publish("G", world.message("G", "2"))
    assert (one.got, two.got, bob.got) == (["1"], ["2"], ["1", "2"])
    world.logout("alice", two)
    assert world.topics == {"g:G": 1}
    world.logout("bob", bob)
    assert world.topics == {} and world.memberships.groups == 0


# ---- changes


def test_changes_in_order_are_taken_as_they_come(world: World) -> None:
    world.change("G", ["alice", "carol"])
    alice, bob, carol = (world.login(u) for u in ("alice", "bob", "carol"))
    joined = world.change("G", ["bob"])
    first = world.message("G", "1")
    left = world.change("G", removed=["carol"])
    world.publish("G", joined, first, left, world.message("G", "2"))
    assert (alice.got, bob.got, carol.got) == (["1", "2"], ["1", "2"], ["1"])
    world.join("bob", "G")
    assert not world.presence_asked and world.topics == {"g:G": 2}


def test_a_message_of_an_unknown_version_waits_and_so_does_all_behind_it(world: World) -> None:
    world.change("G", ["alice", "bob"])
    alice, bob = world.login("alice"), world.login("bob")
    before = world.message("G", "before")
    lost = world.change("G", removed=["bob"])
    world.publish("G", before, world.message("G", "1"), world.message("G", "2"))
    world.publish("G", world.message("G", "3"))
    assert alice.got == bob.got == ["before"]
    world.answer_presence()
    assert (alice.got, bob.got) == (["before", "1", "2", "3"], ["before"])
    world.publish("G", lost)  # it was only late
    world.publish("G", world.message("G", "4"))
    assert alice.got[-1] == "4" and not world.presence_asked and world.topics == {"g:G": 1}


def test_what_was_stored_before_a_change_is_for_those_who_stayed(world: World) -> None:
    world.change("G", ["alice", "bob"])
    alice, bob = world.login("alice"), world.login("bob")
    old = world.message("G", "old")
    world.publish("G", world.change("G", removed=["bob"]), old)
    assert (alice.got, bob.got) == (["old"], [])


def test_a_missed_change_is_asked_about(world: World) -> None:
    world.change("G", ["alice", "bob"])
    alice, bob = world.login("alice"), world.login("bob")
    world.change("G", removed=["bob"])
    world.publish("G", world.change("G", ["carol"]))
    world.answer_presence()
    world.publish("G", world.message("G", "1"))
    assert (alice.got, bob.got) == (["1"], [])


def test_the_change_that_removes_the_last_one_here_and_adds_another(world: World) -> None:
    world.change("G", ["alice"])
    alice, bob = world.login("alice"), world.login("bob")
    world.publish("G", world.change("G", ["bob"], ["alice"]), world.message("G", "1"))
    assert (alice.got, bob.got) == ([], ["1"]) and world.topics == {"g:G": 1} and not world.confirmations


def test_a_dismissed_group(world: World) -> None:
    world.change("G", ["alice"])
    alice = world.login("alice")
    world.publish("G", world.message("G", "1"), world.dismissed("G"), [DELIVER, "", b"2", 0])
    assert alice.got == ["1"] and world.topics == {}
    world.publish("G", [DELIVER, "", b"3", 0])
    assert alice.got == ["1"]


def test_nobody_answers_about_a_version(world: World) -> None:
    world.change("G", ["alice", "bob"])
    alice, bob = world.login("alice"), world.login("bob")
    world.change("G", removed=["bob"])
    world.publish("G", world.message("G", "1"))
    world.answer_presence(failing=True)
    assert alice.got == bob.got == ["hint"]  # what waited is found in the history, by those who may
    world.publish("G", world.message("G", "2"))
    world.answer_presence()
    assert (alice.got, bob.got) == (["hint", "2"], ["hint"])


def test_too_much_waits(world: World) -> None:
    world.change("G", ["alice"])
    alice = world.login("alice")
    world.change("G", ["somebody"])
    for n in range(MAX_WAITING + 1):
        world.publish("G", world.message("G", str(n)))
    assert alice.got == ["hint"]
    world.publish("G", world.message("G", "last"))
    world.answer_presence()
    assert alice.got == ["hint", "last"]


def test_who_came_while_it_was_asked_is_asked_about_too(world: World) -> None:
    world.change("G", ["alice", "bob"])
    alice = world.login("alice")
    lists = world.lists_now(["bob"])  # read now, delivered late
    world.change("G", removed=["bob"])
    world.publish("G", world.message("G", "1"))
    world.memberships.enter("bob", lambda: None)
    wait_until(lambda: world.lists_asked, "the question")
    world.lists_asked.pop()[1](lists, None)
    bob = world.logged_in("bob")
    world.answer_presence()
    assert alice.got == []
    world.answer_presence()
    assert (alice.got, bob.got) == (["1"], [])


# ---- he is in a group


def test_who_is_added_to_a_group_new_here_hears_from_the_confirmation_on(world: World) -> None:
    alice = world.login("alice")
    world.change("G", ["alice"])
    world.join("alice", "G")
    assert world.topics == {"g:G": 1}
    world.confirm()
    world.answer_presence()
    world.publish("G", world.message("G", "1"))
    assert alice.got == ["1"]


def test_what_was_stored_before_the_confirmation_is_announced(world: World) -> None:
    alice = world.login("alice")
    world.change("G", ["alice"])
    world.join("alice", "G")
    world.message("G", "lost")
    world.confirm()
    world.answer_presence()
    assert alice.got == ["hint"]


def test_many_who_join_at_once_are_asked_about_together(world: World) -> None:
    users = [f"u{n}" for n in range(10)]
    devices = [world.login(user) for user in users]
    world.change("G", users)
    for user in users:
        world.join(user, "G")
    world.confirm()
    while world.presence_asked:
        assert len(world.presence_asked) == 1
        world.answer_presence()
    world.publish("G", world.message("G", "1"))
    assert [device.got for device in devices] == [["1"]] * 10 and world.topics == {"g:G": 10}


def test_who_is_told_too_late_that_he_is_in(world: World) -> None:
    world.change("G", ["alice"])
    alice, bob = world.login("alice"), world.login("bob")
    world.change("G", ["bob"])
    version = world.versions["G"]
    world.publish("G", [MEMBERS, version, [], []])
    world.publish("G", world.change("G", removed=["bob"]), world.message("G", "1"))
    world.memberships.joined("bob", "G", version, 0)
    world.publish("G", world.message("G", "2"))
    world.answer_presence()
    world.publish("G", world.message("G", "3"))
    assert (alice.got, bob.got) == (["1", "2", "3"], []) and world.topics == {"g:G": 1}


def test_who_is_told_before_the_group_hears_of_it(world: World) -> None:
    world.change("G", ["alice"])
    alice, bob = world.login("alice"), world.login("bob")
    change = world.change("G", ["bob"])
    world.join("bob", "G")
    world.answer_presence()
    world.publish("G", change, world.message("G", "1"))
    assert alice.got == bob.got == ["1"]


def test_he_is_told_that_he_is_back_before_the_group_hears_that_he_left(world: World) -> None:
    world.change("G", ["alice"])
    alice = world.login("alice")
    changes = [world.change("G", removed=["alice"]), world.change("G", ["alice"])]
    world.join("alice", "G")
    world.publish("G", *changes, world.message("G", "1"))
    assert alice.got == ["1"] and world.topics == {"g:G": 1}


def test_an_answer_older_than_what_was_published_is_asked_for_again(world: World) -> None:
    world.change("G", ["alice"])
    world.login("alice")
    bob = world.login("bob")
    world.publish("G", world.change("G", ["carol"]))
    world.change("G", ["bob"])
    world.publish("G", [MEMBERS, world.versions["G"], [], []])  # he is not here yet, as far as it knows
    world.join("bob", "G")
    group, users, done = world.presence_asked.pop()
    stale = world.presence_now(group, users)
    world.publish("G", world.change("G", removed=["bob"]))
    done(stale, None)
    world.answer_presence()
    world.publish("G", world.message("G", "1"))
    assert bob.got == []


def test_after_a_loss_lists_are_read_again(world: World) -> None:
    world.change("G", ["alice"])
    world.change("H", ["bob"])
    alice, bob = world.login("alice"), world.login("bob")
    world.change("G", ["bob"], ["alice"])  # nothing of it is published
    world.memberships.reread()
    world.answer_lists()
    world.confirm()
    while world.presence_asked:
        world.answer_presence()
    world.publish("G", world.message("G", "1"))
    world.answer_presence()
    world.publish("H", world.message("H", "2"))
    assert alice.got == [] and bob.got == ["hint", "1", "2"]


# ---- anything


@pytest.mark.parametrize("seed", range(60))
def test_nobody_hears_what_was_stored_after_he_left_and_nobody_misses_anything_unannounced(
    world: World, seed: int
) -> None:
    """Random changes, messages, logins and answers; publications of one group in order, those to users later, and some
    of both lost, which is followed by a `reread`."""
    rng = random.Random(seed)
    users = [f"u{n}" for n in range(4)]
    devices: dict[str, Device] = {}
    to_group: list[list[Any]] = []
    to_users: list[tuple[str, int, int]] = []
    texts: dict[str, tuple[int, set[str]]] = {}  # message -> version when it was stored, and who was in the group
    came: dict[str, int] = {}  # user -> the version that added him last
    owed: list[tuple[str, Device, int, str]] = []  # what must come, after so many packs
    world.change("G", ["somebody"])

    def step() -> None:
        kind = rng.randrange(9)
        members = world.members["G"]
        if kind == 0:
            outside = [u for u in users if u not in members]
            if outside:
                added = rng.sample(outside, rng.randint(1, len(outside)))
                to_group.append(world.change("G", added))
                came.update(dict.fromkeys(added, world.versions["G"]))
                to_users.extend((u, world.versions["G"], world.newest.get("G", 0)) for u in added)
        elif kind == 1:
            inside = [u for u in users if u in members]
            if inside:
                to_group.append(world.change("G", removed=rng.sample(inside, rng.randint(1, len(inside)))))
        elif kind in (2, 3):
            text = str(len(texts))
            texts[text] = (world.versions["G"], set(members))
            owed.extend((user, device, len(device.got), text) for user, device in devices.items() if user in members)
            to_group.append(world.message("G", text))
        elif kind == 4 and to_group:
            count = rng.randint(1, len(to_group))
            world.publish("G", *to_group[:count])
            del to_group[:count]
        elif kind == 5 and to_users:
            world.memberships.joined(to_users[0][0], "G", *to_users[0][1:])
            del to_users[0]
        elif kind == 6:
            user = rng.choice(users)
            if user in devices:
                world.logout(user, devices.pop(user))
            elif not world.memberships.holds(user):
                devices[user] = world.login(user)
        elif kind == 7 and world.presence_asked:
            world.answer_presence(failing=rng.random() < 0.1)
        elif kind == 8:
            world.confirm()
        if rng.random() < 0.02 and to_group:
            to_group.pop(rng.randrange(len(to_group)))
            if to_users:
                to_users.pop(rng.randrange(len(to_users)))
            for user in devices:
                world.hint(user)
            world.memberships.reread()

    def settle() -> None:
        while to_group or to_users or world.presence_asked or world.confirmations:
            if to_group:
                world.publish("G", *to_group)
                to_group.clear()
            for user, version, newest in to_users:
                world.memberships.joined(user, "G", version, newest)
            to_users.clear()
            world.confirm()
            while world.presence_asked:
                world.answer_presence()

    for _ in range(120):
        step()
        for user, device in devices.items():
            for text in device.got:
                if text != "hint":
                    version, inside = texts[text]
                    assert user in inside or came.get(user, 0) > version, (user, text)  # members may read all
    settle()
    while world.lists_asked:
        world.answer_lists()
    world.memberships.reread()
    if devices:
        world.answer_lists()
    settle()
    heard = {user: len(device.got) for user, device in devices.items()}
    to_group.append(world.message("G", "end"))
    settle()
    for user, device in devices.items():
        assert device.got[heard[user] :] == (["end"] if user in world.members["G"] else []), user
    held = sum(user in world.members["G"] for user in devices)
    assert world.topics == ({"g:G": held} if held else {})
    for user, device, heard_before, text in owed:
        stayed = user in world.members["G"] and came[user] <= texts[text][0] and devices.get(user) is device
        assert not stayed or text in device.got or "hint" in device.got[heard_before:], (user, text)
