"""Messages in groups: who gets them, on which broker, from when and until when; unread and history of members."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import gevent
import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.enums import SyncCommand
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from tests.groups import HINT, create, dismiss, heard, join, leave, pushed, quiet, say
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until


@pytest.fixture(scope="module", params=["one group node", "two group nodes"])
def brokers(request: pytest.FixtureRequest, wide: System) -> Iterator[System]:
    """Two brokers, with one node for groups or two."""
    if request.param == "one group node":
        yield wide
    else:
        with running(topology_text("edge and core", {"edge": 2, "core": 2})) as found:
            yield found


def clients(system: System, *names: str) -> list[Raw]:
    """One connection for each, on alternating brokers."""
    raws = []
    for name, address in zip(names, itertools.cycle(system.addresses()), strict=False):
        raw = Raw(address)
        assert code(raw.login(name)) == 0
        raws.append(raw)
    return raws


def recent(raw: Raw, cursor: int = 0) -> dict[str, s.HotSessionItem]:
    answer = raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
    assert code(answer) == 0
    return {item.session_id: item for item in answer.sessions}


# ---- 15


def test_a_message_comes_once_to_every_connection_but_the_sending_one(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    here, phone = system.client(alice, device_type=5), system.client(alice, device_type=1)
    theirs = [system.client(bob, device_type=n) for n in (1, 5)]
    web = system.connect(codec=JSON)
    web.login(carol, device_type=6)
    stranger = system.client(user())
    group = create(here, bob, carol)
    ack = say(here, group, "hello", "p1")
    for raw in (phone, *theirs, web):
        pack = pushed(raw, "hello")[-1]
        got = decode(pack)
        assert (pack.pack_id, pack.flags, got.sender, got.to, got.session_id) == ("p1", COUNTER, alice, group, group)
        assert (got.seq_id, got.timestamp, got.prev_seq_id) == (ack.seq_id, ack.timestamp, 0)
    for raw in (here, phone, *theirs, web, stranger):
        assert quiet(raw)


def test_messages_are_numbered_and_come_in_order_to_all(system: System, user: Callable[[], str]) -> None:
    names = [user() for _ in range(4)]
    raws = [system.client(name) for name in names]
    group = create(raws[0], *names[1:])
    for n in range(100):
        for raw in raws:
            raw.request(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content=str(n)), f"m{n}", COUNTER)
    streams = []
    for raw in raws:
        packs = [p for p in (raw.pack() for _ in range(400)) if p.type == t.MSG_GROUP_CHAT]
        while len(packs) < 400:
            packs += [p for p in [raw.pack()] if p.type == t.MSG_GROUP_CHAT]
        live = [decode(p) for p in packs if not p.flags & 1]
        assert [m.seq_id for m in live] == sorted({m.seq_id for m in live}) and len(live) == 300
        streams.append({m.seq_id: m.prev_seq_id for m in live})
    together: dict[int, int] = {}
    for stream in streams:
        together |= stream
    seqs = sorted(together)
    assert len(seqs) == 400
    assert [together[seq] for seq in seqs] == [0, *seqs[:-1]]
    page = raws[0].history(group)
    assert [m.seq_id for m in page] == seqs[:-201:-1]


def test_a_resend_is_known_whoever_is_a_member_by_then(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    group = create(a, bob)
    first = say(b, group, "once", "same")
    again = say(b, group, "once", "same", COUNTER | DUP)
    assert (code(again), again.seq_id) == (46, first.seq_id)
    packs = [p for p in pushed(a, "once") + pushed(a, "once") if p.type == t.MSG_GROUP_CHAT]
    assert [bool(p.flags & DUP) for p in packs] == [False, True]
    assert code(say(b, group, "other", "same")) == 2
    leave(b, group, bob)
    assert code(say(b, group, "once", "same", COUNTER | DUP)) == 46
    assert code(say(b, group, "once", "new")) == 30


@pytest.mark.parametrize(
    "message, expected",
    [
        ({"content": ""}, 40),
        ({"content": "x" * 70_000}, 41),
        ({"content": "x", "from": "somebody"}, 23),
        ({"content": "x", "sessionId": "GC_other"}, 2),
        ({"content": "x", "sessionId": "nonsense"}, 2),
        ({"content": "x", "to": "GC_nobodyHasMadeThis"}, 35),
        ({"content": "x", "to": "bob"}, 2),
        ({"content": 5}, 42),
    ],
)
def test_what_cannot_be_said(
    system: System, user: Callable[[], str], message: dict[str, object], expected: int
) -> None:
    raw = system.client(user())
    group = create(raw)
    assert code(raw.ask_any(t.MSG_GROUP_CHAT, {"to": group} | message)) == expected
    assert raw.history(group) == []


def test_flags_are_kept(system: System, user: Callable[[], str]) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    group = create(a, bob)
    for flags in (0, COUNTER, COUNTER | HIGH_PRIORITY):
        say(a, group, str(flags), flags=flags)
        assert pushed(b, str(flags))[-1].flags == flags


# ---- 19 and 21 for members


def test_unread_of_members(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    group = create(a, bob)
    assert group not in recent(a), "sessions without a message are left out"
    acks = [say(a, group, str(n)) for n in range(3)]
    say(a, group, "silent", flags=0)
    item = recent(b)[group]
    assert (item.unread_count, item.read_seq_id, item.attribute) == (3, 0, "{}")
    assert [decode(p).content for p in item.last_msgs] == ["silent"]
    mine = recent(a)[group]
    assert (mine.unread_count, mine.read_seq_id) == (0, decode(mine.last_msgs[0]).seq_id)
    reply = say(b, group, "reply")
    assert recent(b)[group].unread_count == 0 and recent(b)[group].read_seq_id == reply.seq_id
    assert recent(a)[group].unread_count == 1
    assert join(a, group, carol) == 0
    new = recent(c)[group]
    assert (new.unread_count, new.read_seq_id) == (0, reply.seq_id), "a new member starts with nothing unread"
    say(a, group, "later")
    assert recent(c)[group].unread_count == 1
    assert [m.content for m in c.history(group)][-1] == "0", "members read all of the history"
    assert acks[0].seq_id == c.history(group)[-1].seq_id
    # Who comes back starts anew.
    leave(c, group, carol)
    assert group not in recent(c)
    say(a, group, "without carol")
    join(a, group, carol)
    assert recent(c)[group].unread_count == 0


def test_history_is_for_present_members(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b, stranger = system.client(alice), system.client(bob), system.client(user())
    group = create(a, bob)
    acks = [say(a, group, str(n)) for n in range(5)]
    request = s.HistoryMsgPullReq(session_id=group, seq_id=acks[3].seq_id, count=2)
    answer = b.ask(t.HISTORY_MSG_PULL, request)
    assert answer.session_id == group
    assert [decode(p).seq_id for p in answer.msgs] == [acks[3].seq_id, acks[2].seq_id]
    assert code(stranger.ask(t.HISTORY_MSG_PULL, request)) == 28
    leave(b, group, bob)
    assert code(b.ask(t.HISTORY_MSG_PULL, request)) == 28
    dismiss(a, group)
    assert code(a.ask(t.HISTORY_MSG_PULL, request)) == 28


def test_groups_and_single_chats_page_by_page(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    groups = [create(a, bob, pack_id=f"g{n}") for n in range(60)]
    expected = []
    for n, group in enumerate(groups):
        expected += [say(b, group, str(n)).session_id, b.text(alice if n == 0 else f"{alice}x{n}", "x").session_id]
    found: list[str] = []
    cursor, more = 0, True
    while more:
        answer = b.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
        assert code(answer) in (0, 25) and len(answer.sessions) <= 100
        found += [item.session_id for item in answer.sessions]
        more, cursor = code(answer) == 25, answer.timestamp
    assert found == expected
    # Only what changed since, and what is too new to be settled, comes again.
    say(a, groups[7], "again")
    answer = b.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
    assert answer.sessions[-1].session_id == groups[7] and answer.sessions[-1].unread_count == 1


# ---- members come and go while they are online, on two brokers


def test_everybody_hears_on_whichever_broker(brokers: System, user: Callable[[], str]) -> None:
    names = [user() for _ in range(6)]
    raws = clients(brokers, *names)
    group = create(raws[0], *names[1:])
    everything = [f"from {n}" for n in range(6)]
    for raw, text in zip(raws, everything, strict=True):
        say(raw, group, text)
    for n, raw in enumerate(raws):
        others = [f"from {m}" for m in range(6) if m != n]
        packs = pushed(raw, others[-1])
        found = [decode(p).content for p in packs if p.type == t.MSG_GROUP_CHAT]
        hinted = HINT in [decode(p) for p in packs]  # who has just been added may miss something, and is told so
        assert found == others or (hinted and [m.content for m in raw.history(group)] == everything[::-1])


def test_who_logs_in_hears_what_comes_after(brokers: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    (a,) = clients(brokers, alice)
    group = create(a, bob, carol)
    say(a, group, "before")
    for address in brokers.addresses():
        for n, name in enumerate((bob, carol)):
            raw = Raw(address)
            raw.login(name, device_type=n + 1)
            say(a, group, f"to {name}")
            assert heard(raw, f"to {name}") == [f"to {name}"]


def test_whoever_is_added_hears_everything_after_the_answer(brokers: System, user: Callable[[], str]) -> None:
    names = [user() for _ in range(8)]
    raws = clients(brokers, *names)
    group = create(raws[0])
    for n in range(1, 8):
        assert join(raws[0], group, names[n]) == 0
        say(raws[0], group, f"for {names[n]}")
    for n in range(1, 8):
        expected = [f"for {name}" for name in names[n:]]
        hears_all(raws[n], group, expected)


def hears_all(raw: Raw, group: str, expected: list[str]) -> None:
    """Each of these messages comes, or a hint to resync or a gap in the numbers that leads to it."""
    got: list[str] = []
    seen = {0}
    while not got or got[-1] != expected[-1]:
        pack = raw.pack()
        if pack.type == t.MSG_GROUP_CHAT:
            message = decode(pack)
            if message.prev_seq_id in seen:
                seen.add(message.seq_id)
                got.append(message.content)
                continue
        elif decode(pack).command != SyncCommand.RESYNC:
            continue
        missed = [m.content for m in reversed(raw.history(group)) if m.content in expected]
        got += [content for content in missed if content not in got]
    assert [content for content in got if content in expected] == expected


def known(raws: list[Raw], group: str) -> None:
    """Wait until all have what is said in a group: who has just been added may get the hint in place of a message."""
    say(raws[0], group, "begin")
    for raw in raws[1:]:
        pushed(raw, "begin", group)
    say(raws[0], group, "again")
    for raw in raws[1:]:
        heard(raw, "again")


def test_whoever_is_removed_hears_nothing_after_the_answer(brokers: System, user: Callable[[], str]) -> None:
    names = [user() for _ in range(8)]
    raws = clients(brokers, *names)
    group = create(raws[0], *names[1:])
    end = create(raws[0], *names[1:])
    known(raws, end)
    known(raws, group)
    for n in range(1, 8):
        assert leave(raws[0], group, names[n]) == 0
        say(raws[0], group, f"without {names[n]}")
        say(raws[0], group, f"still without {names[n]}")
    say(raws[0], end, "end")
    for n in range(1, 8):
        expected = [f"{word} {name}" for name in names[1:n] for word in ("without", "still without")]
        assert heard(raws[n], "end") == [*expected, "end"]


def test_removals_amid_a_stream_of_messages(brokers: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = clients(brokers, alice, bob, carol)
    group, end = create(a, bob, carol), create(a, bob, carol)
    for n in range(30):
        for m in range(20):
            c.request(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content=f"{n}.{m}"), f"m{n}.{m}", COUNTER)
        assert leave(a, group, bob) == 0
        limit = say(a, group, "gone").seq_id
        packs = []
        say(a, end, f"end {n}")
        packs = [decode(p) for p in pushed(b, f"end {n}") if p.type == t.MSG_GROUP_CHAT]
        late = [m.content for m in packs if m.session_id == group and m.seq_id >= limit]
        assert not late, late
        assert join(a, group, bob) == 0
        for m in range(20):
            assert code(c.answer(f"m{n}.{m}")) == 0


def test_a_dismissed_group_is_silent_and_forgotten(brokers: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = clients(brokers, alice, bob)
    group = create(a, bob)
    say(a, group, "hello")
    pushed(b, "hello", group)
    assert dismiss(a, group) == 0
    assert code(say(a, group)) == 35
    while (pack := b.pack()).type == t.MSG_GROUP_CHAT or decode(pack) == HINT:
        continue  # the message itself may come behind the hint
    assert (decode(pack).command, decode(pack).content) == (SyncCommand.GROUPS, group)
    assert quiet(b)


def test_a_second_device_hears_from_its_login_on(brokers: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, first = clients(brokers, alice, bob)
    group = create(a, bob)
    known([a, first], group)
    second = Raw(brokers.addresses()[0])
    second.login(bob, device_type=1)
    say(a, group, "to both")
    assert heard(first, "to both") == heard(second, "to both") == ["to both"]
    first.close()
    say(a, group, "to one")
    assert heard(second, "to one") == ["to one"]


def test_brokers_forget_groups_without_members_there(brokers: System, user: Callable[[], str]) -> None:
    names = [user() for _ in range(4)]
    raws = clients(brokers, *names)
    groups = [create(raws[0], *names[1:]) for _ in range(5)]
    for group in groups:
        say(raws[0], group, group)
    for raw in raws:
        raw.close()
    fresh = clients(brokers, *names)
    for group in groups:
        say(fresh[1], group, f"again {group}")
    for raw in (fresh[0], fresh[2], fresh[3]):
        assert heard(raw, f"again {groups[-1]}") == [f"again {group}" for group in groups]


# ---- large groups


def test_a_thousand_members_of_whom_a_hundred_are_online(brokers: System, user: Callable[[], str]) -> None:
    online = [user() for _ in range(100)]
    raws = clients(brokers, *online)
    group = create(raws[0], *online[1:], *(f"absent{n}" for n in range(900)))
    first = say(raws[0], group, "one")
    say(raws[1], group, "two")
    for raw in raws[2:]:
        hears_all(raw, group, ["one", "two"])
    assert leave(raws[0], group, *online[50:]) == 0
    say(raws[0], group, "three")
    for raw in raws[1:50]:
        assert heard(raw, "three")[-1] == "three"
    end = create(raws[0], *online[1:])
    say(raws[0], end, "end")
    for raw in raws[50:]:
        assert "three" not in heard(raw, "end", end)
    item = recent(raws[40])[group]
    assert (item.unread_count, item.read_seq_id) == (3, 0) and first.seq_id
    assert group not in recent(raws[60])


def test_ten_thousand_members(brokers: System, user: Callable[[], str]) -> None:
    alice, bob, last = user(), user(), user()
    a, b, z = clients(brokers, alice, bob, last)
    crowd = [f"{alice}c{n}" for n in range(9_990)]
    group = create(a, bob, *crowd, member_limit=10_001)
    ack = say(a, group, "hello")
    hears_all(b, group, ["hello"])
    assert recent(b)[group].unread_count == 1
    assert join(b, group, last, *crowd) == 0
    say(a, group, "and you")
    hears_all(z, group, ["and you"])
    assert recent(z)[group].unread_count == 1 and recent(z)[group].read_seq_id == ack.seq_id
    assert leave(a, group, *crowd, bob) == 0
    assert code(say(b, group)) == 30
    say(z, group, "few are left")
    hears_all(a, group, ["few are left"])
    (late,) = clients(brokers, crowd[0])
    assert recent(late) == {}


# ---- what is lost is announced


def test_after_a_loss_everybody_hears_again(user: Callable[[], str]) -> None:
    with running(topology_text("edge and core", {"edge": 2})) as system:
        names = [user() for _ in range(4)]
        raws = clients(system, *names)
        group = create(raws[0], *names[1:])
        say(raws[0], group, "before")
        system.kill("core-1")
        system.wait_serving()

        def flows() -> bool:
            return code(say(raws[0], group, "after", "after")) in (0, 46)

        wait_until(flows, "messages flow again")
        for raw in raws[1:]:
            raw.sock.settimeout(15)
            hears_all(raw, group, ["before", "after"])
        assert join(raws[1], group, "late") == 0
        (late,) = clients(system, "late")
        say(raws[2], group, "to late")
        hears_all(late, group, ["to late"])


def test_logins_wait_for_nobody_when_the_group_node_is_away(user: Callable[[], str]) -> None:
    with running(topology_text("split")) as system:
        alice, bob = user(), user()
        a = system.client(alice)
        group = create(a, bob)
        system.signal(system.pid("group-1"), 19)
        b = system.client(bob)
        assert code(b.text(alice, "I am here")) == 0
        system.signal(system.pid("group-1"), 18)
        b.sock.settimeout(15)

        def flows() -> bool:
            return code(say(a, group, "hello", "hello")) in (0, 46)

        wait_until(flows, "messages flow again")
        hears_all(b, group, ["hello"])


def test_many_join_and_speak_at_once(brokers: System, user: Callable[[], str]) -> None:
    names = [user() for _ in range(20)]
    raws = clients(brokers, *names)
    group = create(raws[0], join_mode=2)

    def come_and_speak(raw: Raw, name: str) -> None:
        assert join(raw, group, name) == 0
        assert code(say(raw, group, f"{name} is here")) == 0

    gevent.joinall(
        [gevent.spawn(come_and_speak, raw, name) for raw, name in zip(raws[1:], names[1:], strict=True)],
        raise_error=True,
    )
    say(raws[0], group, "end")
    for raw in raws[1:]:
        hears_all(raw, group, ["end"])
    assert len(raws[0].history(group)) == 20
