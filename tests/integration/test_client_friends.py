"""Friends, profiles and attributes over the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from client.events import Ended, ListChanged, Presence, Typing
from client.profiles import Profile
from client.sessions import session_of
from packs.codec import JSON
from packs.codes import Code
from tests.clients import Connect, Heard, connecting, refusal, take
from tests.system import System, running, topology_text
from tests.waiting import wait_until

User = Callable[[], str]


@pytest.fixture
def connect(system: System) -> Iterator[Connect]:
    with connecting(system) as found:
        yield found


def test_friends_come_and_go(connect: Connect, user: User) -> None:
    alice, bob, carl = user(), user(), user()
    heard = Heard()
    a, b = connect(alice), connect(bob, codec=JSON, on_event=heard.append)
    a.friends.add(bob, remark="Bobby")
    a.friends.add(carl)
    heard.wait(ListChanged)
    assert {f.user: f.remark for f in a.friends.list()} == {bob: "Bobby", carl: ""}
    assert [f.user for f in b.friends.list()] == [alice]
    a.friends.delete(carl)
    assert [f.user for f in a.friends.list()] == [bob]
    b.friends.delete(alice)
    wait_until(lambda: a.friends.list() == [], "the friend to be gone")


def test_profiles(connect: Connect, user: User) -> None:
    alice, bob, nobody = user(), user(), user()
    a, b = connect(alice), connect(bob, codec=JSON)
    a.profiles.update(name="Alice 爱丽丝", avatar="https://example.org/a.png", mobile="123", birthday=1)
    mine, other = a.profiles.get([alice, nobody])
    assert mine == Profile(alice, "Alice 爱丽丝", "https://example.org/a.png", "123", 1)
    assert other == Profile(nobody)
    (seen,) = b.profiles.get([alice])
    assert (seen.name, seen.mobile) == ("Alice 爱丽丝", "")  # numbers are for friends


def test_attributes_of_others_and_of_sessions(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    a, b = connect(alice), connect(bob)
    a.friends.set(bob, "colour", "blue")
    a.friends.set(bob, "shape", "round")
    a.friends.set(bob, "shape", "")
    assert {k: v for k, v in a.friends.get(bob).items() if v} == {"colour": "blue"}
    b.send(alice, "hello")
    a.sessions.mute(bob)
    a.sessions.pin(bob)
    a.sessions.pin(bob, False)
    (hot,) = a.hot_sessions()
    assert (hot.muted, hot.attributes.get("TOP", "")) == (True, "")


def test_requests_to_be_friends(user: User) -> None:
    alice, bob, carl = user(), user(), user()
    with (
        running(topology_text(tables={"node.user": {"friend_mode": "request"}})) as system,
        connecting(system) as connect,
    ):
        heard = Heard()
        a, b, c = connect(alice), connect(bob, on_event=heard.append), connect(carl)
        a.friends.add(bob, remark="Bobby")
        c.friends.add(bob)
        wait_until(lambda: ListChanged("requests") in heard, "the request")
        assert b.friends.requests() == [alice, carl]
        assert a.friends.list() == []
        b.friends.accept(alice)
        b.friends.decline(carl)
        assert b.friends.requests() == []
        assert [(f.user, f.remark) for f in a.friends.list()] == [(bob, "Bobby")]
        assert c.friends.list() == []


def test_who_is_blocked_is_not_heard(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    a, b = connect(alice), connect(bob)
    a.friends.block([bob])
    assert a.friends.blocked() == [bob]
    assert refusal(lambda: b.send(alice, "hello?")) == Code.BLOCKED
    a.friends.unblock([bob])
    b.send(alice, "hello!")
    assert [m.content for m in take(a, 1)] == ["hello!"]


def test_friends_see_each_other_come_and_go(connect: Connect, user: User) -> None:
    alice, bob, carl = user(), user(), user()
    heard = Heard()
    a = connect(alice, on_event=heard.append)
    a.friends.add(bob)
    (now,) = a.presence.watch([bob])
    assert (now.user, now.online) == (bob, False)
    b = connect(bob, device_type=1)
    wait_until(lambda: heard.of(Presence)[-1:] == [Presence(bob, True, (1,))], "bob to be there")
    assert [p.user for p in a.presence.get()] == [bob]
    assert not connect(carl).presence.get([alice])[0].online  # nothing is told to strangers
    a.close()
    b.close()
    a.connect()
    wait_until(lambda: not heard.of(Presence)[-1].online, "bob to be gone, after a reconnect")


def test_typing_is_told_to_the_others(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    heard = Heard()
    a, _ = connect(alice), connect(bob, codec=JSON, on_event=heard.append)
    group = a.groups.create("team", [bob])
    for where in (bob, group):
        a.typing(where)
        a.typing(where, False)
    session = session_of(alice, bob)
    assert sorted(heard.wait(Typing, 4), key=lambda t: (t.session_id, not t.typing)) == sorted(
        [Typing(where, alice, on) for where in (session, group) for on in (True, False)],
        key=lambda t: (t.session_id, not t.typing),
    )


def test_ones_own_devices(connect: Connect, user: User) -> None:
    alice = user()
    heard = Heard()
    desk = connect(alice, device_type=5, device_id="desk")
    connect(alice, device_type=1, device_id="lost-phone", on_event=heard.append)
    phone, mine = sorted(desk.devices.list(), key=lambda d: d.device_type)
    assert (phone.device_type, phone.device_id, phone.online) == (1, "lost-phone", True)
    assert (mine.device_type, mine.device_id, mine.online) == (5, "desk", True)
    desk.devices.kick(phone)
    (ended,) = heard.wait(Ended)
    assert ended.kicked
    wait_until(lambda: [d.online for d in desk.devices.list() if d.device_type == 1] == [False], "it to be offline")
    assert desk.connected
