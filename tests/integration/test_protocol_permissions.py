"""Who may do what: every pack type, asked by everybody, in a small world (`tests/world.py`) where all can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.enums import ControlCommand
from packs.flags import ACK, COUNTER, HIGH_PRIORITY
from packs.pack import Pack
from packs.structs import Payload
from tests.controls import request as control_of
from tests.people import add, block
from tests.raw import code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until
from tests.world import MONITORS, ROLES, World

# 0: done, or shown. (0): answered with 0, and there was nothing to do or to show. Other numbers: refused.
MATRIX = """
                            stranger  member  owner  friend  blocked  monitor  nobody
10 ping                     0         0       0      0       0        0        23
11 log in again             0         0       0      0       0        0        0
12 log out                  0         0       0      0       0        0        23
13 a device of the peer     2         2       2      2       2        2        23
13 a device of one's own    0         0       0      0       0        0        23
14 to the peer              50        50      50     0       51       50       23
15 to the group             30        0       0      30      30       30       23
16 to the peer              1         1       1      1       1        1        23
17 in the group             33        33      0      33      33       33       23
17 between others           33        33      33     33      33       33       23
18 in the group             30        0       0      30      30       30       23
18 between others           28        28      28     28      28       28       23
19 shows the group          (0)       0       0      (0)     (0)      (0)      23
20 shows the group          (0)       0       0      (0)     (0)      (0)      23
21 of the group             28        0       0      28      28       28       23
21 between others           28        28      28     28      28       28       23
22 between others           23        23      23     23      23       0        23
23 between others           23        23      23     23      23       0        23
24 between others           23        23      23     23      23       0        23
25 to the server            1         1       1      1       1        1        23
40 shows the group          (0)       0       0      (0)     (0)      (0)      23
41 with the peer            0         0       0      0       0        0        23
42 somebody                 33        0       0      33      33       33       23
43 another member           36        36      0      36      36       36       23
44 the group                36        36      0      36      36       36       23
45 to another member        36        36      0      36      36       36       23
46 the group's name         36        36      0      36      36       36       23
47 of the group             30        0       0      30      30       30       23
51 the peer                 0         0       0      (0)     51       0        23
52 the peer                 (0)       (0)     (0)    0       0        (0)      23
53 shows the peer           (0)       (0)     (0)    0       0        (0)      23
54 the peer's number        (0)       (0)     (0)    0       0        (0)      23
55 one's own                0         0       0      0       0        0        23
55 the peer's               23        23      23     23      23       23       23
56 about the peer           0         0       0      0       0        0        23
56 kept by the peer         23        23      23     23      23       23       23
57 about the peer           0         0       0      0       0        0        23
57 kept by the peer         23        23      23     23      23       23       23
58 of the group             (0)       0       0      (0)     (0)      (0)      23
58 between others           2         2       2      2       2        2        23
60 the peer                 0         0       0      0       0        0        23
61 the peer                 0         0       0      0       0        0        23
62 shows the peer           0         0       0      0       0        0        23
63 shows who asked          0         0       0      0       0        0        23
64 the peer, who asked      0         0       0      (0)     51       0        23
65 of the peer              (0)       (0)     (0)    0       (0)      (0)      23
66 of the peer              (0)       (0)     (0)    0       (0)      (0)      23
67 of the peer              0         0       0      0       0        0        23
68 to the server            1         1       1      1       1        1        23
69 to the peer              50        50      50     0       51       50       23
69 in the group             30        0       0      30      30       30       23
70 one's own                0         0       0      0       0        0        23
71 this device              0         0       0      0       0        0        23
72 this device              0         0       0      0       0        0        23
73 one's own                0         0       0      0       0        0        23
75 shows the group          (0)       0       0      (0)     (0)      (0)      23
75 of the group             28        0       0      28      28       28       23
75 between others           28        28      28     28      28       28       23
"""


class Request(NamedTuple):
    """A row's request, and what is so once it was done. `prepare` comes before, `then` after an asker's success."""

    payload: Callable[[World], Payload] = lambda _: s.Empty()
    changes: str = ""
    """What viewers see otherwise than before (`World.seen`)."""
    pushes: str = ""
    """What is pushed (`World.pushed`)."""
    hints: str = ""
    """What is pushed when there was nothing to do: a repeat completes what a crash has cut off, so hints to look again
    are given again."""
    shown: Callable[[World, Any], bool] | None = None
    """Whether the answer shows what the row is about."""
    prepare: Callable[[World], object] | None = None
    then: Callable[[World], None] | None = None
    flags: int = 0


def members(*subjects: str) -> str:
    """What all three, being in the group, see otherwise."""
    return " ".join(f"{viewer}.{subject}" for viewer in ("phone", "peer", "third") for subject in subjects)


def all_get(number: int) -> str:
    return f"phone:{number} peer:{number} third:{number}"


def to_this_device(w: World) -> x.PushRegisterReq:
    return x.PushRegisterReq(service_type="log", token="t")


def register(w: World) -> None:
    if w.logged_in:
        assert w.a.ask(t.PUSH_REGISTER, to_this_device(w)).code == 0


def of_between(w: World) -> s.SessionMonitor:
    return s.SessionMonitor(session_id=w.between)


def listen(w: World) -> None:
    if w.role == "monitor":
        assert code(w.a.ask(t.SESSION_MONITOR_START, of_between(w))) == 0


def block_peer(w: World) -> None:
    if w.logged_in:
        assert block(w.a, w.peer) == 0


def note_peer(w: World) -> None:
    if w.logged_in:
        assert code(w.a.ask(t.USERATTRIBUTE_SET, note(w))) == 0


def note(w: World, user: str = "") -> s.UserAttrSetReq:
    attribute = s.UserAttribute(user_id=user, friend_id=w.peer, attr_name="colour", attr_value="red")
    return s.UserAttrSetReq(attribute=attribute)


def attribute_of(session: str) -> s.SessionAttrSetReq:
    return s.SessionAttrSetReq(session_id=session, attr_name="TOP", attr_value="1")


def add_tablet(w: World) -> None:
    if w.logged_in:
        w.tablet = w.connect(w.asker, device_type=2)


def tablet_is_out(w: World) -> None:
    assert w.tablet is not None
    (kick,) = [pack for pack in w.tablet.rest() if pack.type == t.KICKOUT]
    assert code(decode(kick)) == 22


def leaves(w: World) -> None:
    """The peer goes, and the asker hears of it."""
    w.p.close()
    assert [p.online for p in w.a.push(t.PRESENCE_PUSH).presences] == [0]


def online(w: World, answer: x.PresenceResp) -> bool:
    (presence,) = answer.presences
    assert presence.user_id == w.peer and (presence.online or presence == x.Presence(user_id=w.peer))
    return presence.online == 1


def watch_peer(w: World) -> None:
    if w.logged_in:
        assert code(w.a.ask(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=[w.peer]))) == 0


def group_info(w: World, **fields: Any) -> s.GroupChatInfoUpdateReq:
    return s.GroupChatInfoUpdateReq(group_info=s.GroupChatInfo(group_id=w.group, **fields))


def to_peer(w: World) -> s.MsgReq:
    return s.MsgReq(to=w.peer, content="hello")


def history(session: str) -> s.HistoryMsgPullReq:
    return s.HistoryMsgPullReq(session_id=session, seq_id=0)


def friend_row(w: World) -> list[s.FriendInfo]:
    return [s.FriendInfo(friend_id=w.peer)]


def search(w: World, session: str = "") -> x.SearchReq:
    return x.SearchReq(text="to the", session_id=session)


def wait_indexed(w: World) -> None:
    wait_until(lambda: len(w.t.ask(t.SEARCH, search(w)).msgs) == 2, "what was said can be found")


def finds_the_group(w: World, answer: Any) -> bool:
    return [decode(pack).content for pack in answer.msgs] == ["to the group"]


REQUESTS = {
    "10 ping": Request(),
    "11 log in again": Request(lambda w: s.LoginReq(client_id=w.asker, device_type=5, device_id="dev")),
    "12 log out": Request(changes="phone.devices"),
    "13 a device of the peer": Request(
        lambda w: x.KickOut(device_type=3, device_id="mac"),
        prepare=lambda w: w.connect(w.peer, device_type=3, device_id="mac"),
    ),
    "13 a device of one's own": Request(
        lambda w: x.KickOut(device_type=2, device_id="dev"),
        changes="phone.devices",
        prepare=add_tablet,
        then=tablet_is_out,
    ),
    "14 to the peer": Request(
        to_peer,
        changes="phone.chat phone.sessions peer.chat peer.sessions",
        pushes="phone:14 peer:14",
        flags=COUNTER,
    ),
    "15 to the group": Request(
        lambda w: s.MsgReq(to=w.group, content="hello"),
        changes=members("group", "sessions", "priority"),
        pushes=all_get(15),
        flags=COUNTER | HIGH_PRIORITY,
    ),
    "16 to the peer": Request(to_peer),
    "17 in the group": Request(
        lambda w: control_of(w.said, ControlCommand.REVOKE),
        changes=members("group", "sessions", "priority"),
        pushes=all_get(17),
    ),
    "17 between others": Request(lambda w: control_of(w.told, ControlCommand.REVOKE)),
    "18 in the group": Request(
        lambda w: s.MsgReaded(session_id=w.group, seq_id=w.said.seq), changes="phone.sessions", pushes="phone:18"
    ),
    "18 between others": Request(lambda w: s.MsgReaded(session_id=w.between, seq_id=w.told.seq)),
    "19 shows the group": Request(
        lambda w: s.HotSessionReq(timestamp=0),
        shown=lambda w, answer: w.group in [item.session_id for item in answer.sessions],
    ),
    "20 shows the group": Request(
        lambda w: s.MsgHighPrioritySyncReq(seq_id=0),
        shown=lambda w, answer: [decode(pack).session_id for pack in answer.msgs] == [w.group],
    ),
    "21 of the group": Request(
        lambda w: history(w.group),
        shown=lambda w, answer: [decode(pack).content for pack in answer.msgs] == ["to the group"],
    ),
    "21 between others": Request(lambda w: history(w.between)),
    "22 between others": Request(of_between, pushes="asker:14 asker:14"),  # the last things that are said there
    "23 between others": Request(of_between, prepare=listen),
    "24 between others": Request(
        prepare=listen,
        shown=lambda w, answer: [item.session_id for item in answer.sessions] == [w.between],
        pushes="asker:14 asker:14",
    ),
    "25 to the server": Request(lambda w: s.SyncDataReq(command=1)),
    "40 shows the group": Request(
        lambda w: s.GroupChatSyncReq(timestamp=0), shown=lambda w, answer: w.group in answer.group_ids
    ),
    "41 with the peer": Request(
        lambda w: s.GroupChatCreateReq(group_info=s.GroupChatInfo(name="new"), member_ids=[w.peer]),
        changes="phone.groups peer.groups",
        pushes="phone:25 peer:25",
    ),
    "42 somebody": Request(
        lambda w: s.GroupChatJoinQuitReq(group_id=w.group, member_ids=[w.somebody]),
        changes=members("groups", "members"),
        pushes=all_get(25),
    ),
    "43 another member": Request(
        lambda w: s.GroupChatJoinQuitReq(group_id=w.group, member_ids=[w.third]),
        changes=members("groups", "members") + " third.group third.sessions third.priority",
        pushes=all_get(25),
    ),
    "44 the group": Request(
        lambda w: s.GroupChatDismissReq(group_id=w.group),
        changes=members("groups", "members", "group", "sessions", "priority"),
        pushes=all_get(25),
    ),
    "45 to another member": Request(
        lambda w: s.GroupChatCreatorUpdateReq(group_id=w.group, new_creator_id=w.third),
        changes=members("groups"),
        pushes=all_get(25),
    ),
    "46 the group's name": Request(
        lambda w: group_info(w, name="renamed"), changes=members("groups"), pushes=all_get(25)
    ),
    "47 of the group": Request(
        lambda w: s.GroupChatMemberGetReq(group_id=w.group), shown=lambda w, answer: w.third in answer.member_ids
    ),
    "51 the peer": Request(
        lambda w: s.FriendAddReq(friends=friend_row(w)),
        changes="peer.requests",
        pushes="peer:25",
        hints="phone:25 peer:25",
    ),
    "52 the peer": Request(
        lambda w: s.FriendDelReq(friends=friend_row(w)),
        changes="phone.friends phone.profiles peer.friends",
        pushes="phone:25 peer:25",
        hints="phone:25",
    ),
    "53 shows the peer": Request(
        lambda w: s.FriendSyncReq(timestamp=0), shown=lambda w, answer: w.peer in answer.friend_ids
    ),
    "54 the peer's number": Request(
        lambda w: s.UserInfoGetReq(user_ids=[w.peer]), shown=lambda w, answer: answer.user_infos[0].mobile == "123"
    ),
    "55 one's own": Request(
        lambda w: s.UserInfoUpdateReq(user_info=s.UserInfo(name="New")), changes=members("profiles")
    ),
    "55 the peer's": Request(lambda w: s.UserInfoUpdateReq(user_info=s.UserInfo(user_id=w.peer, name="New"))),
    "56 about the peer": Request(note, changes="phone.attributes"),
    "56 kept by the peer": Request(lambda w: note(w, w.peer)),
    "57 about the peer": Request(
        lambda w: s.UserAttrGetReq(friend_id=w.peer, attr_name="colour"),
        prepare=note_peer,
        shown=lambda w, answer: [a.attr_value for a in answer.attributes] == ["red"],
    ),
    "57 kept by the peer": Request(lambda w: s.UserAttrGetReq(user_id=w.peer, friend_id=w.third)),
    "58 of the group": Request(lambda w: attribute_of(w.group), changes="phone.sessions"),
    "58 between others": Request(lambda w: attribute_of(w.between)),
    "60 the peer": Request(lambda w: x.BlockReq(user_ids=[w.peer]), changes="phone.blocked", pushes="phone:25"),
    "61 the peer": Request(
        lambda w: x.BlockReq(user_ids=[w.peer]), changes="phone.blocked", pushes="phone:25", prepare=block_peer
    ),
    "62 shows the peer": Request(prepare=block_peer, shown=lambda w, answer: answer.user_ids == [w.peer]),
    "63 shows who asked": Request(
        prepare=lambda w: add(w.t, w.asker),
        shown=lambda w, answer: [r.user_id for r in answer.requests] == [w.third],
    ),
    "64 the peer, who asked": Request(
        lambda w: x.FriendRequestAnswerReq(friend_id=w.peer, accept=1),
        changes="phone.friends phone.requests phone.profiles peer.friends",
        pushes="phone:25 phone:25 peer:25",
        hints="phone:25 phone:25 peer:25",
        prepare=lambda w: add(w.p, w.asker),
    ),
    "65 of the peer": Request(lambda w: x.PresenceGetReq(user_ids=[w.peer]), shown=online),
    "66 of the peer": Request(lambda w: x.PresenceSubscribeReq(user_ids=[w.peer]), shown=online, then=leaves),
    "67 of the peer": Request(lambda w: x.PresenceUnsubscribeReq(user_ids=[w.peer]), prepare=watch_peer),
    "68 to the server": Request(lambda w: x.PresencePush(presences=[x.Presence(user_id=w.asker)])),
    "69 to the peer": Request(lambda w: x.Typing(session_id=w.chat), pushes="peer:69"),
    "69 in the group": Request(lambda w: x.Typing(session_id=w.group), pushes=all_get(69)),
    "70 one's own": Request(shown=lambda w, answer: [d.device_type for d in answer.devices] == [1, 5]),
    "71 this device": Request(to_this_device, changes="phone.registrations"),
    "72 this device": Request(
        lambda w: x.PushUnregisterReq(service_type="log"), changes="phone.registrations", prepare=register
    ),
    "73 one's own": Request(
        prepare=register, shown=lambda w, answer: [r.device_type for r in answer.registrations] == [5]
    ),
    "75 shows the group": Request(search, prepare=wait_indexed, shown=finds_the_group),
    "75 of the group": Request(lambda w: search(w, w.group), prepare=wait_indexed, shown=finds_the_group),
    "75 between others": Request(lambda w: search(w, w.between)),
}


def rows() -> dict[str, dict[str, str]]:
    """The matrix: row -> role -> cell."""
    head, *lines = MATRIX.strip().splitlines()
    assert head.split() == list(ROLES)
    found = {}
    for line in lines:
        words = line.split()
        found[" ".join(words[: -len(ROLES)])] = dict(zip(ROLES, words[-len(ROLES) :], strict=True))
    return found


class Worlds:
    """A world for each role, used again as long as nothing in it was changed."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._made: dict[str, World] = {}

    def get(self, role: str) -> World:
        if role not in self._made:
            self._made[role] = World(self._system, role)
            self._made[role].pushed()
        return self._made[role]

    def drop(self, role: str) -> None:
        self._made.pop(role).close()

    def close(self) -> None:
        for role in list(self._made):
            self.drop(role)


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    tables: dict[str, dict[str, Any]] = {
        "auth": {"monitors": MONITORS},
        "node.chat": {"require_friend": True},
        "node.user": {"friend_mode": "request", "typing_per_minute": 10_000},
    }
    with running(topology_text(tables=tables)) as system, system.unharmed():
        found = Worlds(system)
        yield found
        found.close()


