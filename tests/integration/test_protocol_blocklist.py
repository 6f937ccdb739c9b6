"""Blocked users (60 to 62) and requests to be friends (63, 64)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from packs import structs as s
from packs import table as t
from packs.enums import SyncCommand
from packs.ids import single_session
from tests.people import accept, add, block, blocklist, commands, delete, friends, remarks, requests, unblock
from tests.raw import code
from tests.system import System, running, topology_text

User = Callable[[], str]
FRIENDS, REQUESTS, BLOCKLIST = SyncCommand.FRIENDS, SyncCommand.FRIEND_REQUESTS, SyncCommand.BLOCKLIST


@pytest.fixture(scope="module")
def asking() -> Iterator[System]:
    tables = {"node.user": {"friend_mode": "request", "max_friends": 3, "max_blocked": 2}}
    with running(topology_text("split", tables=tables)) as found, found.unharmed():
        yield found


# ---- 60 to 62


@pytest.mark.usefixtures("unharmed")
def test_who_is_blocked_cannot_write(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, phone, b = system.client(alice), system.client(alice, device_type=1), system.client(bob)
    add(a, bob)
    assert commands(b, 0.1) == [FRIENDS] and commands(phone, 0.1) == [FRIENDS]
    assert block(a, bob) == 0 == block(a, bob)
    assert (blocklist(a), blocklist(b)) == ([bob], [])
    assert commands(phone) == [BLOCKLIST, BLOCKLIST]
    assert b.silent(0.1)  # he is not told
    assert code(b.text(alice, "x")) == 51
    assert code(a.text(bob, "y")) == 0 and b.push(t.MSG_SINGLE_CHAT).content == "y"
    assert phone.push(t.MSG_SINGLE_CHAT).content == "y"
    assert a.silent(0.1) and phone.silent(0.1)
    assert friends(a) == {bob}  # they stay friends
    assert unblock(a, bob) == 0 == unblock(a, bob)
    assert code(b.text(alice, "z")) == 0
    assert [m.content for m in a.history(single_session(alice, bob))] == ["z", "y"]
    assert blocklist(a) == []


def test_blocking_needs_no_friendship_and_bars_from_it(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = system.client(alice), system.client(bob)
    assert block(a, bob, carol) == 0
    assert blocklist(a) == sorted([bob, carol])
    assert add(b, carol, alice) == 51
    assert friends(a) == friends(b) == set()
    assert add(a, bob) == 0  # whom I have blocked may be my friend; he cannot write until I let him
    assert code(b.text(alice, "x")) == 51
    assert unblock(a, bob) == 0 and code(b.text(alice, "x")) == 0
    assert blocklist(a) == [carol]


def test_both_block_each_other(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    assert block(a, bob) == block(b, alice) == 0
    assert code(a.text(bob, "x")) == code(b.text(alice, "x")) == 51
    assert unblock(a, bob) == 0
    assert (code(a.text(bob, "x")), code(b.text(alice, "x"))) == (51, 0)


def test_what_blocking_refuses(asking: System, user: User) -> None:
    alice = user()
    a = asking.client(alice)
    assert block(a, alice) == block(a, "a b") == 2
    assert block(a, user(), user(), user()) == 2 and blocklist(a) == []  # two at most
    one, two = user(), user()
    assert block(a, one, two) == 0 and block(a, user()) == 2 and block(a, two, one) == 0
    assert blocklist(a) == sorted([one, two])


# ---- 63, 64


def test_where_consent_is_needed_adding_asks(asking: System, user: User) -> None:
    alice, bob = user(), user()
    a, b, phone = asking.client(alice), asking.client(bob), asking.client(bob, device_type=1)
    assert add(a, bob, remark="Bobby") == 0
    assert friends(a) == friends(b) == set()
    assert (requests(a), requests(b)) == ([], [alice])
    assert commands(b) == commands(phone) == [REQUESTS]
    assert add(a, bob) == 0 and requests(b) == [alice]
    assert commands(b) == commands(phone) == [REQUESTS]
    assert accept(b, alice, remark="Ali") == 0
    assert (friends(a), friends(b), requests(b)) == ({bob}, {alice}, [])
    assert (remarks(a), remarks(b)) == ({bob: "Bobby"}, {alice: "Ali"})
    assert commands(a) == [FRIENDS] and commands(phone) == [FRIENDS, REQUESTS]
    assert accept(b, alice) == 0  # done already
    assert add(a, bob) == 0 and requests(b) == []


def test_a_request_is_declined_or_withdrawn(asking: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = asking.client(alice), asking.client(bob)
    assert add(a, bob, carol) == 0
    assert accept(b, alice, False) == 0
    assert requests(b) == [] and friends(a) == set()
    assert commands(a) == []  # nobody tells him
    assert accept(b, alice) == 2 and accept(b, carol) == 2  # no such request
    assert accept(b, alice, False) == 0
    assert add(a, bob) == 0 and requests(b) == [alice]
    assert commands(b) == [REQUESTS, REQUESTS]
    assert delete(a, bob) == 0 and requests(b) == []
    assert commands(b) == [REQUESTS]


def test_two_who_ask_each_other_are_friends(asking: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = asking.client(alice), asking.client(bob)
    assert add(a, bob) == add(b, alice) == 0
    assert (friends(a), friends(b), requests(a), requests(b)) == ({bob}, {alice}, [], [])


def test_two_who_ask_each_other_at_once_are_friends(asking: System, user: User) -> None:
    for _ in range(15):
        alice, bob = user(), user()
        a, b = asking.client(alice), asking.client(bob)
        asked = [
            (raw, raw.request(t.FRIEND_ADD, s.FriendAddReq(friends=[s.FriendInfo(friend_id=other)])))
            for raw, other in ((a, bob), (b, alice))
        ]
        assert [code(raw.answer(request)) for raw, request in asked] == [0, 0]
        assert (friends(a), friends(b), requests(a), requests(b)) == ({bob}, {alice}, [], [])


def test_who_is_blocked_cannot_ask(asking: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = asking.client(alice), asking.client(bob)
    assert add(a, bob) == 0 and requests(b) == [alice]
    assert block(b, alice) == 0
    assert requests(b) == []  # blocking declines
    assert add(a, bob) == 51 and requests(b) == []
    assert unblock(b, alice) == 0 and add(a, bob) == 0 and requests(b) == [alice]


def test_nobody_has_more_friends_than_the_limit(asking: System, user: User) -> None:
    alice, others = user(), [user() for _ in range(4)]
    a = asking.client(alice)
    raws = [asking.client(other) for other in others]
    for raw in raws:
        assert add(raw, alice) == 0
    assert [accept(a, other) for other in others] == [0, 0, 0, 2]
    assert friends(a) == set(others[:3]) and requests(a) == [others[3]]
    assert add(raws[3], alice) == 2
    assert delete(a, others[0]) == 0 and accept(a, others[3]) == 0


def test_the_backend_needs_no_consent(asking: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = asking.client(alice), asking.client(bob)
    asking.call("user.add_friends", alice, [[bob, "B"]])
    assert (remarks(a), remarks(b)) == ({bob: "B"}, {alice: ""})
    assert commands(a) == commands(b) == [FRIENDS]
    assert asking.call("user.friends", alice) == [[bob, "B"]]
    asking.call("user.delete_friends", bob, [alice])
    assert friends(a) == set()
    wrong = asking.run("call", "user.add_friends", f'"{alice}"', f'[["{alice}", ""]]')
    assert wrong.returncode != 0 and "oneself" in wrong.stderr
    asking.call("user.set_profile", alice, ["A", "", "1", 5])
    assert asking.call("user.profiles", [alice, bob]) == [["A", "", "1", 5], ["", "", "", 0]]
