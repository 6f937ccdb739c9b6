"""Friends, profiles and attributes over the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from client.events import ListChanged
from client.profiles import Profile
from packs.codec import JSON
from packs.table import FRIEND_ADD, FRIEND_SYNC, SESSIONATTRIBUTE_SET, USERATTRIBUTE_SET, USERINFO_GET
from tests.clients import Connect, Heard, connecting
from tests.serving import needs
from tests.system import System
from tests.waiting import wait_until

User = Callable[[], str]


@pytest.fixture
def connect(system: System) -> Iterator[Connect]:
    with connecting(system) as found:
        yield found


@needs(FRIEND_ADD, FRIEND_SYNC)
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


@needs(USERINFO_GET)
def test_profiles(connect: Connect, user: User) -> None:
    alice, bob, nobody = user(), user(), user()
    a, b = connect(alice), connect(bob, codec=JSON)
    a.profiles.update(name="Alice 爱丽丝", avatar="https://example.org/a.png", mobile="123", birthday=1)
    mine, other = a.profiles.get([alice, nobody])
    assert mine == Profile(alice, "Alice 爱丽丝", "https://example.org/a.png", "123", 1)
    assert other == Profile(nobody)
    (seen,) = b.profiles.get([alice])
    assert (seen.name, seen.mobile) == ("Alice 爱丽丝", "")  # numbers are for friends


@needs(USERATTRIBUTE_SET, SESSIONATTRIBUTE_SET)
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
