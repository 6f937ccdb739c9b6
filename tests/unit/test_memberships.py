"""Who of a broker gets what is published to a group: in a world in memory, where answers come when the test says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from nodes.memberships import MAX_WAITING
from nodes.publications import DELIVER, MEMBERS
from tests.unit.memberships_world import Device, World
from tests.waiting import wait_until

USERS = [f"u{n}" for n in range(4)]


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


class Chance:
    """Random changes, messages, logins and answers. Publications of one group come in order, those to users later; some
    of both are lost, which is followed by a hint to everybody and a `reread`."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.devices: dict[str, Device] = {}
        self.to_group: list[list[Any]] = []
        self.to_users: list[tuple[str, int, int]] = []
        self.texts: dict[str, tuple[int, set[str]]] = {}  # message -> version when it was stored, and who was in then
        self.came: dict[str, int] = {}  # user -> the version that added him last
        self.owed: list[tuple[str, Device, int, str]] = []  # what must come, after so many packs
        world.change("G", ["somebody"])

    def step(self) -> None:
        kinds = (self.add, self.remove, self.say, self.say, self.publish, self.tell, self.come_or_go, self.answer)
        self.rng.choice((*kinds, self.world.confirm))()
        if self.rng.random() < 0.02 and self.to_group:
            self.lose()

    def add(self) -> None:
        outside = [u for u in USERS if u not in self.world.members["G"]]
        if outside:
            added = self.rng.sample(outside, self.rng.randint(1, len(outside)))
            self.to_group.append(self.world.change("G", added))
            version = self.world.versions["G"]
            self.came.update(dict.fromkeys(added, version))
            self.to_users.extend((u, version, self.world.newest.get("G", 0)) for u in added)

    def remove(self) -> None:
        inside = [u for u in USERS if u in self.world.members["G"]]
        if inside:
            removed = self.rng.sample(inside, self.rng.randint(1, len(inside)))
            self.to_group.append(self.world.change("G", removed=removed))

    def say(self) -> None:
        text, members = str(len(self.texts)), self.world.members["G"]
        self.texts[text] = (self.world.versions["G"], set(members))
        self.owed.extend((u, device, len(device.got), text) for u, device in self.devices.items() if u in members)
        self.to_group.append(self.world.message("G", text))

    def publish(self) -> None:
        if self.to_group:
            count = self.rng.randint(1, len(self.to_group))
            self.world.publish("G", *self.to_group[:count])
            del self.to_group[:count]

    def tell(self) -> None:
        if self.to_users:
            user, version, newest = self.to_users.pop(0)
            self.world.memberships.joined(user, "G", version, newest)

    def come_or_go(self) -> None:
        user = self.rng.choice(USERS)
        if user in self.devices:
            self.world.logout(user, self.devices.pop(user))
        else:
            self.devices[user] = self.world.login(user)

    def answer(self) -> None:
        if self.world.presence_asked:
            self.world.answer_presence(failing=self.rng.random() < 0.1)

    def lose(self) -> None:
        self.to_group.pop(self.rng.randrange(len(self.to_group)))
        if self.to_users:
            self.to_users.pop(self.rng.randrange(len(self.to_users)))
        for user in self.devices:
            self.world.hint(user)
        self.world.memberships.reread()

    def settle(self) -> None:
        """Everything under way comes to its end."""
        world = self.world
        while self.to_group or self.to_users or world.presence_asked or world.confirmations:
            world.publish("G", *self.to_group)
            self.to_group.clear()
            while self.to_users:
                self.tell()
            world.confirm()
            while world.presence_asked:
                world.answer_presence()

    def check_nobody_heard_too_much(self) -> None:
        for user, device in self.devices.items():
            for text in device.got:
                if text != "hint":
                    version, inside = self.texts[text]
                    assert user in inside or self.came.get(user, 0) > version, (user, text)  # members may read all

    def check_nothing_was_missed(self) -> None:
        for user, device, heard_before, text in self.owed:
            inside = user in self.world.members["G"] and self.came[user] <= self.texts[text][0]
            if inside and self.devices.get(user) is device:
                assert text in device.got or "hint" in device.got[heard_before:], (user, text)


@pytest.mark.parametrize("seed", range(60))
def test_nobody_hears_too_much_and_nobody_misses_anything_unannounced(world: World, seed: int) -> None:
    chance = Chance(world, seed)
    for _ in range(120):
        chance.step()
        chance.check_nobody_heard_too_much()
    chance.settle()
    chance.check_nobody_heard_too_much()
    while world.lists_asked:
        world.answer_lists()
    world.memberships.reread()
    if chance.devices:
        world.answer_lists()
    chance.settle()
    chance.check_nothing_was_missed()
    heard = {user: len(device.got) for user, device in chance.devices.items()}
    chance.to_group.append(world.message("G", "end"))
    chance.settle()
    for user, device in chance.devices.items():
        assert device.got[heard[user] :] == (["end"] if user in world.members["G"] else []), user
    held = sum(user in world.members["G"] for user in chance.devices)
    assert world.topics == ({"g:G": held} if held else {})
