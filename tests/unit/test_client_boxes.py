"""What a client does with messages on their way in and out, without any I/O."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import ConnectionLost, NotAnswered, OutboxFull, Refused
from client.events import Message, Missed, Read, Resync
from client.inbox import GAP_SECONDS, HOLE_SECONDS, Inbox
from client.mailbox import Mailbox
from client.outbox import OUTBOX_BYTES, Outbox, Outgoing
from client.requests import ANSWER_SECONDS, Requests
from packs import structs as s
from packs import table as t
from packs.codec import encode_payload
from packs.flags import ACK
from packs.pack import Pack


def message(seq: int, prev: int, session: str = "S", via: str = "live", pack_id: str = "") -> Message:
    return Message(session, seq, prev, seq // 1000, "bob", "me", f"m{seq}", 1, 4, pack_id or f"p{seq}", via)


def synced() -> Inbox:
    inbox = Inbox()
    inbox.synced(0.0)
    return inbox


def seqs(inbox: Inbox) -> list[int]:
    return [step.message.seq_id for step in inbox.take() if step.message is not None]


def positions(inbox: Inbox) -> list[int | None]:
    return [step.position for step in inbox.take()]


def test_messages_in_order_pass_at_once_and_repeats_are_dropped() -> None:
    inbox = synced()
    for seq, prev in ((10, 0), (20, 10), (20, 10), (10, 0), (30, 20)):
        inbox.offer(message(seq, prev), 0.0)
    assert seqs(inbox) == [10, 20, 30]


def test_a_gap_is_pulled_and_closed_in_order() -> None:
    inbox = synced()
    inbox.offer(message(10, 0), 0.0)
    inbox.offer(message(40, 30), 0.0)
    inbox.offer(message(50, 40), 0.0)
    assert seqs(inbox) == [10]
    assert inbox.pulls(0.0) == []  # an ack may be about to close it
    (pull,) = inbox.pulls(GAP_SECONDS)
    assert (pull.top, pull.floor) == (50, 10)
    assert inbox.pulls(1.0) == []  # asked for once
    page = [message(s, p, via="history") for s, p in ((50, 40), (40, 30), (30, 20), (20, 10))]
    inbox.page(pull, page, set(), 1.0)
    assert seqs(inbox) == [20, 30, 40, 50]
    assert not inbox.has_gaps


def test_a_gap_of_deleted_messages_is_closed_by_an_empty_page() -> None:
    inbox = synced()
    inbox.offer(message(10, 0), 0.0)
    inbox.offer(message(40, 30), 0.0)
    (pull,) = inbox.pulls(1.0)
    inbox.page(pull, [message(40, 30, via="history")], set(), 1.0)
    assert seqs(inbox) == [10, 40]


def test_own_messages_close_the_chain_and_are_not_delivered() -> None:
    inbox = synced()
    inbox.offer(message(10, 0), 0.0)
    inbox.offer(message(30, 20), 0.0)  # the push overtakes our ack
    inbox.own("S", 20, 10, 0.0)
    assert seqs(inbox) == [10, 30]


def test_a_stored_message_of_ours_whose_ack_is_late_is_not_delivered_by_a_page() -> None:
    inbox = Inbox()
    inbox.restore("S", 10)
    inbox.hot("S", 30, 10, 0.0)
    (pull,) = inbox.pulls(1.0)
    inbox.page(pull, [message(30, 20), message(20, 10, pack_id="mine")], {"mine"}, 1.0)
    assert seqs(inbox) == [30]


def test_consecutive_numbers_hide_nothing_behind_what_a_sync_announced() -> None:
    inbox = Inbox()
    inbox.restore("S", 10)
    inbox.hot("S", 22, 10, 0.0)
    inbox.offer(message(21, 10), 0.0)  # 22 follows 21 directly, and its push is lost
    assert seqs(inbox) == [21]
    (pull,) = inbox.pulls(1.0)
    inbox.page(pull, [message(22, 21)], set(), 1.0)
    assert seqs(inbox) == [22]


def test_the_first_message_of_a_new_session_may_come_after_our_own_ack() -> None:
    inbox = synced()
    inbox.own("S", 20, 10, 0.0)
    inbox.offer(message(10, 0), 0.0)
    assert seqs(inbox) == [10] and not inbox.has_gaps


def test_what_comes_before_the_first_sync_waits_for_the_read_position() -> None:
    inbox = Inbox()
    inbox.offer(message(30, 20), 0.0)
    inbox.offer(message(5, 4, "T"), 0.0)
    assert seqs(inbox) == [] and inbox.pulls(1.0) == []
    inbox.hot("S", 30, 20, 0.0)
    assert seqs(inbox) == [30]
    inbox.synced(0.0)
    (pull,) = inbox.pulls(1.0)  # T is new: all of it
    assert (pull.session, pull.top, pull.floor) == ("T", 5, 0)


def test_after_being_away_what_is_newer_is_fetched() -> None:
    inbox = Inbox()
    inbox.restore("S", 10)
    inbox.hot("S", 10, 0, 0.0)
    assert inbox.pulls(1.0) == []
    inbox.hot("S", 30, 0, 0.0)
    inbox.hot("T", 5, 3, 0.0)  # a session that we never saw: from its read position on
    found = sorted((p.session, p.top, p.floor) for p in inbox.pulls(1.0))
    assert found == [("S", 30, 10), ("T", 5, 3)]


def test_a_gap_that_lasts_too_long_lets_through_what_waits_and_delivers_the_missing_late() -> None:
    inbox = synced()
    inbox.offer(message(10, 0), 0.0)
    inbox.offer(message(40, 30), 0.0)
    (pull,) = inbox.pulls(1.0)
    inbox.failed(pull, 1.0)
    assert inbox.pulls(1.0) == []
    (pull,) = inbox.pulls(HOLE_SECONDS + 0.1)
    assert positions(inbox) == [0, 10, None]  # 40 is delivered, and another start would ask for the missing ones
    inbox.offer(message(50, 40), HOLE_SECONDS + 1)
    assert seqs(inbox) == [50]
    page = [message(s, s - 10, via="history") for s in (50, 40, 30, 20)]
    inbox.page(pull, page, set(), HOLE_SECONDS + 2)
    if inbox.has_gaps:  # the page ended at 40
        (pull,) = inbox.pulls(HOLE_SECONDS + 3)
        inbox.page(pull, page, set(), HOLE_SECONDS + 3)
    steps = [(step.message and step.message.seq_id, step.position) for step in inbox.take()]
    assert (steps, inbox.has_gaps) == ([(20, 20), (30, 30), (None, 40), (None, 50)], False)


def test_time_without_a_connection_makes_no_hole() -> None:
    inbox = synced()
    inbox.offer(message(40, 30), 0.0)
    inbox.connected(HOLE_SECONDS * 2)
    assert [p.top for p in inbox.pulls(HOLE_SECONDS * 2 + 1)] == [40]
    assert seqs(inbox) == []


def test_what_a_sync_announces_while_a_page_is_under_way_is_fetched_as_well() -> None:
    inbox = synced()
    inbox.restore("S", 10)
    inbox.hot("S", 30, 0, 0.0)
    (pull,) = inbox.pulls(1.0)
    inbox.hot("S", 50, 0, 1.0)
    inbox.page(pull, [message(30, 20), message(20, 10)], set(), 2.0)
    (pull,) = inbox.pulls(3.0)
    assert (pull.top, pull.floor) == (50, 30)
    inbox.page(pull, [message(50, 40), message(40, 30)], set(), 3.0)
    assert seqs(inbox) == [20, 30, 40, 50]


def test_a_message_before_the_first_sync_waits_for_what_is_unread_before_it() -> None:
    inbox = Inbox()
    inbox.offer(message(30, 20), 0.0)
    assert (seqs(inbox), inbox.pulls(1.0)) == ([], [])
    inbox.hot("S", 30, 10, 1.0)
    (pull,) = inbox.pulls(2.0)
    assert (pull.top, pull.floor) == (30, 10)


def test_a_new_group_begins_where_its_new_member_came() -> None:
    inbox = synced()
    inbox.offer(message(30, 20, session="GC_1"), 0.0)
    assert seqs(inbox) == [30]


@given(st.integers(0, 2**32), st.integers(2, 30))
def test_whatever_is_lost_repeated_or_overtaken_all_arrive_once_in_order(seed: int, count: int) -> None:
    rng = random.Random(seed)
    inbox, got = Inbox(), []
    inbox.restore("S", 0)
    stored = [message(n * 10, (n - 1) * 10) for n in range(1, count + 1)]
    pushed = [m for m in stored if rng.random() < 0.7] + rng.sample(stored, rng.randrange(count))
    if rng.random() < 0.5:
        rng.shuffle(pushed)
    for clock, m in enumerate(pushed):
        inbox.offer(m, float(clock))
        for pull in inbox.pulls(float(clock)):
            page = [x for x in reversed(stored) if pull.floor < x.seq_id <= pull.top]
            inbox.page(pull, page, set(), float(clock))
        got += seqs(inbox)
    clock = float(len(pushed)) + 1
    inbox.hot("S", stored[-1].seq_id, 0, clock)
    for pull in inbox.pulls(clock + 1):
        inbox.page(pull, [x for x in reversed(stored) if pull.floor < x.seq_id <= pull.top], set(), clock)
    got += seqs(inbox)
    assert got == [m.seq_id for m in stored]


# ---- the outbox


def outgoing(n: int, session: str = "S") -> Outgoing:
    return Outgoing(f"p{n}", 14, session, b"", 4, lambda result, error: None)


def ids(messages: list[Outgoing]) -> list[str]:
    return [m.pack_id for m in messages]


def filled(count: int, **options: Any) -> Outbox:
    box = Outbox(**options)
    for n in range(count):
        box.add(outgoing(n))
    return box


def test_the_window_bounds_what_is_under_way() -> None:
    box = filled(5, window=2)
    assert ids(box.due(0.0)) == ["p0", "p1"]
    assert box.due(0.0) == []
    box.take("p0")
    assert ids(box.due(0.0)) == ["p2"]


def test_a_lost_connection_sends_all_again_in_order_as_tried() -> None:
    box = filled(4, window=3)
    box.due(0.0)
    box.take("p1")
    box.lost()
    again = box.due(0.0)
    assert ids(again) == ["p0", "p2", "p3"]
    assert [m.tried for m in again] == [True, True, False]


def test_an_unknown_outcome_stops_the_session_and_goes_back_to_its_oldest() -> None:
    box = filled(4, window=4, seed=1)
    box.add(outgoing(9, "T"))
    box.due(0.0)
    box.unknown("p1", 0.0)
    box.unknown("p2", 0.0)  # of those that fail with it
    assert box.due(0.0) == []
    assert ids(box.due(10.0)) == ["p0", "p1", "p2", "p3"]  # session T is still under way


def test_only_what_was_sent_before_is_marked_as_a_resend() -> None:
    box = filled(3, window=2, seed=1)
    box.due(0.0)
    box.unknown("p0", 0.0)
    box.take("p1")
    assert [(m.pack_id, m.tried) for m in box.due(10.0)] == [("p0", True), ("p2", False)]


def test_an_ack_that_comes_while_the_session_waits_counts() -> None:
    box = filled(3, seed=1)
    box.due(0.0)
    box.unknown("p0", 0.0)
    assert box.take("p2") is not None
    assert ids(box.due(10.0)) == ["p0", "p1"]


def test_the_pause_obeys_the_server() -> None:
    box = filled(1, seed=1)
    box.due(0.0)
    box.unknown("p0", 0.0, retry_after=7.0)
    assert box.due(6.9) == []
    assert ids(box.due(7.0)) == ["p0"]


def test_everything_is_taken_once() -> None:
    box = filled(50, window=7)
    for _ in itertools.count():
        due = box.due(0.0)
        if not due:
            break
        for m in due:
            assert box.take(m.pack_id) is m
            assert box.take(m.pack_id) is None
    assert len(box) == 0


def test_a_full_outbox_says_so_until_there_is_room() -> None:
    box = filled(2, limit=3)
    box.check_room()
    box.add(outgoing(2))
    with pytest.raises(OutboxFull, match="3 messages wait"):
        box.check_room()
    box.take("p0")
    box.check_room()


def test_the_outbox_is_bounded_in_bytes_as_well() -> None:
    box = Outbox()
    box.add(Outgoing("p", 14, "S", bytes(OUTBOX_BYTES), 4, lambda result, error: None))
    with pytest.raises(OutboxFull):
        box.check_room()
    box.take("p")
    box.check_room()


# ---- the mailbox and the requests


def test_a_full_mailbox_drops_events_and_says_how_many() -> None:
    box = Mailbox(lambda session, position: None, limit=2)
    for n in range(5):
        box.tell(Read("S", n, "bob"))
    assert box.full and not box.roomy
    assert [next(box.events(0.0)) for _ in range(2)] == [Read("S", 0, "bob"), Read("S", 1, "bob")]
    box.tell(Read("S", 9, "bob"))
    assert list(box.events(0.0)) == [Missed(3), Read("S", 9, "bob")]
    assert box.idle


def test_messages_pass_over_other_events() -> None:
    box = Mailbox(lambda session, position: None)
    box.tell(Resync())
    box.put(message(10, 0), 10)
    box.tell(Resync())
    assert [m.seq_id for m in box.messages(0.0)] == [10]
    assert box.idle


def test_a_position_is_kept_when_the_program_is_through_with_what_is_below_it() -> None:
    kept: list[tuple[str, int]] = []
    box = Mailbox(lambda session, position: kept.append((session, position)))
    box.advance("S", 5)
    assert kept == [("S", 5)]
    for seq in (10, 20):
        box.put(message(seq, seq - 10), seq)
    box.advance("S", 30)  # an own message
    messages = box.messages(0.0)
    assert next(messages).seq_id == 10
    assert (next(messages).seq_id, kept[1:], box.idle) == (20, [("S", 10)], False)
    messages.close()  # type: ignore[attr-defined]
    assert (kept[2:], box.idle) == ([("S", 30)], True)


def test_a_closed_mailbox_gives_what_it_has_and_ends() -> None:
    box = Mailbox(lambda session, position: None)
    box.put(message(10, 0), 10)
    box.close()
    assert [m.seq_id for m in box.messages(None)] == [10]


def test_a_request_is_completed_once() -> None:
    outcomes: list[Any] = []
    sent: list[str] = []

    def send(pack_type: int, payload: bytes, pack_id: str, flags: int) -> bool:
        sent.append(pack_id)
        return True

    def done(result: Any, error: Exception | None) -> None:
        outcomes.append(error or result)

    requests = Requests(send)
    for _ in range(2):
        requests.ask(t.PING, None, done)
    pack = Pack(t.PING, 1, ACK, sent[0], encode_payload(s.CommonErrorCode(code=1, desc="no")))
    requests.answered(pack)
    requests.answered(pack)
    requests.expire(time.monotonic() + ANSWER_SECONDS + 1)
    requests.fail_all(ConnectionLost("gone"))
    assert [type(o) for o in outcomes] == [Refused, NotAnswered]