def test_every_type_has_a_row_and_every_row_a_request() -> None:
    assert rows().keys() == REQUESTS.keys()
    assert {int(row.split()[0]) for row in rows()} == t.TABLE.keys()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("row", rows())
def test_cell(worlds: Worlds, row: str, role: str) -> None:
    number, request, cell = int(row.split()[0]), REQUESTS[row], rows()[row][role]
    w = worlds.get(role)
    used = True
    try:
        if request.prepare is not None:
            request.prepare(w)
            w.pushed()
        before = w.seen()
        answer = ask(w, number, request)
        assert code(answer) == int(cell.strip("()")), answer
        done = cell == "0"
        if request.shown is not None and not code(answer):
            assert request.shown(w, answer) is done
        closed = (role == "nobody" and number != t.LOGIN) or number == t.LOGOUT
        if closed:
            assert w.a.rest() == []
        changes, pushes = effects(request, cell)
        if changes:
            wait_until(lambda: differences(before, w.seen()) == changes, "the effect is seen", 2.0)
        assert differences(before, w.seen()) == changes
        assert w.pushed() == pushes
        if done and request.then is not None:
            request.then(w)
        used = bool(request.prepare or changes or pushes or (done and request.then) or number == t.LOGIN or closed)
    finally:
        if used:
            worlds.drop(role)


def effects(request: Request, cell: str) -> tuple[list[str], list[str]]:
    """What is to be seen otherwise, and what is to be pushed."""
    if cell == "0":
        return sorted(request.changes.split()), sorted(request.pushes.split())
    return [], sorted(request.hints.split()) if cell == "(0)" else []


def ask(w: World, number: int, request: Request) -> Any:
    """The one answer. That no other comes is seen by `World.pushed`."""
    pack_id = w.a.request(number, request.payload(w), flags=request.flags)
    packs: list[Pack] = []
    while not packs or not packs[-1].flags & ACK:
        packs.append(w.a.pack())
    answer = packs.pop()
    assert not packs, "no push comes before the answer to what caused it"
    assert (answer.type, answer.pack_id, answer.flags) == (number, pack_id, request.flags | ACK)
    return decode(answer)


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
