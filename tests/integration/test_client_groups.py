"""Groups over the SDK: what an app developer relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from client.events import Event, ListChanged
from packs.codec import JSON, MSGPACK
from packs.codes import Code
from packs.enums import JoinMode
from tests.clients import Connect, connecting, refusal, take
from tests.system import System
from tests.waiting import wait_until

User = Callable[[], str]


@pytest.fixture
def connect(system: System) -> Iterator[Connect]:
    with connecting(system) as found:
        yield found


def test_a_group_from_its_beginning_to_its_end(connect: Connect, user: User) -> None:
    alice, bob, carl, dora = user(), user(), user(), user()
    a, b, c = connect(alice), connect(bob, codec=JSON), connect(carl)
    group = a.groups.create("team 小组", [bob], description="us", limit=3)
    assert sorted(a.groups.members(group)) == sorted([alice, bob])
    (found,) = b.groups.list()
    assert (found.group_id, found.name, found.owner, found.description, found.limit, found.join_mode) == (
        group, "team 小组", alice, "us", 3, JoinMode.MEMBERS,
    )  # fmt: skip

    sent = a.send(group, "welcome", mentions=["*"])
    assert sent is not None
    (got,) = take(b, 1)
    assert (got.content, got.seq_id, got.session_id, got.mentions, got.in_group) == (
        "welcome", sent.seq_id, group, ("*",), True,
    )  # fmt: skip
    assert refusal(lambda: c.send(group, "let me in")) == Code.NOT_GROUP_MEMBER
    assert refusal(lambda: c.groups.members(group)) == Code.NOT_GROUP_MEMBER

    b.groups.add(group, [carl])
    assert refusal(lambda: b.groups.add(group, [dora])) == Code.GROUP_MEMBER_LIMIT
    assert [m.content for m in c.history(group)] == ["welcome"]
    c.send(group, "thanks")
    assert [take(each, 1)[0].content for each in (a, b)] == ["thanks", "thanks"]

    assert refusal(lambda: b.groups.update(group, name="mine")) == Code.GROUP_NOT_OWNER
    a.groups.hand_over(group, bob)
    b.groups.update(group, name="ours", join_mode=JoinMode.OWNER)
    renamed = a.groups.get(group)
    assert renamed is not None
    assert (renamed.name, renamed.owner, renamed.description) == ("ours", bob, "us")
    b.groups.remove(group, [carl])
    assert refusal(lambda: c.send(group, "am I still here?")) == Code.NOT_GROUP_MEMBER
    assert c.groups.list() == []
    a.groups.remove(group, [alice])
    b.groups.dismiss(group)
    assert refusal(lambda: b.send(group, "anybody?")) == Code.GROUP_NOT_FOUND
    assert b.groups.list() == []


def test_lists_are_fetched_again_only_as_far_as_they_changed(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    a, b = connect(alice), connect(bob)
    groups = [a.groups.create(f"group {n}", [bob]) for n in range(5)]
    assert [g.group_id for g in b.groups.list()] == [g.group_id for g in a.groups.list()]
    assert {g.group_id for g in b.groups.list()} == set(groups)
    a.groups.update(groups[2], name="renamed")
    a.groups.dismiss(groups[3])
    names = {g.group_id: g.name for g in b.groups.list()}
    assert names == {g: ("renamed" if g == groups[2] else f"group {groups.index(g)}") for g in groups if g != groups[3]}
    b.groups.remove(groups[0], [bob])
    assert groups[0] not in {g.group_id for g in b.groups.list()}
    a.groups.add(groups[0], [bob])
    assert groups[0] in {g.group_id for g in b.groups.list()}


def test_those_concerned_hear_of_it(connect: Connect, user: User) -> None:
    alice, bob, carl = user(), user(), user()
    heard: list[Event] = []
    a, _ = connect(alice), connect(bob, on_event=heard.append)
    group = a.groups.create("team", [bob])
    wait_until(lambda: ListChanged("groups", group) in heard, "the new group")
    a.groups.add(group, [carl])
    wait_until(lambda: ListChanged("members", group) in heard, "the new member")
    a.groups.update(group, name="other")
    wait_until(lambda: ListChanged("group", group) in heard, "the new name")


def test_two_devices_of_one_member(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    phone, desk = connect(alice, device_type=1, codec=JSON), connect(alice, device_type=5)
    b = connect(bob)
    group = b.groups.create("team", [alice])
    b.send(group, "hello")
    assert [take(each, 1)[0].content for each in (phone, desk)] == ["hello", "hello"]
    for n in range(20):
        (phone, desk)[n % 2].send(group, str(n))
    assert [m.content for m in take(b, 20)] == [str(n) for n in range(20)]
    assert [m.content for m in take(phone, 10)] == [str(n) for n in range(1, 20, 2)]
    assert [m.content for m in take(desk, 10)] == [str(n) for n in range(0, 20, 2)]


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda c: c.name)
def test_what_came_while_away_comes_once_and_in_order(connect: Connect, user: User, codec: Any) -> None:
    alice, bob = user(), user()
    a, b = connect(alice), connect(bob, codec=codec)
    group = a.groups.create("team", [bob])
    a.send(group, "0")
    take(b, 1)
    b.close()
    for n in range(1, 250):
        a.send(group, str(n), wait=n == 249)
    wait_until(lambda: a.unacknowledged == 0, "the acks")
    b.connect()
    assert [m.content for m in take(b, 249)] == [str(n) for n in range(1, 250)]
    a.send(group, "live")
    assert take(b, 1)[0].content == "live"
    assert [m.content for m in b.scroll(group)] == ["live"] + [str(n) for n in reversed(range(250))]


def test_a_new_member_sees_what_follows_and_may_read_what_was(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    a, b = connect(alice), connect(bob)
    group = a.groups.create("team")
    for n in range(3):
        a.send(group, f"before {n}")
    a.groups.add(group, [bob])
    a.send(group, "after")
    assert [m.content for m in take(b, 1)] == ["after"]
    assert len(b.history(group)) == 4
    (hot,) = b.hot_sessions()
    assert (hot.session_id, hot.unread) == (group, 1)


def test_an_open_group_is_joined_by_oneself(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    a, b = connect(alice), connect(bob)
    closed, opened = a.groups.create("closed"), a.groups.create("open", join_mode=JoinMode.OPEN)
    assert refusal(lambda: b.groups.add(closed, [bob])) == Code.GROUP_NO_PRIVILEGE
    b.groups.add(opened, [bob])
    b.send(opened, "here I am")
    assert take(a, 1)[0].content == "here I am"
