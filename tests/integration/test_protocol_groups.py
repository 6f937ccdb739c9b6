"""Groups: who may do what, what it changes, and who is told (40 to 47)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.enums import SyncCommand
from tests.groups import (
    create,
    dismiss,
    hand_over,
    heard,
    join,
    leave,
    members,
    mine,
    next_sync,
    pushed,
    say,
    syncs,
    update,
)
from tests.raw import Raw, code, decode
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")

GROUPS, INFO, MEMBERS = SyncCommand.GROUPS, SyncCommand.GROUP_INFO, SyncCommand.GROUP_MEMBERS
NO_GROUP = "GC_nobodyHasMadeThis"


def test_a_group_from_its_creation_to_its_end(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    group = create(a, bob, name="friends")
    assert members(a, group) == sorted([alice, bob])
    assert next_sync(b) == (GROUPS, group)
    ack = say(a, group, "hello")
    assert (code(ack), ack.session_id, ack.prev_seq_id) == (0, group, 0)
    assert heard(b, "hello") == ["hello"]
    assert join(b, group, carol) == 0
    assert next_sync(a) == (MEMBERS, group)
    assert next_sync(c) == (GROUPS, group)
    say(b, group, "welcome")
    assert heard(a, "welcome") == heard(c, "welcome") == ["welcome"]
    assert leave(c, group, carol) == 0
    assert next_sync(a) == next_sync(b) == (MEMBERS, group)
    assert code(say(c, group)) == 30
    assert dismiss(a, group) == 0
    assert next_sync(b) == (GROUPS, group)
    assert code(say(a, group)) == code(say(b, group)) == 35
    assert mine(a).group_ids == mine(b).group_ids == []


# ---- 41


def test_the_creator_owns_it_and_is_in_it(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    before = int(time.time() * 1000)
    group = create(a, bob, bob, alice, name="n", avatar="pic", desc="d", member_limit=7, join_mode=1)
    assert members(a, group) == sorted([alice, bob])
    (info,) = mine(a).group_chats
    assert (info.group_id, info.name, info.avatar, info.desc) == (group, "n", "pic", "d")
    assert (info.creator_id, info.member_limit, info.join_mode) == (alice, 7, 1)
    assert before - 1000 <= info.create_time == info.update_time <= time.time() * 1000 + 1000
    alone = create(a)
    assert members(a, alone) == [alice]
    defaults = next(i for i in mine(a).group_chats if i.group_id == alone)
    assert (defaults.member_limit, defaults.join_mode) == (1000, 0)


def test_a_repeated_request_makes_one_group(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    group = create(a, bob, pack_id="same")
    assert create(a, bob, pack_id="same") == group
    assert create(a, bob, pack_id="other") != group
    assert create(b, alice, pack_id="same") != group
    assert sorted(mine(a).group_ids) == sorted(mine(b).group_ids) and len(mine(a).group_ids) == 3
    assert leave(b, group, bob) == 0
    assert create(a, bob, pack_id="same") == group
    assert members(a, group) == [alice], "a repeat adds nobody again"
    assert dismiss(a, group) == 0
    assert create(a, bob, pack_id="same") == group
    assert group not in mine(a).group_ids, "a repeat brings no group back"
    assert code(say(a, group)) == 35


@pytest.mark.parametrize(
    "info, listed, expected",
    [
        ({"name": ""}, [], 2),
        ({"name": "g"}, ["a b"], 2),
        ({"name": "g"}, [""], 2),
        ({"name": "g"}, ["x" * 65], 2),
        ({"name": "g", "memberLimit": -1}, [], 2),
        ({"name": "g", "memberLimit": 100_001}, [], 2),
        ({"name": "g", "memberLimit": 2}, ["m1", "m2"], 34),
        ({"name": "g", "memberLimit": 3}, ["m1", "m2", "m2"], 0),
        ({"name": "g", "joinMode": 3}, [], 2),
        ({"name": "g", "joinMode": -1}, [], 2),
        ({"name": "n" * 513}, [], 2),
        ({"name": "g", "avatar": "n" * 2049}, [], 2),
        ({"name": "g", "desc": "n" * 4097}, [], 2),
        ({"name": "g", "creatorId": "somebody"}, [], 23),
        ({"name": "g"}, None, 2),
        (None, [], 2),
        ({"name": 5}, [], 42),
    ],
)
def test_what_a_group_cannot_be(
    system: System, user: Callable[[], str], info: dict[str, Any] | None, listed: list[str] | None, expected: int
) -> None:
    raw = system.client(user())
    request = {k: v for k, v in (("groupInfo", info), ("memberIds", listed)) if v is not None}
    answer = raw.ask_any(t.GROUPCHAT_CREATE, request)
    assert code(answer) == expected
    assert len(mine(raw).group_ids) == (expected == 0)


def test_more_than_the_default_limit(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    names = [f"m{n}" for n in range(1000)]
    request = s.GroupChatCreateReq(group_info=s.GroupChatInfo(name="g"), member_ids=names)
    assert code(raw.ask(t.GROUPCHAT_CREATE, request)) == 34  # with the owner it would be 1001
    group = create(raw, *names[:-1])
    assert len(members(raw, group)) == 1000
    assert join(raw, group, names[-1]) == 34
    assert join(raw, group, *names[:5]) == 0  # who is in already does not count


# ---- 42


def test_who_may_add_whom(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol, dave = user(), user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    cases = {
        0: {"owner": 0, "member": 0, "self": 33, "stranger": 33},
        1: {"owner": 0, "member": 33, "self": 33, "stranger": 33},
        2: {"owner": 0, "member": 0, "self": 0, "stranger": 33},
    }
    for mode, expected in cases.items():
        found = {}
        group = create(a, bob, join_mode=mode)
        found["stranger"] = join(c, group, dave)
        assert join(c, group, carol, dave) == 33
        found["member"] = join(b, group, f"{dave}m")
        found["owner"] = join(a, group, f"{dave}o")
        found["self"] = join(c, group, carol)
        assert found == expected, mode
        assert join(b, group, bob) == (33 if mode == 1 else 0)  # in already


def test_a_list_is_added_whole_or_not_at_all(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    group = create(a, bob, member_limit=4)
    assert join(a, group, "m1", "m2", "m3") == 34
    assert members(a, group) == sorted([alice, bob])
    assert join(a, group, "m1", "bad id") == 2
    assert members(a, group) == sorted([alice, bob])
    assert join(a, group, bob, "m1", "m1", "m2", alice) == 0
    assert members(a, group) == sorted([alice, bob, "m1", "m2"])


def test_concurrent_joins_never_exceed_the_limit(system: System, user: Callable[[], str]) -> None:
    alice = user()
    a = system.client(alice)
    group = create(a, member_limit=20, join_mode=2)
    names = [user() for _ in range(40)]
    raws = [system.client(name) for name in names]
    jobs = [gevent.spawn(join, raw, group, name) for raw, name in zip(raws, names, strict=True)]
    gevent.joinall(jobs, raise_error=True)
    codes = [job.value for job in jobs]
    assert sorted(codes) == [0] * 19 + [34] * 21
    winners = [name for name, c in zip(names, codes, strict=True) if c == 0]
    assert members(a, group) == sorted([alice, *winners])
    for raw, c in zip(raws, codes, strict=True):
        assert mine(raw).group_ids == ([group] if c == 0 else [])


def test_joins_and_removals_of_one_user_leave_his_list_true(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    group = create(a)
    for n in range(60):
        kind = (t.GROUPCHAT_JOIN, t.GROUPCHAT_QUIT)[n % 2]
        a.request(kind, s.GroupChatJoinQuitReq(group_id=group, member_ids=[bob]), f"c{n}")
    assert {code(a.answer(f"c{n}")) for n in range(60)} == {0}
    inside = bob in members(a, group)
    assert (group in mine(b).group_ids) == inside
    assert code(say(b, group)) == (0 if inside else 30)


# ---- 43


def test_who_may_remove_whom(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol, dave = user(), user(), user(), user()
    a, b, d = (system.client(name) for name in (alice, bob, dave))
    group = create(a, bob, carol)
    assert leave(b, group, carol) == 36
    assert leave(b, group, bob, carol) == 36
    assert leave(b, group, alice) == 36
    assert leave(d, group, carol) == 36
    assert leave(a, group, alice) == 36  # the owner hands over first
    assert leave(a, group, carol, alice) == 36
    assert members(a, group) == sorted([alice, bob, carol])
    assert leave(a, group, carol, dave) == 0  # who is not in is passed over
    assert leave(b, group, bob) == 0
    assert leave(b, group, bob) == 0  # again
    assert members(a, group) == [alice]
    assert leave(a, group, "bad id") == 2


# ---- 44


def test_only_the_owner_dismisses(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    group = create(a, bob)
    assert dismiss(b, group) == dismiss(c, group) == 36
    assert code(a.ask(t.GROUPCHAT_DISMISS, s.GroupChatDismissReq(group_id=group, operator_id=bob))) == 23
    assert code(a.ask(t.GROUPCHAT_DISMISS, s.GroupChatDismissReq(group_id=group, operator_id=alice))) == 0
    assert dismiss(a, group) == 0  # again: it was he
    assert dismiss(b, group) == 35


def test_nothing_works_on_a_dismissed_group_and_nothing_of_it_is_left_in_lists(
    system: System, user: Callable[[], str]
) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    group = create(a, bob)
    say(a, group, "before")
    assert len(b.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)).sessions) == 1
    dismiss(a, group)
    for raw in (a, b):
        found = all_codes(raw, group)
        again = {"dismiss": 0 if raw is a else 35}  # his own request, perhaps repeated
        assert found == dict.fromkeys(found, 35) | {"history": 28} | again
        assert raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)).sessions == []


def all_codes(raw: Raw, group: str) -> dict[str, int]:
    """The codes of every request about a group."""
    return {
        "say": code(say(raw, group)),
        "join": join(raw, group, "m1"),
        "leave": leave(raw, group, "m1"),
        "dismiss": dismiss(raw, group),
        "hand over": hand_over(raw, group, "m1"),
        "update": update(raw, group, name="x"),
        "members": code(raw.ask(t.GROUPCHAT_MEMBERS_GET, s.GroupChatMemberGetReq(group_id=group))),
        "history": code(raw.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=group, seq_id=0))),
    }


def test_a_group_that_never_was(system: System, user: Callable[[], str]) -> None:
    found = all_codes(system.client(user()), NO_GROUP)
    assert found == dict.fromkeys(found, 35) | {"history": 28}


def test_a_stranger(system: System, user: Callable[[], str]) -> None:
    group = create(system.client(user()))
    assert all_codes(system.client(user()), group) == {
        "say": 30, "join": 33, "leave": 36, "dismiss": 36, "hand over": 36, "update": 36, "members": 30, "history": 28,
    }  # fmt: skip


@pytest.mark.parametrize("group", ["", "GC_", "GC_a-b", "SC_a_b", "x", "GC_" + "x" * 61])
def test_malformed_group_ids(system: System, user: Callable[[], str], group: str) -> None:
    found = all_codes(system.client(user()), group)
    assert found == dict.fromkeys(found, 2) | ({"history": 28} if group == "SC_a_b" else {})


# ---- 45


def test_handing_over(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    group = create(a, bob)
    c_request = s.GroupChatCreatorUpdateReq(group_id=group, new_creator_id=bob, operator_id=bob)
    assert code(a.ask(t.GROUPCHAT_UPDATE_CREATOR, c_request)) == 23
    assert hand_over(b, group, bob) == hand_over(c, group, carol) == 36
    assert hand_over(a, group, carol) == 30  # not a member
    assert hand_over(a, group, "bad id") == 2
    assert hand_over(a, group, alice) == 0  # changes nothing
    assert hand_over(a, group, bob) == 0
    assert hand_over(a, group, bob) == 0  # again: it was he
    assert mine(a).group_chats[0].creator_id == bob
    assert members(a, group) == sorted([alice, bob])  # the old owner stays
    assert update(a, group, name="x") == hand_over(a, group, alice) == dismiss(a, group) == 36
    assert leave(a, group, alice) == 0 and leave(b, group, bob) == 36
    assert dismiss(b, group) == 0


# ---- 46


def test_changing_the_info(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    group = create(a, bob, name="n", avatar="a", desc="d", member_limit=10, join_mode=1)
    assert update(b, group, name="x") == 36
    assert update(a, group, name="new", join_mode=2) == 0
    (info,) = mine(b).group_chats
    assert (info.name, info.avatar, info.desc, info.member_limit, info.join_mode) == ("new", "a", "d", 10, 2)
    assert info.update_time >= info.create_time
    assert update(a, group, avatar="A", desc="D", member_limit=3, creator_id=bob) == 0
    (info,) = mine(b).group_chats
    assert (info.name, info.avatar, info.desc, info.member_limit, info.join_mode) == ("new", "A", "D", 3, 2)
    assert info.creator_id == alice  # that is what handing over is for
    assert update(a, group, member_limit=1) == 34
    assert update(a, group, join_mode=7) == update(a, group, member_limit=-1) == update(a, group, name="x" * 513) == 2
    request = s.GroupChatInfoUpdateReq(group_info=s.GroupChatInfo(group_id=group, name="x"), operator_id=bob)
    assert code(a.ask(t.GROUPCHAT_INFO_UPDATE, request)) == 23
    assert mine(b).group_chats[0].name == "new"


# ---- 40


def test_the_cursor_of_my_groups_skips_nothing(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    first, second = create(a, bob, name="one"), create(a, bob, name="two")
    whole = mine(b)
    assert sorted(whole.group_ids) == sorted(i.group_id for i in whole.group_chats) == sorted([first, second])
    assert mine(b, whole.timestamp).group_ids == whole.group_ids
    late = whole.timestamp + 3_600_000_000
    answer = mine(b, late)
    assert (answer.group_chats, answer.group_ids, answer.timestamp) == ([], whole.group_ids, late)
    update(a, first, name="changed")
    assert "changed" in [i.name for i in mine(b, whole.timestamp).group_chats]
    leave(b, first, bob)
    assert mine(b, whole.timestamp).group_ids == [second]
    assert mine(b, -5).timestamp >= 0


# ---- 47


def test_members_page_by_page(system: System, user: Callable[[], str]) -> None:
    alice = user()
    a = system.client(alice)
    names = [f"{n:04}" + "x" * 60 for n in range(9_000)]
    group = create(a, *names, member_limit=10_000)
    first = a.ask(t.GROUPCHAT_MEMBERS_GET, s.GroupChatMemberGetReq(group_id=group))
    assert first.cursor and len(first.member_ids) < 9_001
    assert members(a, group) == sorted(members(a, group)) and set(members(a, group)) == {alice, *names}
    for bad in ("x", ":", "1:", "1:a b", "-1:a", "1" * 30 + ":a"):
        request = s.GroupChatMemberGetReq(group_id=group, cursor=bad)
        assert code(a.ask(t.GROUPCHAT_MEMBERS_GET, request)) == 2
    # Whom the cursor names leaves: the next page is still there.
    last = first.cursor.partition(":")[2]
    assert leave(a, group, last) == 0
    rest = a.ask(t.GROUPCHAT_MEMBERS_GET, s.GroupChatMemberGetReq(group_id=group, cursor=first.cursor))
    assert {*first.member_ids, *rest.member_ids} >= {alice, *names} - {last} or rest.cursor


# ---- who is told


def test_everybody_concerned_is_told_but_the_acting_connection(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    names = {"alice": alice, "alice's": alice, "bob": bob, "carol": carol}
    raws = {label: system.client(name, device_type=n + 1) for n, (label, name) in enumerate(names.items())}
    a = raws["alice"]
    clerk = system.client(user())
    everybody = create(clerk, alice, bob, carol)

    def told() -> dict[str, list[int]]:
        """What each was told since the last time, up to a message that goes the same way."""
        end = str(say(clerk, everybody).seq_id)
        say(clerk, everybody, end)
        return {
            label: [command for command, content in syncs(pushed(raw, end)) if content == group]
            for label, raw in raws.items()
        }

    group = ""
    told()
    group = create(a, bob)
    assert told() == {"alice": [], "alice's": [GROUPS], "bob": [GROUPS], "carol": []}
    join(a, group, carol)
    assert told() == {"alice": [], "alice's": [MEMBERS], "bob": [MEMBERS], "carol": [GROUPS]}
    join(a, group, carol)
    assert told() == {"alice": [], "alice's": [], "bob": [], "carol": []}
    update(a, group, name="x")
    assert told() == {"alice": [], "alice's": [INFO], "bob": [INFO], "carol": [INFO]}
    leave(raws["bob"], group, bob)
    assert told() == {"alice": [MEMBERS], "alice's": [MEMBERS], "bob": [], "carol": [MEMBERS]}
    leave(a, group, carol)
    assert told() == {"alice": [], "alice's": [MEMBERS], "bob": [], "carol": [GROUPS]}
    join(a, group, bob, carol)
    assert told() == {"alice": [], "alice's": [MEMBERS], "bob": [GROUPS], "carol": [GROUPS]}
    hand_over(a, group, bob)
    assert told() == {"alice": [], "alice's": [INFO], "bob": [INFO], "carol": [INFO]}
    dismiss(raws["bob"], group)
    assert told() == {"alice": [GROUPS], "alice's": [GROUPS], "bob": [], "carol": [GROUPS]}


def test_a_group_in_json(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.connect(codec=JSON), system.client(bob)
    a.login(alice)
    group = create(a, bob, name="höhle")
    assert next_sync(b) == (GROUPS, group)
    assert mine(a).group_chats[0].name == "höhle"
    say(a, group, "ä")
    assert heard(b, "ä") == ["ä"]
    say(b, group, "ö")
    assert [decode(p).content for p in pushed(a, "ö") if p.type == t.MSG_GROUP_CHAT] == ["ö"]
    assert members(a, group) == sorted([alice, bob])


# ---- what other nodes ask


def test_members_as_other_nodes_see_them(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    group = create(system.client(alice), bob)
    assert sorted(system.call("group.members", group)) == sorted([alice, bob])
    assert system.call("group.is_member", group, bob) is True
    assert system.call("group.is_member", group, user()) is False
    assert system.call("group.is_member", NO_GROUP, bob) is False
    assert system.run("call", "group.members", f'"{NO_GROUP}"').returncode != 0
