"""MSG_READ (18): the read position, unread, and who is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.flags import COUNTER, DUP
from packs.ids import single_session
from tests.controls import DELETE, control, next_of, read, recent, send, unread
from tests.groups import create, dismiss, join, leave, quiet
from tests.raw import Raw, code, decode
from tests.system import System
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("unharmed")


def position(raw: Raw, session: str) -> tuple[int, int]:
    """Read up to where, and how much is unread."""
    item = recent(raw, session)
    assert item is not None
    return item.read_seq_id, item.unread_count


def receipt(raw: Raw) -> tuple[str, int, str]:
    """The next MSG_READ that is pushed: session, seqId, who."""
    found: s.MsgReaded = decode(next_of(raw, t.MSG_READ))
    return found.session_id, found.seq_id, found.user_id


def test_forward_only_and_never_past_the_newest(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    sent = [send(a, bob) for _ in range(6)]
    session = sent[0].session
    assert position(b, session) == (0, 6)
    for seq, expected in [
        (sent[2].seq, (sent[2].seq, 3)),
        (sent[0].seq, (sent[2].seq, 3)),
        (0, (sent[2].seq, 3)),
        (-1, (sent[2].seq, 3)),
        (-(2**63), (sent[2].seq, 3)),
        (sent[3].seq + 1, (sent[3].seq, 2)),
        (sent[4].seq - 1, (sent[3].seq, 2)),
        (2**63 - 1, (sent[5].seq, 0)),
    ]:
        assert read(b, session, seq) == 0
        assert position(b, session) == expected
    newer = send(a, bob)
    assert position(b, session) == (sent[5].seq, 1), "what came later is unread"
    assert read(b, session, newer.seq) == 0
    assert position(b, session) == (newer.seq, 0)
    assert position(a, session) == (newer.seq, 0), "the sender's own is his"


def test_over_tombstones_and_what_does_not_count(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    sent = [send(a, bob, flags=COUNTER if n % 2 else 0) for n in range(8)]
    session = sent[0].session
    for n in (3, 7):
        assert control(a, sent[n], DELETE) == 0
    assert position(b, session) == (0, 2)
    assert read(b, session, sent[3].seq) == 0
    assert position(b, session) == (sent[3].seq, 1)
    assert read(b, session, sent[7].seq) == 0
    assert position(b, session) == (sent[7].seq, 0)


def test_others_are_told(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, web = system.client(alice), system.connect(codec=JSON)
    web.login(alice, device_type=6)
    b, phone, tablet = (system.client(bob, device_type=n) for n in (5, 1, 2))
    stranger = system.client(user())
    message = send(a, bob)
    assert read(b, message.session, message.seq + 100, pack_id="r") == 0
    for raw in (a, web, phone, tablet):
        pack = next_of(raw, t.MSG_READ)
        assert (pack.pack_id, pack.flags) == ("r", 0)
        assert decode(pack) == s.MsgReaded(session_id=message.session, seq_id=message.seq, user_id=bob)
    assert next_of(b, t.MSG_SINGLE_CHAT)
    for raw in (a, web, b, phone, tablet, stranger):
        assert raw.silent(0.1)


def test_what_moves_nothing_is_told_to_nobody_but_a_repeat_is(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    message = send(a, bob)
    assert read(b, message.session, message.seq, "r") == 0
    assert receipt(a) == (message.session, message.seq, bob)
    assert read(b, message.session, message.seq, "s") == read(b, message.session, 5, "t") == 0
    assert a.silent(0.1)
    assert read(b, message.session, message.seq, "r", DUP) == 0, "it may have been cut off before it was told"
    assert receipt(a) == (message.session, message.seq, bob)


def test_the_other_devices_see_it_in_their_sync(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b, phone = system.client(alice), system.client(bob), system.client(bob, device_type=1)
    message = send(a, bob)
    cursor = 0

    def settled() -> bool:
        nonlocal cursor
        answer = phone.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
        cursor = answer.timestamp
        return not answer.sessions

    wait_until(settled, "an empty page", 12)
    assert read(b, message.session, message.seq) == 0

    def again() -> list[s.HotSessionItem]:
        found: list[s.HotSessionItem] = phone.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor)).sessions
        return found

    (item,) = wait_until(again, "the session that was read")
    assert (item.session_id, item.unread_count, item.read_seq_id) == (message.session, 0, message.seq)


def test_notes_to_self(system: System, user: Callable[[], str]) -> None:
    alice = user()
    here, phone = system.client(alice), system.client(alice, device_type=1)
    message = send(here, alice)
    assert read(here, message.session, message.seq, flags=DUP) == 0
    assert receipt(phone) == (message.session, message.seq, alice)
    assert phone.silent(0.1) and here.silent(0.1)


def test_sessions_may_be_named_in_either_order(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    message = send(a, bob)
    assert read(b, f"SC_{max(alice, bob)}_{min(alice, bob)}", message.seq) == 0
    assert receipt(a) == (single_session(alice, bob), message.seq, bob)


def test_who_may_not(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, stranger = system.client(alice), system.client(user())
    message = send(a, bob)
    assert read(stranger, message.session, message.seq) == 28
    assert read(a, f"BM_app_{bob}", 1) == 28
    assert read(a, f"BM_app_{alice}", 1) == 0
    assert read(a, single_session(alice, "nobody"), 1) == 0
    assert position(system.client(bob), message.session) == (0, 1)


def test_malformed_requests(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    session = send(a, bob).session
    for payload, expected in [
        ({"sessionId": session}, 2), ({"seqId": 1}, 2), ({"sessionId": "", "seqId": 1}, 2),
        ({"sessionId": "x", "seqId": 1}, 2), ({"sessionId": session, "seqId": "1"}, 42),
        ({"sessionId": 5, "seqId": 1}, 42), ({"sessionId": session, "seqId": 1, "userId": alice}, 23),
        ({"sessionId": session, "seqId": 1, "userId": bob}, 0),
    ]:  # fmt: skip
        assert code(b.ask_any(t.MSG_READ, payload)) == expected, payload
    assert position(b, session) == (0, 1)


# ---- groups


def test_in_a_group(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol, dave = (user() for _ in range(4))
    a, b, phone, c, d = (
        system.client(alice), system.client(bob), system.client(bob, device_type=1), system.client(carol),
        system.client(dave),
    )  # fmt: skip
    group = create(a, bob, carol)
    sent = [send(a, group) for _ in range(3)]
    assert read(b, group, sent[1].seq) == 0
    assert (position(b, group), position(c, group)) == ((sent[1].seq, 1), (0, 3))
    assert receipt(phone) == (group, sent[1].seq, bob)
    for raw in (b, c):
        assert [next_of(raw, t.MSG_GROUP_CHAT).type for _ in sent]
        assert quiet(raw, 0.1)
    assert quiet(a, 0.1), "a receipt is for single chats"
    assert read(d, group, sent[1].seq) == 30
    assert join(a, group, dave) == 0
    assert position(d, group) == (sent[2].seq, 0), "who joins has nothing unread"
    send(a, group)
    assert unread(d, group) == 1
    assert leave(b, group, bob) == 0
    assert read(b, group, sent[2].seq) == 30
    assert dismiss(a, group) == 0
    assert read(a, group, sent[2].seq) == read(d, "GC_nobodyMadeThis", 1) == 35


# ---- many


def test_many_at_once_from_several_devices(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    devices = [system.client(bob, device_type=n) for n in range(1, 5)]
    for n in range(200):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}", COUNTER)
    seqs = [a.answer(f"m{n}").seq_id for n in range(200)]
    session = single_session(alice, bob)
    for n in range(199, -1, -1):  # from the newest down: whoever comes first has read everything
        devices[n % 4].request(t.MSG_READ, s.MsgReaded(session_id=session, seq_id=seqs[n]), f"r{n}")
    assert {code(devices[n % 4].answer(f"r{n}")) for n in range(200)} == {0}
    assert position(devices[0], session) == (seqs[199], 0)
    told = []
    while not told or told[-1] != seqs[199]:
        told.append(receipt(a)[1])
    assert told == sorted(set(told)), "a receipt never goes back"
    assert a.silent(0.1)
