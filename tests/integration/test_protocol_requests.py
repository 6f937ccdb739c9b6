"""Requests and responses: one answer each, order, identity, ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.flags import ACK, COUNTER, DUP
from packs.ids import single_session
from tests.raw import code, decode
from tests.system import System
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("unharmed")

SERVED = {
    t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT, t.MSG_CTRL, t.MSG_READ, t.HOTSESSION_SYNC, t.HISTORY_MSG_PULL,
    t.HIGH_PRIOR_MSG_SYNC,
    *range(t.GROUPCHAT_SYNC, t.GROUPCHAT_MEMBERS_GET + 1), t.KICKOUT,
    *range(t.FRIEND_ADD, t.SESSIONATTRIBUTE_SET + 1), t.BLOCK, t.UNBLOCK, t.FRIEND_REQUEST_ANSWER,
    t.PRESENCE_SUBSCRIBE, t.TYPING, t.PUSH_REGISTER, t.SEARCH,
}  # fmt: skip
"""Types that this version answers by doing something; with an empty payload 2."""
WITHOUT_PAYLOAD = {
    t.PING, t.BLOCKLIST_GET, t.FRIEND_REQUESTS_GET, t.PRESENCE_GET, t.PRESENCE_UNSUBSCRIBE, t.DEVICES_GET,
    t.PUSH_UNREGISTER, t.PUSH_REGISTRATIONS_GET,
}  # fmt: skip
"""Those that need no payload."""
NO_NODE: set[int] = set()
"""Types that have a meaning and nobody who serves them yet."""
DENIED = {t.SESSION_MONITOR_START, t.SESSION_MONITOR_STOP, t.SESSION_MONITOR_SYNC}
"""Types for which nobody here has the right."""
OTHERS = [
    -(2**31), -1, *range(10), t.MSG_BIZ_NOTIFY, t.SYNC_DATA_CMD, *range(26, 40), 48, 59, t.PRESENCE_PUSH, 76, 2**31 - 1,
]  # fmt: skip
"""Unknown types, and those that only the server sends."""


# ---- one answer each


def test_every_type_is_answered_exactly_once(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    types = [*SERVED, *WITHOUT_PAYLOAD, *NO_NODE, *DENIED, *OTHERS]
    for number in types:
        raw.send_any(number, b"", pack_id=f"type{number}")
    answers = [raw.pack() for _ in types]
    assert raw.silent()
    assert Counter(a.pack_id for a in answers) == Counter(f"type{number}" for number in types)
    codes = {}
    for answer in answers:
        assert answer.flags & ACK and answer.pack_id == f"type{answer.type}"
        codes[answer.type] = code(decode(answer))
    assert {n: codes[n] for n in OTHERS} == dict.fromkeys(OTHERS, 1)
    assert {n: codes[n] for n in DENIED} == dict.fromkeys(DENIED, 23)
    assert {n: codes[n] for n in NO_NODE} == dict.fromkeys(NO_NODE, 6)
    assert {n: codes[n] for n in SERVED} == dict.fromkeys(SERVED, 2)
    assert {n: codes[n] for n in WITHOUT_PAYLOAD} == dict.fromkeys(WITHOUT_PAYLOAD, 0)


def test_the_same_in_json(system: System, user: Callable[[], str]) -> None:
    raw = system.connect(codec=JSON)
    raw.login(user())
    types = [*SERVED, *WITHOUT_PAYLOAD, *NO_NODE, *OTHERS]
    for number in types:
        raw.send_any(number, b"", pack_id=f"type{number}")
    answers = [raw.pack() for _ in types]
    assert Counter(a.pack_id for a in answers) == Counter(f"type{number}" for number in types)
    assert {a.type: code(decode(a)) for a in answers if a.type in OTHERS} == dict.fromkeys(OTHERS, 1)


def test_a_ping_is_echoed(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    raw.send_any(t.PING, {"any": "thing"}, pack_id="p")
    answer = raw.pack()
    assert (answer.type, answer.flags, answer.payload) == (t.PING, ACK, b"\x81\xa3any\xa5thing")


def test_the_same_request_again_is_harmless(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    for pack_type in (t.PING, t.HOTSESSION_SYNC):
        answers = [raw.ask_any(pack_type, {"timestamp": 0}, pack_id="same") for _ in range(3)]
        assert [code(a) for a in answers] == [0, 0, 0]


# ---- pipelining and order


def test_a_thousand_pipelined_messages_keep_their_order(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for n in range(1000):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}", COUNTER)
    seqs: list[int] = []
    for n in range(1000):
        ack = a.answer(f"m{n}")
        assert code(ack) == 0
        assert ack.prev_seq_id == (seqs[-1] if seqs else 0)
        seqs.append(ack.seq_id)
    assert seqs == sorted(set(seqs))
    got = [b.push(t.MSG_SINGLE_CHAT) for _ in range(1000)]
    assert [(m.content, m.seq_id) for m in got] == [(str(n), seq) for n, seq in enumerate(seqs)]
    assert [m.prev_seq_id for m in got] == [0, *seqs[:-1]]
    assert b.silent(0.1) and a.silent(0.1)


def test_sessions_of_one_connection_keep_their_own_order(system: System, user: Callable[[], str]) -> None:
    alice, peers = user(), [user() for _ in range(5)]
    a = system.client(alice)
    for n in range(300):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=peers[n % 5], content=str(n)), f"m{n}")
        if n % 10 == 0:
            a.request(t.PING, pack_id=f"ping{n}")
            a.request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0), f"hot{n}")
    answers = Counter(a.pack().pack_id for _ in range(300 + 30 + 30))
    assert max(answers.values()) == 1
    for i, peer in enumerate(peers):
        found = a.history(single_session(alice, peer))
        assert [m.content for m in reversed(found)] == [str(n) for n in range(i, 300, 5)]


def test_order_holds_on_one_session_from_both_ends(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for n in range(100):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=f"a{n}"))
        b.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=alice, content=f"b{n}"))
    for raw in (a, b):
        packs = [raw.pack() for _ in range(200)]
        acks = [decode(p).seq_id for p in packs if p.flags & ACK]
        assert len(acks) == 100 and acks == sorted(acks)
    found = list(reversed(a.history(single_session(alice, bob))))
    assert [m.prev_seq_id for m in found] == [0, *(m.seq_id for m in found[:-1])]
    for sender, prefix in ((alice, "a"), (bob, "b")):
        assert [m.content for m in found if m.sender == sender] == [f"{prefix}{n}" for n in range(100)]


def test_too_many_requests_under_way_are_refused_and_nothing_overtakes(strict: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, session = strict.client(alice), single_session(alice, bob)
    for n in range(400):  # 50 may be unanswered
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}")
    acks = [a.answer(f"m{n}") for n in range(400)]
    codes = [code(ack) for ack in acks]
    first = codes.index(7)
    assert first >= 50
    assert codes == [0] * first + [7] * (400 - first)
    assert all(ack.error_code.retry_after > 0 for ack in acks[first:])
    assert [m.content for m in a.history(session)] == [str(n) for n in reversed(range(first))][:200]
    # What was refused is sent again, in order: it is stored behind the rest.
    for n in range(first, first + 40):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}", DUP)
    assert [code(a.answer(f"m{n}")) for n in range(first, first + 40)] == [0] * 40
    assert [m.content for m in reversed(a.history(session, count=40))] == [str(n) for n in range(first, first + 40)]


def test_too_many_other_requests_are_refused_alike(strict: System, user: Callable[[], str]) -> None:
    raw = strict.client(user())
    answers: list[s.HotSessionResp] = []

    def refused() -> bool:  # unless the node keeps up with us
        first = len(answers)
        for n in range(first, first + 300):
            raw.request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0), f"h{n}")
        answers.extend(raw.answer(f"h{n}") for n in range(first, first + 300))
        return any(code(a) == 7 for a in answers)

    wait_until(refused, "some to be refused", 20)
    assert {code(a) for a in answers} == {0, 7}
    assert all(a.error_code.retry_after > 0 for a in answers if code(a) == 7)
    assert code(raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0))) == 0


def test_no_push_comes_before_the_answer_that_caused_it(system: System, user: Callable[[], str]) -> None:
    alice = user()
    old = system.client(alice)
    for _ in range(20):  # the newest login kicks the one before, never itself
        new = system.connect()
        assert new.login(alice).error_code.code == 0
        assert new.ask(t.PING) == s.CommonErrorCode()
        assert [pack.type for pack in old.rest()] == [t.KICKOUT]
        old = new


# ---- identity and ids


@pytest.mark.parametrize("sender, expected", [("", 0), ("me", 0), ("other", 23), ("ME", 23), ("me ", 23)])
def test_nobody_speaks_for_another(system: System, user: Callable[[], str], sender: str, expected: int) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    names = {"me": alice, "other": bob, "ME": alice.upper(), "me ": alice + " "}
    ack = a.ask(t.MSG_SINGLE_CHAT, s.MsgReq(sender=names.get(sender, ""), to=bob, content="x"))
    assert code(ack) == expected
    if expected == 0:
        assert b.push(t.MSG_SINGLE_CHAT).sender == alice
    else:
        assert b.silent(0.1)
        assert a.history(single_session(alice, bob)) == []


@pytest.mark.parametrize("to", ["a b", "é", "a~b", "a/b", "a\n", "\0", "x" * 65, "a:b", "*"], ids=repr)
def test_malformed_recipients(system: System, user: Callable[[], str], to: str) -> None:
    assert code(system.client(user()).ask(t.MSG_SINGLE_CHAT, s.MsgReq(to=to, content="x"))) == 2


@pytest.mark.parametrize("suffix", ["._@+-", "_" * 20, "x" * 58, "GC_1", "SC_a_b"])
def test_every_well_formed_recipient_can_be_addressed(system: System, user: Callable[[], str], suffix: str) -> None:
    bob = user() + suffix
    a, b = system.client(user()), system.client(bob)
    assert code(a.text(bob, "x")) == 0
    assert b.push(t.MSG_SINGLE_CHAT).to == bob


def test_ids_are_compared_byte_by_byte(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b, other = system.client(alice), system.client(bob), system.client(bob.upper())
    longer = system.client(bob + "0")
    a.text(bob, "for bob")
    assert b.push(t.MSG_SINGLE_CHAT).content == "for bob"
    assert other.silent(0.1) and longer.silent(0.1)


def test_notes_to_self(system: System, user: Callable[[], str]) -> None:
    alice = user()
    here, phone = system.client(alice), system.client(alice, device_type=1)
    ack = here.text(alice, "remember")
    assert (code(ack), ack.session_id) == (0, single_session(alice, alice))
    got = phone.push(t.MSG_SINGLE_CHAT)
    assert (got.content, got.seq_id, got.sender, got.to) == ("remember", ack.seq_id, alice, alice)
    assert phone.silent(0.2) and here.silent(0.1)
    assert [m.content for m in here.history(ack.session_id)] == ["remember"]
    (item,) = here.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)).sessions
    assert (item.unread_count, item.read_seq_id) == (0, ack.seq_id)


def test_messages_wait_for_nobody_to_be_online(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    ack = system.client(alice).text(bob, "later")
    assert code(ack) == 0
    b = system.client(bob)
    assert [m.content for m in wait_until(lambda: b.history(ack.session_id), "history")] == ["later"]
