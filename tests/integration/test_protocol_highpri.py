"""HIGH_PRIOR_MSG_SYNC (20): what must not be missed, its pages and its cursor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from packs.flags import REVOKE as REVOKED
from tests.controls import DELETE, OVERRIDE, REVOKE, control, priorities, send
from tests.groups import create, dismiss, join, leave
from tests.raw import Raw, code, decode
from tests.system import System
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("unharmed")

HIGH = COUNTER | HIGH_PRIORITY


def contents(answer: s.MsgHighPrioritySyncResp) -> list[str]:
    """Contents of the messages, commands of the controls."""
    return [str(decode(p).command) if p.type == t.MSG_CTRL else decode(p).content for p in answer.msgs]


def everything(raw: Raw, count: int = 200, after: int = 0) -> list[str]:
    """All pages one after the other."""
    found: list[str] = []
    while True:
        answer = priorities(raw, after, count)
        found += contents(answer)
        after = answer.last_seq_id
        if len(answer.msgs) < count and code(answer) == 0:
            return found


def test_messages_with_the_flag_and_controls(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    send(a, bob, "plain")
    first = send(a, bob, "first", HIGH)
    plain = send(a, bob, "also plain")
    assert control(a, plain, REVOKE) == 0
    last = send(a, bob, "last", HIGH_PRIORITY)
    answer = wait_until(lambda: len((found := priorities(b)).msgs) == 3 and found, "all of it")
    assert contents(answer) == ["first", "1", "last"]
    packs = [p for p in answer.msgs if p.type == t.MSG_SINGLE_CHAT]
    assert [(p.pack_id, p.flags) for p in packs] == [(first.pack_id, HIGH), (last.pack_id, HIGH_PRIORITY)]
    message = decode(packs[0])
    assert (message.seq_id, message.prev_seq_id, message.sender, message.to, message.session_id) == (
        first.seq, first.prev, alice, bob, first.session,
    )  # fmt: skip
    assert contents(priorities(a)) == ["1"], "his own messages need not be told him"
    assert priorities(system.client(user())).msgs == []


def test_a_message_is_there_once_and_as_it_is_now(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for flags in (HIGH, HIGH | DUP):
        a.text(bob, "one", "same", flags)
    messages = [send(a, bob, content, HIGH) for content in ("revoked", "overridden", "deleted")]
    for message, command in zip(messages, (REVOKE, OVERRIDE, DELETE), strict=True):
        assert control(a, message, command, "new") == 0
    answer = priorities(b)
    assert contents(answer) == ["one", "", "new", "1", "2", "3"]
    assert answer.msgs[1].flags == HIGH | REVOKED
    assert b"revoked" not in b"".join(p.payload for p in answer.msgs)


def test_groups_from_the_joining_on(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    group, other = create(a, bob), create(a, carol)
    early = send(a, group, "early", HIGH)
    assert control(a, early, OVERRIDE, "early too") == 0
    send(a, other, "elsewhere", HIGH)
    send(a, group, "plain")
    assert contents(priorities(b)) == ["early too", "2"]
    assert join(a, group, carol) == 0
    send(a, group, "late", HIGH)
    send(a, carol, "for her", HIGH)
    wait_until(lambda: "for her" in contents(priorities(c)), "the message")
    assert contents(priorities(c)) == ["elsewhere", "late", "for her"]
    assert contents(priorities(b)) == ["early too", "2", "late"]
    assert leave(c, group, carol) == 0
    assert contents(priorities(c)) == ["elsewhere", "for her"]
    assert dismiss(a, other) == 0
    assert contents(priorities(c)) == ["for her"]


@pytest.mark.parametrize("count", [1, 2, 7, 199, 200])
def test_page_by_page(system: System, user: Callable[[], str], count: int) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    groups = [create(a, bob) for _ in range(3)]
    total = 20 if count < 10 else 450
    for n in range(total):
        to = bob if n % 4 == 3 else groups[n % 4]
        kind = t.MSG_SINGLE_CHAT if to == bob else t.MSG_GROUP_CHAT
        a.request(kind, s.MsgReq(to=to, content=str(n)), f"m{n}", HIGH)
    assert {code(a.answer(f"m{n}")) for n in range(total)} == {0}
    # Each session in its order; the stamps tell how they lie between each other.
    # A burst gets stamps a little ahead of the clock: until it has passed them, items of a page's end come again.
    found = wait_until(lambda: len(all_ := everything(b, count)) == total and all_, "all of it, once")
    assert sorted(found, key=int) == [str(n) for n in range(total)]
    for part in range(4):
        assert [int(x) for x in found if int(x) % 4 == part] == list(range(part, total, 4))
    first = priorities(b, 0, count)
    assert len(first.msgs) == count and code(first) == 0
    assert contents(priorities(b, first.last_seq_id, 1)) == [found[count]]


def test_counts(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for n in range(210):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}", HIGH)
    assert {code(a.answer(f"m{n}")) for n in range(210)} == {0}
    wait_until(lambda: len(everything(b)) == 210, "all of it")
    for count, expected in [(0, 200), (-1, 200), (201, 200), (2**31 - 1, 200), (3, 3)]:
        assert contents(priorities(b, 0, count)) == [str(n) for n in range(expected)]
    assert len(b.ask_any(t.HIGH_PRIOR_MSG_SYNC, {"seqId": 0}).msgs) == 200
    assert code(b.ask_any(t.HIGH_PRIOR_MSG_SYNC, {})) == 2
    assert code(b.ask_any(t.HIGH_PRIOR_MSG_SYNC, {"seqId": "0"})) == 42
    answer = b.ask(t.HIGH_PRIOR_MSG_SYNC, s.MsgHighPrioritySyncReq(seq_id=-5, count=2))
    assert contents(answer) == ["0", "1"]


def test_the_cursor(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    empty = priorities(b)
    assert (empty.msgs, empty.last_seq_id) == ([], 0)
    assert priorities(b, 2**53).last_seq_id == 2**53
    message = send(a, bob, "x", HIGH)
    wait_until(lambda: priorities(b).msgs, "the message")
    fresh = priorities(b)
    assert fresh.last_seq_id < message.seq, "what is this young may be joined by something older"
    assert contents(priorities(b, fresh.last_seq_id)) == ["x"]
    cursor = 0

    def settled() -> bool:
        nonlocal cursor
        answer = priorities(b, cursor)
        cursor = answer.last_seq_id
        return not answer.msgs

    wait_until(settled, "an empty page", 9)
    assert control(a, message, REVOKE) == 0
    assert contents(priorities(b, cursor)) == ["1"]


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)
def test_a_page_fits_a_frame(system: System, user: Callable[[], str], codec: Codec) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.connect(codec=codec)
    group = create(a, bob)
    for n in range(24):
        send(a, group if n % 2 else bob, "\x01" * 60_000, HIGH)
    b.login(bob)
    found: list[int] = []
    cursor = 0
    while True:
        answer = priorities(b, cursor)
        assert len(answer.msgs) < 24
        found += [decode(p).seq_id for p in answer.msgs]
        cursor = answer.last_seq_id
        if code(answer) == 0:
            break
    assert len(set(found)) == 24


def test_nothing_is_missed_while_it_is_written(system: System, user: Callable[[], str]) -> None:
    """A reader that follows with its cursor sees all of what several write, in queues of its own and of groups."""
    alice, bob, carol = user(), user(), user()
    a, c, b = system.client(alice), system.client(carol), system.client(bob)
    group = create(a, bob, carol)
    found: set[str] = set()
    cursor = 0

    def follow() -> int:
        nonlocal cursor
        answer = priorities(b, cursor, 10)
        assert len(answer.msgs) <= 11
        found.update(contents(answer))
        cursor = answer.last_seq_id
        return len(found)

    for n in range(100):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=f"a{n}"), f"a{n}", HIGH)
        c.request(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content=f"c{n}"), f"c{n}", HIGH)
        follow()
    wait_until(lambda: follow() == 200, "all of it", 20)
