"""Profiles (54, 55), attributes of others (56, 57) and of sessions (58)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.ids import business_session, single_session
from tests.groups import create, say
from tests.people import add, delete
from tests.raw import Raw, code
from tests.system import System

User = Callable[[], str]
pytestmark = pytest.mark.usefixtures("unharmed")


def infos(raw: Raw, *users: str) -> list[s.UserInfo]:
    answer: s.UserInfoGetResp = raw.ask(t.USERINFO_GET, s.UserInfoGetReq(user_ids=list(users)))
    assert code(answer) == 0, answer
    return answer.user_infos


def update(raw: Raw, **fields: Any) -> int:
    return code(raw.ask(t.USERINFO_UPDATE, s.UserInfoUpdateReq(user_info=s.UserInfo(**fields))))


def put(raw: Raw, other: str, name: str, value: str, user: str = "") -> int:
    attribute = s.UserAttribute(user_id=user, friend_id=other, attr_name=name, attr_value=value)
    return code(raw.ask(t.USERATTRIBUTE_SET, s.UserAttrSetReq(attribute=attribute)))


def got(raw: Raw, other: str, name: str = "") -> dict[str, str]:
    answer: s.UserAttrGetResp = raw.ask(t.USERATTRIBUTE_GET, s.UserAttrGetReq(friend_id=other, attr_name=name))
    assert code(answer) == 0, answer
    return {a.attr_name: a.attr_value for a in answer.attributes}


def put_session(raw: Raw, session: str, name: str, value: str, user: str = "") -> int:
    request = s.SessionAttrSetReq(user_id=user, session_id=session, attr_name=name, attr_value=value)
    return code(raw.ask(t.SESSIONATTRIBUTE_SET, request))


def session_attributes(raw: Raw) -> dict[str, dict[str, str]]:
    answer: s.HotSessionResp = raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0))
    return {item.session_id: json.loads(item.attribute) for item in answer.sessions}


# ---- 54, 55


def test_a_profile_is_replaced_and_everybody_sees_it(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.connect(codec=JSON)
    b.login(bob)
    assert infos(b, alice) == [s.UserInfo(user_id=alice)]
    assert update(a, user_id=alice, name="爱丽丝", avatar="http://x/y?z=1", mobile="+49 123", birthday=-(2**62)) == 0
    (seen,) = infos(b, alice)
    assert (seen.name, seen.avatar, seen.birthday) == ("爱丽丝", "http://x/y?z=1", -(2**62))
    assert update(a, name="A") == 0  # what is not given is empty
    assert infos(b, alice) == [s.UserInfo(user_id=alice, name="A")]


def test_entries_come_in_the_order_asked_and_unknown_users_have_an_id_only(system: System, user: User) -> None:
    alice, bob, nobody = user(), user(), user()
    a, b = system.client(alice), system.client(bob)
    update(a, name="A")
    update(b, name="B")
    found = infos(a, nobody, bob, alice, bob)
    assert [(i.user_id, i.name) for i in found] == [(nobody, ""), (bob, "B"), (alice, "A"), (bob, "B")]
    assert found[0] == s.UserInfo(user_id=nobody)


def test_mobile_numbers_are_for_oneself_and_friends(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    update(a, mobile="123")
    assert [i.mobile for i in infos(a, alice)] == ["123"]
    assert [i.mobile for i in infos(b, alice, bob)] == ["", ""]
    add(b, alice)
    assert [i.mobile for i in infos(b, alice)] == ["123"]
    delete(a, bob)
    assert [i.mobile for i in infos(b, alice)] == [""]


@pytest.mark.parametrize(
    "fields",
    [{"name": "n" * 65}, {"avatar": "a" * 1025}, {"mobile": "1" * 33}, {"name": "nul\0"}, {"avatar": "a\n"}],
    ids=repr,
)
def test_profiles_have_limits(system: System, user: User, fields: dict[str, str]) -> None:
    alice = user()
    a = system.client(alice)
    assert update(a, name="é" * 64, avatar="a" * 1024, mobile="1" * 32) == 0
    assert update(a, **fields) == 2
    assert infos(a, alice)[0].name == "é" * 64


def test_nobody_changes_the_profile_of_another(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    update(a, name="A")
    add(a, bob)
    assert update(b, user_id=alice, name="hacked") == 23
    assert infos(b, alice)[0].name == "A"


def test_what_54_refuses(system: System, user: User) -> None:
    a = system.client(user())
    for wrong in (["a b"], [""], ["x"] * 101, []):
        assert code(a.ask_any(t.USERINFO_GET, {"userIds": wrong})) == 2
    assert len(infos(a, *(f"x{n}" for n in range(100)))) == 100


# ---- 56, 57


def test_attributes_need_no_friendship_and_are_ones_own(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    assert put(a, bob, "colour", "blue") == 0 and put(a, bob, "shape", "round", user=alice) == 0
    assert got(a, bob) == {"colour": "blue", "shape": "round"}
    assert got(a, bob, "colour") == {"colour": "blue"}
    assert got(a, bob, "unset") == {"unset": ""}
    assert got(b, alice) == got(b, bob) == {}
    assert put(a, bob, "colour", "red") == 0 and put(a, bob, "shape", "") == 0
    assert got(a, bob) == {"colour": "red"}
    assert got(a, bob, "shape") == {"shape": ""}
    assert put(a, bob, "colour", "") == 0 == put(a, bob, "colour", "")
    assert got(a, bob) == {}


def test_attributes_go_with_a_friendship_on_both_sides(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = system.client(alice), system.client(bob)
    add(a, bob, remark="Bobby")
    for raw, other in ((a, bob), (a, carol), (b, alice)):
        put(raw, other, "kept", "1")
    assert got(a, bob) == {"REMARK": "Bobby", "kept": "1"}
    delete(b, alice)
    assert got(a, bob) == got(b, alice) == {}
    assert got(a, carol) == {"kept": "1"}


def test_what_56_and_57_refuse(system: System, user: User) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    assert put(a, bob, "n", "v", user=bob) == 23
    assert put(a, "a b", "n", "v") == put(a, bob, "n" * 65, "v") == put(a, bob, "n", "v" * 1025) == 2
    assert put(a, bob, "nul\0", "v") == put(a, bob, "n", "\0") == put(a, bob, "REMARK", "r" * 129) == 2
    assert code(a.ask(t.USERATTRIBUTE_GET, s.UserAttrGetReq(user_id=bob, friend_id=alice))) == 23
    assert code(a.ask(t.USERATTRIBUTE_GET, s.UserAttrGetReq(friend_id="a b"))) == 2
    assert got(a, bob) == {}
    for n in range(64):
        assert put(a, bob, f"n{n}", "v") == 0
    assert put(a, bob, "one more", "v") == 2 and put(a, bob, "n5", "new") == 0
    assert put(a, bob, "n1", "") == 0 and put(a, bob, "one more", "v") == 0
    assert len(got(a, bob)) == 64


# ---- 58


def test_attributes_of_sessions_come_with_them(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    a.text(bob, "x")
    group = create(a, bob)
    say(a, group)
    single = single_session(alice, bob)
    assert session_attributes(a) == {single: {}, group: {}}
    assert put_session(a, single, "TOP", "1") == put_session(a, group, "MUTE", '"1"', user=alice) == 0
    assert put_session(a, f"SC_{max(alice, bob)}_{min(alice, bob)}", "MUTE", "yes") == 0
    assert session_attributes(a) == {single: {"TOP": "1", "MUTE": "yes"}, group: {"MUTE": '"1"'}}
    assert session_attributes(b) == {single: {}, group: {}}
    assert put_session(a, single, "TOP", "") == 0
    assert session_attributes(a)[single] == {"MUTE": "yes"}


def test_what_58_refuses(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, session = system.client(alice), single_session(alice, bob)
    assert put_session(a, session, "TOP", "1", user=bob) == 23
    of_others = (single_session(bob, carol), business_session("app", bob), business_session(alice, bob))
    for wrong in (*of_others, "XX_1", "SC_a"):
        assert put_session(a, wrong, "TOP", "1") == 2
    assert put_session(a, session, "n" * 65, "1") == put_session(a, session, "n", "v" * 1025) == 2
    assert put_session(a, business_session("app", alice), "TOP", "1") == 0
