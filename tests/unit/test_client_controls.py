"""What a client does with controls, reads and unread counts, without any I/O."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from client.controls import KEPT_MAX, KEPT_SECONDS, Controls
from client.events import Changed, How, Message, Read
from client.inbox import GAP_SECONDS, HOLE_SECONDS, Inbox
from client.sessions import HotSession
from client.view import View
from packs.flags import COUNTER, OVERRIDE, REVOKE

SESSION = "SC_bob_me"


def message(seq: int, prev: int, sender: str = "bob", flags: int = COUNTER, session: str = SESSION) -> Message:
    return Message(session, seq, prev, seq // 1000, sender, "me", f"m{seq}", 1, flags, f"p{seq}", "live")


def change(seq: int, how: How, at: int = 1, content: str = "", control: str = "", session: str = SESSION) -> Changed:
    return Changed(session, seq, f"p{seq}", how, content, "bob", at, control or f"{how}{seq}at{at}")


def inbox_at(position: int) -> Inbox:
    inbox = Inbox()
    inbox.restore(SESSION, position)
    inbox.synced(0.0)
    return inbox


def given_by(inbox: Inbox) -> list[Message | Changed]:
    return [found for step in inbox.take() if (found := step.message or step.change) is not None]


# ---- controls and messages


def test_a_control_of_a_delivered_message_is_passed_on_once() -> None:
    inbox = inbox_at(0)
    inbox.offer(message(10, 0), 0.0)
    edit = change(10, "edited", content="better")
    for _ in range(2):  # live, and from the high-priority queue
        inbox.control(edit, 0.0)
    assert given_by(inbox) == [message(10, 0), edit]


def test_an_older_control_undoes_no_newer_one() -> None:
    inbox = inbox_at(10)
    second = change(10, "edited", at=2, content="second")
    inbox.control(second, 0.0)
    inbox.control(change(10, "edited", at=1, content="first"), 0.0)
    assert given_by(inbox) == [second]


def test_two_controls_of_one_millisecond_both_count() -> None:
    inbox = inbox_at(10)
    both = [change(10, "edited", content="a", control="1"), change(10, "edited", content="b", control="2")]
    for each in [*both, *both]:
        inbox.control(each, 0.0)
    assert given_by(inbox) == both


def test_a_control_that_comes_before_its_message_is_applied_to_it() -> None:
    inbox = inbox_at(0)
    inbox.control(change(10, "edited", content="better"), 0.0)
    inbox.control(change(20, "revoked"), 0.0)
    inbox.control(change(30, "deleted"), 0.0)
    for seq in (10, 20, 30, 40):
        inbox.offer(message(seq, seq - 10), KEPT_SECONDS - 1)
    got = [m for m in given_by(inbox) if isinstance(m, Message)]
    assert [(m.seq_id, m.content, m.flags) for m in got] == [
        (10, "better", COUNTER | OVERRIDE), (20, "", COUNTER | REVOKE), (40, "m40", COUNTER),
    ]  # fmt: skip


def test_a_control_is_not_kept_for_ever() -> None:
    inbox = inbox_at(0)
    inbox.control(change(10, "edited", content="better"), 0.0)
    inbox.offer(message(10, 0), KEPT_SECONDS + 1)
    assert given_by(inbox) == [message(10, 0)]


def test_a_message_behind_a_gap_is_changed_where_it_waits() -> None:
    inbox = inbox_at(0)
    inbox.offer(message(20, 10), 0.0)
    inbox.control(change(20, "edited", content="better"), 0.0)
    inbox.control(change(10, "deleted"), 0.0)
    (pull,) = inbox.pulls(GAP_SECONDS)
    inbox.page(pull, [message(20, 10), message(10, 0)], set(), 1.0)  # read before the controls were done
    (got,) = given_by(inbox)
    assert isinstance(got, Message) and (got.seq_id, got.content) == (20, "better")


def test_a_message_that_was_let_through_a_gap_was_delivered() -> None:
    inbox = inbox_at(0)
    inbox.offer(message(20, 10), 0.0)
    inbox.pulls(HOLE_SECONDS + 1)
    revoke = change(20, "revoked")
    inbox.control(revoke, HOLE_SECONDS + 2)
    assert given_by(inbox) == [message(20, 10), revoke]


def test_a_control_of_our_own_message_may_overtake_its_acknowledgement() -> None:
    inbox = inbox_at(0)
    edit = change(10, "edited", content="from another device")
    inbox.control(edit, 0.0)
    inbox.own(SESSION, 10, 0, 1.0)
    assert given_by(inbox) == [edit]


def test_the_history_of_controls_is_no_news_to_who_was_never_here() -> None:
    inbox = inbox_at(10)
    inbox.control(change(10, "edited"), 0.0, quiet=True)
    assert given_by(inbox) == []


def test_another_message_under_the_same_number_is_left_alone() -> None:
    assert replace(change(10, "deleted"), pack_id="other").applied_to(message(10, 0)) == message(10, 0)


def test_what_is_revoked_stays_so_when_it_is_edited() -> None:
    revoked = change(10, "revoked").applied_to(message(10, 0))
    assert revoked is not None
    edited = change(10, "edited", content="back again").applied_to(revoked)
    assert edited is not None and (edited.content, edited.revoked, edited.edited) == ("", True, True)


def test_controls_are_bounded() -> None:
    controls = Controls()
    for seq in range(KEPT_MAX + 5):
        assert controls.is_new(change(seq, "edited"))
        controls.keep(change(seq, "edited"), 0.0)
    assert controls.take(SESSION, 4, 0.0) == []
    assert len(controls.take(SESSION, 5, 0.0)) == 1


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_whatever_comes_first_all_see_the_same_in_the_end(seed: int, count: int) -> None:
    """Messages and controls reach the client in any order, some twice, some only by history; the view is the truth."""
    rng = random.Random(seed)
    truth = {n * 10: message(n * 10, (n - 1) * 10) for n in range(1, count + 1)}
    stored = dict(truth)  # what a page may still say: before or after a control
    controls = []
    for at in range(1, rng.randrange(2 * count) + 2):
        seq = rng.choice(sorted(truth)) if truth else 0
        if not seq:
            break
        made = change(seq, rng.choice(["revoked", "edited", "deleted"]), at, f"edit {at}")
        after = made.applied_to(truth.pop(seq))
        if after is not None:
            truth[seq] = after
        controls.append(made)
    arrivals: list[Message | Changed] = [m for m in stored.values() if rng.random() < 0.7]
    arrivals += rng.sample(list(stored.values()), rng.randrange(count + 1))
    rng.shuffle(arrivals)
    places = sorted(rng.randrange(len(arrivals) + 1) for _ in controls)
    for place, made in reversed(list(zip(places, controls, strict=True))):
        arrivals.insert(place, made)
    arrivals += rng.sample(controls, rng.randrange(len(controls) + 1))  # once more, from the queue
    inbox, view, delivered = inbox_at(0), View("me"), []
    for clock, arrival in enumerate(arrivals):
        if isinstance(arrival, Message):
            inbox.offer(arrival, clock / 100)
        else:
            inbox.control(arrival, clock / 100)
        for found in given_by(inbox):
            view.take(found)
            delivered += [found.seq_id] if isinstance(found, Message) else []
    inbox.hot(SESSION, count * 10, 0, 5.0)
    for pull in inbox.pulls(6.0):
        page = [m for seq, m in sorted(truth.items(), reverse=True) if pull.floor < seq <= pull.top]
        inbox.page(pull, page, set(), 6.0)
    for found in given_by(inbox):
        view.take(found)
        delivered += [found.seq_id] if isinstance(found, Message) else []
    assert delivered == sorted(set(delivered)), "each at most once, in order"
    shown = [(m.seq_id, m.content, m.flags) for m in view.of(SESSION).messages]
    assert shown == [(m.seq_id, m.content, m.flags) for _, m in sorted(truth.items())]


# ---- the view


def test_a_view_counts_what_others_write_and_forgets_what_is_read() -> None:
    view = View("me")
    for seq in (10, 20, 30):
        view.take(message(seq, seq - 10))
    view.take(message(40, 30, flags=0))
    assert view.of(SESSION).unread == 3
    view.take(Read(SESSION, 20, "me"))
    view.take(Read(SESSION, 10, "me"))
    view.take(Read(SESSION, 40, "bob"))
    assert (view.of(SESSION).unread, view.of(SESSION).peer_read, view.of(SESSION).peer) == (1, 40, "bob")
    view.take(message(50, 40, sender="me"))
    assert view.of(SESSION).unread == 0


def test_a_view_begins_with_what_the_server_counts() -> None:
    view = View("me")
    view.take(message(40, 30))
    view.hot(HotSession(SESSION, 10, 3, message(40, 30), {"MUTE": "1"}))
    assert (view.of(SESSION).unread, view.of(SESSION).muted) == (3, True)
    view.take(message(30, 20))  # one of the three
    view.take(message(50, 40))
    assert view.of(SESSION).unread == 4
    view.take(change(40, "deleted"))
    assert view.of(SESSION).unread == 3
    view.take(Read(SESSION, 45, "me"))
    assert view.of(SESSION).unread == 1


def test_a_view_holds_no_more_than_it_is_told() -> None:
    view = View("me", kept=3)
    view.page(message(seq, 0) for seq in (50, 40, 30, 20, 10))
    assert [m.seq_id for m in view.of(SESSION).messages] == [30, 40, 50]


@given(st.integers(0, 2**32))
def test_the_unread_count_is_what_the_server_would_derive(seed: int) -> None:
    rng = random.Random(seed)
    view, messages, gone, read, last = View("me"), [], set(), 0, 0
    for _ in range(40):
        match rng.randrange(4):
            case 0 | 1:
                last += 10
                made = message(last, last - 10, rng.choice(["bob", "me"]), rng.choice([COUNTER, 0]))
                messages.append(made)
                view.take(made)
                read = max(read, last if made.sender == "me" else 0)
            case 2 if messages:
                read = max(read, rng.choice(messages).seq_id)
                view.take(Read(SESSION, read, "me"))
            case 3 if messages:
                made = change(rng.choice(messages).seq_id, rng.choice(["revoked", "edited", "deleted"]))
                gone |= {made.seq_id} if made.how != "edited" else set()
                view.take(made)
        expected = [m for m in messages if m.seq_id > read and m.flags & COUNTER and m.seq_id not in gone]
        assert view.of(SESSION).unread == len([m for m in expected if m.sender != "me"])
