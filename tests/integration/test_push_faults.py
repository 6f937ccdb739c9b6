"""Pushes when processes die, connections are dead, vendors are down, and tokens all look dead."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from packs import structs as s
from packs import table as t
from packs.flags import COUNTER
from tests import groups
from tests.phones import Phones, phones
from tests.raw import code
from tests.simulators.server import Everything
from tests.system import ERRORS
from tests.waiting import wait_until

NAMES = ("apns", "vivo", "oppo", "huawei")


@pytest.fixture(scope="module")
def world() -> Iterator[Phones]:
    with phones(NAMES, burst=0.0, large_group=2, large_group_policy="digest", digest=2.0) as found:
        yield found


def test_killed_in_between_nothing_is_lost_and_nothing_doubled_where_the_vendor_can_tell(
    world: Phones, user: Callable[[], str]
) -> None:
    a, people = user(), [user() for _ in range(24)]
    for person in people:
        phone = world.client(person)
        world.register(phone, person, *NAMES)
        phone.close()
    world.gone(people[-1])
    sender = world.client(a, 5)
    for vendor in world.vendors.values():
        vendor.delay = 0.05
    killed: set[int] = set()
    for n, person in enumerate(people):
        sender.text(person, f"m{n}")
        if n % 8 == 4:  # in the middle of it, whatever it is doing
            wait_until(lambda: world.system.find("push-1") not in {0, *killed}, "it runs")
            pid = world.system.pid("push-1")
            sent = world.vendors["vivo"].calls["/message/send"]
            wait_until(lambda n=sent: world.vendors["vivo"].calls["/message/send"] > n, "it sends")  # type: ignore[misc]
            world.system.signal(pid, signal.SIGKILL)
            killed.add(pid)
    for n, person in enumerate(people):
        for name in NAMES:
            assert {shown.body for shown in world.wait(person, 1, name, 30.0)} == {f"m{n}"}
    assert len(killed) == 3
    for vendor in ("vivo", "oppo"):
        accepted = [(shown.token, shown.body) for shown in world.vendors[vendor].accepted]
        assert len(accepted) == len(set(accepted)), "the vendor knows repeats"
    for vendor in world.vendors.values():
        vendor.delay = 0.0


def test_a_vendor_that_is_down_for_a_while_gets_everything_afterwards(world: Phones, user: Callable[[], str]) -> None:
    a, b = user(), user()
    world.away(b, "apns", "huawei")
    world.vendors["huawei"].stop()
    sender = world.client(a, 5)
    for n in range(3):
        sender.text(b, f"while it is down {n}")
    world.wait(b, 3)
    age = "push.main.huawei.queue_age_seconds"
    wait_until(lambda: world.counters("gauges")[age] > 0.3, "the queue is known to be old")
    world.vendors["huawei"].start()
    assert {p.body for p in world.wait(b, 3, "huawei", 20.0)} == {f"while it is down {n}" for n in range(3)}
    wait_until(lambda: world.counters("gauges")[age] == 0, "and empty")


def test_a_large_group_is_told_of_now_and_then(world: Phones, user: Callable[[], str]) -> None:
    a, b, c = user(), user(), user()
    owner = world.client(a, 5)
    group = groups.create(owner, b, c, name="Crowd")
    world.away(b)
    for n in range(5):
        groups.say(owner, group, f"number {n}")
    pushes = world.wait(b, 2)
    assert [(p.title, p.body) for p in pushes] == [("Crowd", "New message")] * 2
    assert pushes[1].badge == 5


def test_tokens_that_all_look_dead_are_kept_but_a_few(world: Phones, user: Callable[[], str]) -> None:
    a, people = user(), [user() for _ in range(8)]
    for person in people:
        world.away(person, "huawei")
    world.vendors["huawei"].dead = Everything()
    sender = world.client(a, 5)
    for person in people:
        sender.text(person, "are you there")
    wait_until(lambda: all(world.records("huawei", person) for person in people), "all were refused")
    assert sum(len(world.call("push.registrations", person)) for person in people) >= 5
    world.vendors["huawei"].dead = set()


def test_a_user_whose_connection_is_dead_gets_what_came_meanwhile(user: Callable[[], str]) -> None:
    with phones(("apns",), more={"node.broker": {"heartbeat": 1.0}}, large_group=2) as world:
        a, b, c = user(), user(), user()
        sender = world.client(a, 5)
        group = groups.create(sender, b, c, name="Crowd")
        for person in (b, c):
            world.register(world.client(person, 2), person)
        for message in (s.MsgReq(to=group, content="look", mentions=[c]), s.MsgReq(to=group, content="and more")):
            assert code(sender.ask(t.MSG_GROUP_CHAT, message, flags=COUNTER)) == 0
        sender.text(b, "into the void")  # the phones seem to be there, and say nothing any more
        sender.close()
        (shown,) = world.wait(b, 1)
        assert shown.body in ("into the void", "New message")
        assert [p.title for p in world.wait(c, 1)] == ["Crowd"], "who was mentioned hears of a large group"
        assert [p.title for p in world.got(b)] == [a], "and nobody else"
        assert world.system.stop() == 0
        assert not ERRORS.search(world.system.log)


def test_pushes_survive_the_store(world: Phones, user: Callable[[], str]) -> None:
    a, people = user(), [user() for _ in range(5)]
    for person in people:
        world.away(person, "apns", "oppo")
    sender = world.client(a, 5)
    for person in people:
        assert code(sender.text(person, "before")) == 0
    world.wait(people[0], 1)  # it is at work
    world.system.kill("redis")
    for person in people:
        for vendor in ("apns", "oppo"):
            assert {p.body for p in world.wait(person, 1, vendor, 20.0)} == {"before"}
        assert len(world.got(person, "oppo")) == 1


def test_a_broker_that_dies_takes_nobodys_messages_with_it(world: Phones, user: Callable[[], str]) -> None:
    a, b = user(), user()
    phone = world.client(b, 2)
    world.register(phone, b)
    sender = world.client(a, 5)
    message = s.MsgReq(to=b, content="just before", content_type=1)
    assert code(sender.ask(t.MSG_SINGLE_CHAT, message, flags=COUNTER)) == 0
    world.system.kill("edge-1")
    assert world.wait(b, 1, "apns", 20.0)[0].body == "just before"
