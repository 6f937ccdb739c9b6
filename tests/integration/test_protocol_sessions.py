"""Sessions, numbers, resends, and which devices hear of a message."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgpack
import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from tests.raw import Raw, any_body, code, decode
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")
MAX_PAYLOAD = 65_536


def send(raw: Raw, to: str, content: str = "x", pack_id: str = "", flags: int = COUNTER, **fields: str) -> s.MsgAck:
    message = s.MsgReq(to=to, content=content, **fields)  # type: ignore[arg-type]
    ack: s.MsgAck = raw.ask(t.MSG_SINGLE_CHAT, message, pack_id, flags)
    return ack


# ---- session ids


def test_either_order_or_none_is_answered_with_the_canonical_id(system: System, user: Callable[[], str]) -> None:
    alice, bob = sorted((user(), user()))
    a, b = system.client(alice), system.client(bob)
    canonical = f"SC_{alice}_{bob}"
    for given in ("", canonical, f"SC_{bob}_{alice}"):
        ack = send(a, bob, session_id=given)
        assert (code(ack), ack.session_id) == (0, canonical)
        assert b.push(t.MSG_SINGLE_CHAT).session_id == canonical
        answer = b.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=given or canonical, seq_id=0))
        assert answer.session_id == canonical
        assert decode(answer.msgs[0]).session_id == canonical
    assert send(b, alice).session_id == canonical


@pytest.mark.parametrize(
    "wrong", ["SC_{a}_{c}", "SC_{c}_{b}", "SC_{a}_{a}", "BM_{a}_{b}", "GC_1", "{a}", "SC_{a}", "SC__"]
)
def test_a_session_of_others_is_refused(system: System, user: Callable[[], str], wrong: str) -> None:
    alice, bob, carol = user(), user(), user()
    a = system.client(alice)
    assert code(send(a, bob, session_id=wrong.format(a=alice, b=bob, c=carol))) == 2


def test_underscores_are_escaped_so_that_no_two_pairs_share_a_session(system: System, user: Callable[[], str]) -> None:
    x = user()
    first, second = (f"{x}_a", "b"), (x, "a_b")  # both would be SC_x_a_b
    acks = []
    for sender, to in (first, second):
        raw = system.client(sender)
        ack = send(raw, to, f"from {sender}")
        assert code(ack) == 0 and ack.prev_seq_id == 0
        assert [m.content for m in raw.history(ack.session_id)] == [f"from {sender}"]
        acks.append(ack)
    one, other = (ack.session_id for ack in acks)
    assert one != other
    assert one == "SC_{}_{}".format(*sorted((f"{x}_a", "b"))).replace(f"{x}_a", f"{x}~a")
    assert code(send(system.client(f"{x}_a", device_type=1), "b", session_id=f"SC_{x}_a_b")) == 2  # not well formed


def test_ids_are_sorted_before_they_are_escaped(system: System, user: Callable[[], str]) -> None:
    alice = user()
    with_underscore, with_letter = f"{alice}_", f"{alice}a"  # "_" sorts before "a", "~" behind it
    ack = send(system.client(with_letter), with_underscore)
    assert ack.session_id == f"SC_{alice}~_{with_letter}"


# ---- numbers


def test_numbers_are_microseconds_and_chained(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    before = time.time() * 1e6
    acks = [send(a, bob) if n % 3 else send(b, alice) for n in range(30)]
    after = time.time() * 1e6
    seqs = [ack.seq_id for ack in acks]
    assert seqs == sorted(set(seqs)) and before - 1e6 < seqs[0] and seqs[-1] < after + 1e6 < 2**53
    assert [ack.prev_seq_id for ack in acks] == [0, *seqs[:-1]]
    assert [ack.timestamp for ack in acks] == [seq // 1000 for seq in seqs]
    found = a.history(acks[0].session_id)
    assert [(m.seq_id, m.prev_seq_id, m.timestamp) for m in reversed(found)] == [
        (ack.seq_id, ack.prev_seq_id, ack.timestamp) for ack in acks
    ]


def test_what_only_the_server_sets(system: System, user: Callable[[], str]) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    lie = {"to": bob, "content": "x", "seqId": 7, "timestamp": 8, "prevSeqId": 9, "status": 3, "contentType": 77,
           "mentions": ["*"], "pushInfo": {"title": "T"}}  # fmt: skip
    ack = a.ask_any(t.MSG_SINGLE_CHAT, lie)
    got = b.push(t.MSG_SINGLE_CHAT)
    assert (got.seq_id, got.prev_seq_id, got.timestamp, got.status) == (ack.seq_id, 0, ack.timestamp, 0)
    assert (got.content_type, got.mentions, got.push_info.title) == (77, ["*"], "T")  # passed on as they are
    (kept,) = b.history(ack.session_id)
    assert kept == got


# ---- resends


@pytest.mark.parametrize("flags", [COUNTER, COUNTER | DUP], ids=["plain", "dup"])
def test_a_resend_is_answered_with_the_first_numbers(system: System, user: Callable[[], str], flags: int) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    first = send(a, bob, "once", "same")
    send(a, bob, "between")
    again = send(a, bob, "once", "same", flags)
    assert code(again) == 46
    assert (again.session_id, again.seq_id, again.timestamp, again.prev_seq_id) == (
        first.session_id, first.seq_id, first.timestamp, first.prev_seq_id,
    )  # fmt: skip
    assert [m.content for m in a.history(first.session_id)] == ["between", "once"]
    live, _, repeated = (b.pack() for _ in range(3))
    assert decode(live).seq_id == decode(repeated).seq_id == first.seq_id
    assert not live.flags & DUP and repeated.flags & DUP


def test_a_resend_over_another_connection_and_spelt_otherwise(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    first = send(system.client(alice), bob, "once", "same")
    x, y = sorted((alice, bob))
    other = system.client(alice, device_type=1)
    again = send(other, bob, "once", "same", session_id=f"SC_{y}_{x}", sender=alice)
    assert (code(again), again.seq_id) == (46, first.seq_id)


@pytest.mark.parametrize("change", [{"content": "other"}, {"contentType": 2}, {"mentions": ["m"]}])
def test_the_same_pack_id_with_other_content_is_refused(
    system: System, user: Callable[[], str], change: dict[str, object]
) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    message = {"to": bob, "content": "one", "contentType": 1}
    first = a.ask_any(t.MSG_SINGLE_CHAT, message, pack_id="same")
    assert code(a.ask_any(t.MSG_SINGLE_CHAT, message | change, pack_id="same")) == 2
    assert code(a.ask_any(t.MSG_SINGLE_CHAT, message, pack_id="same")) == 46
    assert [m.seq_id for m in a.history(first.session_id)] == [first.seq_id]
    assert b.push(t.MSG_SINGLE_CHAT).content == "one"


def test_the_scope_of_a_pack_id_is_session_and_sender(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = system.client(alice), system.client(bob)
    for raw, to in ((a, bob), (b, alice), (a, carol), (a, alice)):
        assert code(send(raw, to, f"to {to}", "same")) == 0


def test_the_same_message_in_one_packet_twice(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    body = any_body(MSGPACK, t.MSG_SINGLE_CHAT, {"to": bob, "content": "x"}, "same")
    frame = (len(body) + 4).to_bytes(4, "big") + body
    a.send_bytes(frame * 3)
    answers = [decode(a.pack()) for _ in range(3)]
    assert [code(ack) for ack in answers] == [0, 46, 46]
    assert len({ack.seq_id for ack in answers}) == 1
    assert [bool(b.pack().flags & DUP) for _ in range(3)] == [False, True, True]


# ---- who hears of it


def test_all_devices_hear_once_but_the_sending_connection(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    sending, phone = system.client(alice, device_type=5), system.client(alice, device_type=1)
    web = system.connect(codec=JSON)
    web.login(alice, device_type=6)
    theirs = [system.client(bob, device_type=n) for n in (1, 2, 5)]
    ack = send(sending, bob, "hello")
    for raw in (phone, web, *theirs):
        got = raw.push(t.MSG_SINGLE_CHAT)
        assert (got.content, got.seq_id, got.prev_seq_id, got.sender) == ("hello", ack.seq_id, 0, alice)
    for raw in (sending, phone, web, *theirs):
        assert raw.silent(0.1)


def test_nobody_else_hears(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, c = system.client(alice), system.client(carol)
    assert code(send(a, bob)) == 0
    assert c.silent(0.2)


def test_flags_that_are_kept(system: System, user: Callable[[], str]) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    for flags in (0, COUNTER, HIGH_PRIORITY, COUNTER | HIGH_PRIORITY):
        send(a, bob, flags=flags)
        assert b.pack().flags == flags


# ---- what a message may be


def test_empty_content(system: System, user: Callable[[], str]) -> None:
    raw, bob = system.client(user()), user()
    assert code(send(raw, bob, "")) == 40
    assert code(raw.ask_any(t.MSG_SINGLE_CHAT, {"to": bob})) == 40


@pytest.mark.parametrize("more, expected", [(0, 0), (1, 41), (100_000, 41)])
def test_the_largest_payload(system: System, user: Callable[[], str], more: int, expected: int) -> None:
    bob = user()
    a, b = system.client(user()), system.client(bob)
    message = {"to": bob, "content": "c" * 60_000, "contentType": 1}
    message["content"] = "c" * (60_000 + MAX_PAYLOAD - len(msgpack.packb(message)) + more)
    ack = a.ask_any(t.MSG_SINGLE_CHAT, message)
    assert code(ack) == expected
    if expected == 0:
        assert b.push(t.MSG_SINGLE_CHAT).content == message["content"]
        assert [m.content for m in b.history(ack.session_id)] == [message["content"]]
    else:
        assert b.silent(0.1)
