"""Presence (65 to 68) and typing notices (69)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from packs import structs_social as x
from packs import table as t
from packs.codec import JSON
from packs.ids import single_session
from tests.groups import create, leave
from tests.people import add, block, delete, ids, presences, unblock
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until

User = Callable[[], str]
SOON = 2.0
"""Seconds within which a change must be told (it takes about half of one)."""


def watch(raw: Raw, *users: str) -> list[x.Presence]:
    """66; how it is now."""
    answer: x.PresenceResp = raw.ask(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=list(users)))
    assert code(answer) == 0, answer
    return answer.presences


def unwatch(raw: Raw, *users: str) -> int:
    return code(raw.ask(t.PRESENCE_UNSUBSCRIBE, x.PresenceUnsubscribeReq(user_ids=list(users))))


def told(raw: Raw) -> x.Presence:
    """The next change, of one user, which must come soon."""
    started = time.monotonic()
    (presence,) = raw.push(t.PRESENCE_PUSH).presences
    assert time.monotonic() - started < SOON
    found: x.Presence = presence
    return found


def on(user: str, *types: int) -> x.Presence:
    return x.Presence(user_id=user, online=1, device_types=list(types))


def off(presence: x.Presence, user: str) -> bool:
    """Whether it says that a user was here until now."""
    gone = time.time() * 1000 - presence.last_seen
    return presence == x.Presence(user_id=user, last_seen=presence.last_seen) and -2000 < gone < 10_000


# ---- 65


@pytest.mark.usefixtures("unharmed")
def test_who_of_my_friends_is_online(system: System, user: User) -> None:
    alice, bob, carol, never = user(), user(), user(), user()
    a, b = system.client(alice), system.client(bob, device_type=6)
    phone, c = system.client(bob, device_type=1), system.client(carol)
    add(a, bob, carol, never)
    assert sorted(ids(presences(a))) == sorted([bob, carol])
    assert presences(a, carol, never, bob) == [on(carol, 5), x.Presence(user_id=never), on(bob, 1, 6)]
    c.close()
    wait_until(lambda: ids(presences(a)) == [bob], "carol to be gone")
    assert off(presences(a, carol)[0], carol)
    phone.ask(t.LOGOUT)
    wait_until(lambda: presences(a) == [on(bob, 6)], "the phone to be gone")
    assert presences(b, bob) == [on(bob, 6)]  # of oneself one knows


def test_nothing_is_told_to_strangers_and_blocked_users(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    nothing = [x.Presence(user_id=alice)]
    assert presences(b, alice) == nothing and presences(b) == []
    add(a, bob)
    assert presences(b, alice) == [on(alice, 5)]
    block(a, bob)
    assert presences(b, alice) == nothing and presences(b) == []
    assert presences(a, bob) == [on(bob, 5)]
    unblock(a, bob)
    assert presences(b) == [on(alice, 5)]
    delete(b, alice)
    assert presences(b, alice) == nothing
    a.close()
    wait_until(lambda: presences(b, alice) == nothing, "nothing to be told")


def test_what_65_to_67_refuse(system: System, user: User) -> None:
    alice = user()
    a = system.client(alice)
    assert code(a.ask(t.PRESENCE_GET, x.PresenceGetReq(user_ids=["a b"]))) == 2
    assert code(a.ask(t.PRESENCE_GET, x.PresenceGetReq(user_ids=[f"u-{n}" for n in range(201)]))) == 2
    assert code(a.ask(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=["a b"]))) == 2
    assert code(a.ask_any(t.PRESENCE_SUBSCRIBE, {"userIds": 5})) == 42
    many = [f"{alice}-{n}" for n in range(501)]
    assert code(a.ask(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=many))) == 2
    assert ids(watch(a, *many[:500])) == many[:500]
    assert ids(watch(a, *many[400:500])) == many[400:500]
    assert code(a.ask(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=[many[500]]))) == 2
    assert unwatch(a, many[0]) == 0 and ids(watch(a, many[500])) == [many[500]]
    assert unwatch(a) == unwatch(a) == unwatch(a, user(), "a b") == 0


# ---- 66 to 68


@pytest.mark.usefixtures("unharmed")
def test_changes_are_pushed(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, as_json = system.client(alice), system.connect(codec=JSON)
    as_json.login(alice, device_type=1)
    add(a, bob)
    as_json.push(t.SYNC_DATA_CMD)
    for raw in (a, as_json):
        assert watch(raw, bob) == [x.Presence(user_id=bob)]
    b = system.client(bob)
    assert told(a) == told(as_json) == on(bob, 5)
    web = system.client(bob, device_type=6)
    assert told(a) == told(as_json) == on(bob, 5, 6)
    assert watch(a, bob) == [on(bob, 5, 6)]
    b.close()
    assert told(a) == told(as_json) == on(bob, 6)
    assert unwatch(as_json, bob) == 0
    web.ask(t.LOGOUT)
    assert off(told(a), bob)
    assert a.silent(0.7) and as_json.silent(0.1)


def test_a_new_login_of_the_same_device_is_no_change(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    add(a, bob)
    assert watch(a, bob) == [on(bob, 5)]
    for _ in range(5):
        b = system.client(bob)
    assert a.silent(1.0)
    b.close()
    assert off(told(a), bob)


def test_a_watch_shows_nothing_until_they_are_friends_and_nothing_when_they_are_no_more(
    system: System, user: User
) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    nothing = x.Presence(user_id=bob)
    assert watch(a, bob) == [nothing]
    phone = system.client(bob, device_type=1)
    assert a.silent(0.7)
    assert add(b, alice) == 0
    a.push(t.SYNC_DATA_CMD)
    assert told(a) == on(bob, 1, 5)
    assert block(b, alice) == 0 and told(a) == nothing
    phone.ask(t.LOGOUT)
    assert a.silent(0.7)  # not even that something changed
    assert unblock(b, alice) == 0 and told(a) == on(bob, 5)
    assert delete(a, bob) == 0 and told(a) == nothing
    b.close()
    assert a.silent(0.7)


def test_a_watch_ends_with_its_connection(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = system.client(alice), system.client(bob)
    add(b, alice, carol)
    a.push(t.SYNC_DATA_CMD)
    assert watch(a, bob) == [on(bob, 5)]
    assert code(a.login(carol)) == 0  # the same connection, somebody else
    b.close()
    assert a.silent(0.7)
    assert watch(a, bob)[0].online == 0


def test_pushes_come_behind_the_answer(system: System, user: User) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    add(a, bob)
    for _ in range(10):
        asked = a.request(t.PRESENCE_SUBSCRIBE, x.PresenceSubscribeReq(user_ids=[bob]))
        b = system.client(bob)
        first = a.pack()
        assert (first.type, first.pack_id) == (t.PRESENCE_SUBSCRIBE, asked)
        until = wait_until(lambda: presences(a, bob) == [on(bob, 5)], "bob to be online")
        assert until
        b.close()
        wait_until(lambda: not presences(a, bob)[0].online, "bob to be gone")
        assert unwatch(a) == 0
        while not a.silent(0.05):
            assert a.pack().type == t.PRESENCE_PUSH


# ---- several brokers and user nodes, and their deaths


@pytest.fixture(scope="module")
def spread() -> Iterator[System]:
    """Two brokers and two user nodes, each in a process of its own."""
    with running(topology_text("split", counts={"broker": 2, "user": 2})) as found:
        yield found


def on_each(system: System) -> tuple[Raw, Raw]:
    one, two = system.addresses()
    return Raw(one), Raw(two)


def test_presence_across_brokers(spread: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = on_each(spread)
    a.login(alice)
    add(a, bob)
    assert watch(a, bob) == [x.Presence(user_id=bob)]
    b.login(bob)
    assert told(a) == on(bob, 5)
    near = Raw((a.sock.getpeername()[0], a.sock.getpeername()[1]))
    near.login(bob, device_type=1)
    assert told(a) == on(bob, 1, 5)
    assert [presences(a, bob) for _ in range(6)] == [[on(bob, 1, 5)]] * 6  # whichever node is asked
    b.close()
    assert told(a) == on(bob, 1)
    near.close()
    assert off(told(a), bob)
    assert a.silent(0.7)


@pytest.mark.seconds(180)
def test_when_a_broker_dies_its_users_are_gone(spread: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    processes = {p["nodes"]["broker"]["tcp"]: name for name, p in spread.status().items() if "broker" in p["nodes"]}
    a, b = on_each(spread)
    a.login(alice)
    b.login(bob)
    both = Raw(a.sock.getpeername()[:2]), Raw(b.sock.getpeername()[:2])
    both[0].login(carol)
    both[1].login(carol, device_type=1)
    add(a, bob, carol)
    assert watch(a, bob, carol) == [on(bob, 5), on(carol, 1, 5)]
    host, port = b.sock.getpeername()[:2]
    spread.kill(processes[f"{host}:{port}"])
    changes = {}
    while len(changes) < 2:
        pushed = a.push(t.PRESENCE_PUSH).presences
        changes.update({p.user_id: p for p in pushed})
    assert changes[bob].online == 0 and changes[bob].last_seen > 0
    assert changes[carol] == on(carol, 5)
    spread.wait_serving()


@pytest.mark.seconds(180)
def test_user_nodes_that_start_again_know_who_is_there(spread: System, user: User) -> None:
    alice, bob = user(), user()
    a, b = on_each(spread)
    a.login(alice)
    b.login(bob)
    add(a, bob)
    assert watch(a, bob) == [on(bob, 5)]
    for name in ("user-1", "user-2"):
        before = spread.kill(name)
        wait_until(lambda: spread.is_new(name, before), "the process to come back")  # noqa: B023
        spread.wait_serving()
        for _ in range(4):
            wait_until(lambda: presences(a, bob) == [on(bob, 5)], "bob to be seen")
    b.close()
    wait_until(lambda: off(presences(a, bob)[0], bob), "bob to be gone")
    while not a.silent(0.7):  # it may have looked as if he were gone for a moment; what is told last is so
        pack = a.pack()
        if pack.type == t.PRESENCE_PUSH:
            last = decode(pack).presences[-1]
    assert off(last, bob)


# ---- 69


def type_in(raw: Raw, session: str, typing: int = 1, user: str = "") -> int:
    return code(raw.ask(t.TYPING, x.Typing(session_id=session, typing=typing, user_id=user)))


@pytest.mark.usefixtures("unharmed")
def test_typing_is_told_to_the_peer(system: System, user: User) -> None:
    alice, bob = user(), user()
    a, phone, b, web = (system.client(u, device_type=n) for u, n in ((alice, 5), (alice, 1), (bob, 5), (bob, 6)))
    session = single_session(alice, bob)
    assert type_in(a, f"SC_{bob}_{alice}") == 0
    for raw in (b, web):
        assert raw.push(t.TYPING) == x.Typing(session_id=session, user_id=alice, typing=1)
    assert type_in(a, session, 0, user=alice) == 0
    for raw in (b, web):
        assert raw.push(t.TYPING).typing == 0
    assert phone.silent(0.2) and a.silent(0.1) and b.silent(0.1)
    assert b.history(session) == []
    assert type_in(a, single_session(alice, alice)) == 0
    assert type_in(a, single_session(alice, user())) == 0


def test_typing_is_not_told_to_those_who_blocked(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = system.client(alice), system.client(bob)
    session = single_session(alice, bob)
    block(b, alice)
    assert type_in(a, session) == 51
    assert b.silent(0.2)
    assert type_in(a, session, user=bob) == 23
    for wrong in (single_session(bob, carol), "BM_app_x", "XX", "SC_a"):
        assert type_in(a, wrong) == 2


def test_typing_in_a_group(system: System, user: User) -> None:
    alice, bob, carol, stranger = user(), user(), user(), user()
    a, phone = system.client(alice), system.client(alice, device_type=1)
    b, c, d = system.client(bob), system.client(carol), system.client(stranger)
    group = create(a, bob, carol)
    for raw in (phone, b, c):
        while not raw.silent(0.3):
            raw.pack()
    assert type_in(b, group) == 0
    for raw in (a, phone, c):
        assert raw.push(t.TYPING) == x.Typing(session_id=group, user_id=bob, typing=1)
    assert b.silent(0.2)
    assert type_in(d, group) == 30 and type_in(a, "GC_none") == 35
    leave(c, group, carol)
    assert type_in(c, group) == 30
    assert d.silent(0.1)


def test_typing_has_a_rate() -> None:
    tables = {"node.user": {"typing_per_minute": 5}, "node.chat": {"require_friend": True}}
    with running(topology_text(tables=tables)) as system:
        a, b = system.client("alice"), system.client("bob")
        session = single_session("alice", "bob")
        assert type_in(a, session) == 50
        add(a, "bob")
        b.push(t.SYNC_DATA_CMD)
        answers = [a.ask(t.TYPING, x.Typing(session_id=session)) for _ in range(6)]
        assert [code(answer) for answer in answers] == [0, 0, 0, 0, 7, 7]
        assert 0 < answers[-1].retry_after <= 12_001
        assert type_in(b, session) == 0
