"""Friends (51 to 53), and single chat where friendship is required."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.enums import SyncCommand
from packs.ids import single_session
from tests.people import add, commands, delete, friends, remarks, synced
from tests.raw import code
from tests.system import System, running, topology_text
from tests.waiting import wait_until

User = Callable[[], str]


@pytest.fixture(scope="module")
def reserved() -> Iterator[System]:
    with running(topology_text(tables={"node.chat": {"require_friend": True}})) as found, found.unharmed():
        yield found


# ---- adding and deleting


@pytest.mark.usefixtures("unharmed")
def test_friendship_is_both_directions_and_both_hear(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, phone, b = system.client(alice), system.client(alice, device_type=1), system.client(bob)
    assert add(a, bob) == 0
    assert (friends(a), friends(b)) == ({bob}, {alice})
    assert [commands(raw) for raw in (phone, b, a)] == [[SyncCommand.FRIENDS], [SyncCommand.FRIENDS], []]
    assert delete(b, alice) == 0
    assert (friends(a), friends(b)) == (set(), set())
    assert [commands(raw) for raw in (a, phone, b)] == [[SyncCommand.FRIENDS], [SyncCommand.FRIENDS], []]


def test_a_list_is_done_whole_and_rows_say_whose_they_are(system: System, user: User) -> None:
    alice, bob, carol, dave = user(), user(), user(), user()
    a = system.client(alice)
    rows = [s.FriendInfo(user_id=alice, friend_id=bob, remark="B"), s.FriendInfo(friend_id=carol, remark="C")]
    assert code(a.ask(t.FRIEND_ADD, s.FriendAddReq(friends=rows))) == 0
    assert remarks(a) == {bob: "B", carol: "C"}
    assert remarks(system.client(bob)) == {alice: ""}
    for wrong, expected in (
        (s.FriendInfo(user_id=bob, friend_id=carol), 23),
        (s.FriendInfo(user_id=alice.upper(), friend_id=carol), 23),
        (s.FriendInfo(friend_id="a b"), 2),
        (s.FriendInfo(friend_id=alice), 2),
        (s.FriendInfo(friend_id=carol, remark="r" * 129), 2),
        (s.FriendInfo(friend_id=carol, remark="nul\0"), 2),
    ):
        for number, request in ((t.FRIEND_ADD, s.FriendAddReq), (t.FRIEND_DEL, s.FriendDelReq)):
            assert code(a.ask(number, request(friends=[s.FriendInfo(friend_id=dave), wrong]))) == expected, wrong
    assert friends(a) == {bob, carol}
    assert friends(system.client(dave)) == set()
    assert friends(system.client(bob)) == {alice}
    too_many = [s.FriendInfo(friend_id=f"{alice}-{n}") for n in range(501)]
    assert code(a.ask(t.FRIEND_ADD, s.FriendAddReq(friends=too_many))) == 2
    assert code(a.ask(t.FRIEND_ADD, s.FriendAddReq(friends=too_many[:500]))) == 0
    assert len(friends(a)) == 502


def test_repeats_are_harmless(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    assert [add(a, bob, bob, pack_id="same") for _ in range(3)] == [0, 0, 0]
    assert add(b, alice) == 0
    assert friends(a) == {bob} and friends(b) == {alice}
    assert [delete(a, bob) for _ in range(3)] == [0, 0, 0]
    assert delete(a, user()) == 0  # never was one
    assert friends(a) == set() == friends(b)
    for _ in range(5):
        assert add(b, alice) == 0 and friends(a) == {bob}
        assert delete(a, bob) == 0 and friends(b) == set()


def test_a_friends_answer_in_json(system: System, user: User) -> None:
    alice, bob = user(), user()
    raw = system.connect(codec=JSON)
    raw.login(alice)
    assert add(raw, bob, remark='"Bob" 鲍勃') == 0
    answer = synced(raw)
    assert [(f.user_id, f.friend_id, f.remark) for f in answer.friends] == [(alice, bob, '"Bob" 鲍勃')]
    assert answer.friend_ids == [bob]


# ---- 53


def test_a_cursor_brings_what_changed_and_all_ids(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a = system.client(alice)
    assert (synced(a).timestamp, synced(a, -5).timestamp, synced(a, 7).timestamp) == (0, 0, 7)
    add(a, bob)
    first = synced(a)
    assert [f.friend_id for f in first.friends] == [bob]
    # The cursor stays below what is younger than 5 s: it comes again until then.
    assert [f.friend_id for f in synced(a, first.timestamp).friends] == [bob]
    cursor = wait_until(lambda: _settled(a, bob), "the cursor to pass what is there")
    assert synced(a, cursor).friends == [] and synced(a, cursor).friend_ids == [bob]
    assert synced(a, cursor).timestamp == cursor
    add(a, carol, remark="new")
    assert [(f.friend_id, f.remark) for f in synced(a, cursor).friends] == [(carol, "new")]
    delete(a, bob)
    answer = synced(a, cursor)
    assert ([f.friend_id for f in answer.friends], answer.friend_ids) == ([carol], [carol])


def _settled(raw: object, friend: str) -> int:
    """The cursor once it is behind this one friend, else 0."""
    answer = synced(raw)  # type: ignore[arg-type]
    again = synced(raw, answer.timestamp)  # type: ignore[arg-type]
    return 0 if again.friends else answer.timestamp


def test_many_friends_come_in_pages_and_none_is_passed_over(system: System, user: User) -> None:
    alice = user()
    a = system.client(alice)
    long = "é" * 128
    for start in range(0, 2000, 500):
        assert add(a, *(f"{alice}.{'x' * 40}.{n}" for n in range(start, start + 500)), remark=long) == 0
    found: list[str] = []
    cursor = 0
    for _ in itertools.count():
        answer = synced(a, cursor)
        assert len(answer.friend_ids) == 2000
        new = [f.friend_id for f in answer.friends if f.friend_id not in found]
        if not new:
            break
        assert all(f.remark == long for f in answer.friends)
        found += new
        cursor = answer.timestamp
    assert sorted(found) == sorted(answer.friend_ids) and len(set(found)) == 2000
    assert commands(system.client(alice, device_type=1), 0.1) == []


def test_a_remark_is_a_change_that_ones_other_devices_hear_of(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, phone = system.client(alice), system.client(alice, device_type=1)
    add(a, bob, remark="one")
    cursor = wait_until(lambda: _settled(a, bob), "the cursor to pass what is there")
    assert commands(phone, 0.1) == [SyncCommand.FRIENDS]
    attribute = s.UserAttribute(friend_id=bob, attr_name="REMARK", attr_value="two")
    assert code(a.ask(t.USERATTRIBUTE_SET, s.UserAttrSetReq(attribute=attribute))) == 0
    assert commands(phone) == [SyncCommand.FRIENDS]
    assert [(f.friend_id, f.remark) for f in synced(phone, cursor).friends] == [(bob, "two")]
    add(a, bob)  # no remark: the one that there is stays
    assert remarks(a) == {bob: "two"}
    add(a, bob, remark="three")
    assert remarks(a) == {bob: "three"}
    delete(system.client(bob), alice)
    add(a, bob)
    assert remarks(a) == {bob: ""}  # went with the friendship


# ---- at once


def test_both_add_each_other_at_once(system: System, user: User) -> None:
    for _ in range(15):
        alice, bob = user(), user()
        a, b = system.client(alice), system.client(bob)
        wants = [raw.request(t.FRIEND_ADD, s.FriendAddReq(friends=[s.FriendInfo(friend_id=other)]))
                 for raw, other in ((a, bob), (b, alice))]  # fmt: skip
        assert [code(raw.answer(want)) for raw, want in zip((a, b), wants, strict=True)] == [0, 0]
        assert (friends(a), friends(b)) == ({bob}, {alice})


def test_adding_and_deleting_at_once_leaves_both_with_the_same(reserved: System, user: User) -> None:
    for _ in range(15):
        alice, bob = user(), user()
        a, b = reserved.client(alice), reserved.client(bob)
        add(a, bob)
        wants = [
            (raw, raw.request(number, request(friends=[s.FriendInfo(friend_id=other)])))
            for raw, other in ((a, bob), (b, alice))
            for number, request in ((t.FRIEND_DEL, s.FriendDelReq), (t.FRIEND_ADD, s.FriendAddReq)) * 3
        ]
        assert {code(raw.answer(want)) for raw, want in wants} == {0}
        theirs = (friends(a), friends(b))
        assert theirs in ((set(), set()), ({bob}, {alice}))
        expected = 0 if theirs[0] else 50
        assert (code(a.text(bob, "x")), code(b.text(alice, "x"))) == (expected, expected)


# ---- where friendship is required


def test_strangers_cannot_write(reserved: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = reserved.client(alice), reserved.client(bob)
    assert [code(a.text(bob, "x", pack_id)) for pack_id in ("one", "two", "one")] == [50] * 3
    assert b.silent(0.2)
    assert a.history(single_session(alice, bob)) == []


def test_friends_can_until_they_are_no_more(reserved: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = reserved.client(alice), reserved.client(bob)
    assert add(a, bob) == 0
    assert code(a.text(bob, "one")) == code(b.text(alice, "two")) == 0
    assert code(a.text(carol, "x")) == 50
    assert delete(b, alice) == 0
    assert code(a.text(bob, "x")) == code(b.text(alice, "x")) == 50
    assert add(b, alice) == 0
    assert code(a.text(bob, "three")) == 0
    assert [m.content for m in a.history(single_session(alice, bob))] == ["three", "two", "one"]


def test_everybody_is_a_friend_of_himself(reserved: System, user: User) -> None:
    alice = user()
    a, phone = reserved.client(alice), reserved.client(alice, device_type=1)
    assert code(a.text(alice, "note")) == 0
    assert phone.push(t.MSG_SINGLE_CHAT).content == "note"


# ---- limits and accounts


def test_limits_and_accounts() -> None:
    tables = {"auth": {"mode": "password"}, "node.user": {"max_friends": 3}}
    with running(topology_text(tables=tables)) as system:
        names = ["ann", "ben", "cid", "dan", "eve"]
        for name in names:
            assert system.call("user.add_account", name, "secret", False)
        ann, ben = (system.client(name, password="secret") for name in ("ann", "ben"))
        assert add(ann, "ben", "nobody") == 2 and friends(ann) == set()
        assert add(ann, "ben", "cid", "dan", "eve") == 2 and friends(ann) == set()
        assert add(ann, "ben", "cid", "dan") == 0
        assert add(ann, "eve") == 2 and friends(ann) == {"ben", "cid", "dan"}
        assert add(ann, "ben", "cid") == 0  # friends already
        assert add(system.client("eve", password="secret"), "ann") == 2  # ann may have no more
        assert delete(ann, "dan") == 0 and add(ann, "eve") == 0
        assert friends(ben) == {"ann"}
