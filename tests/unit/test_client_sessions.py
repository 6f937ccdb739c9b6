"""Several sessions at once: single chats and groups, one's own messages from here and from other devices."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.events import Message
from client.inbox import Inbox
from client.sessions import peer_of, session_of

SESSIONS = ("SC_bob_me", "GC_team", "BM_shop_me")


def message(session: str, seq: int, prev: int, sender: str) -> Message:
    return Message(session, seq, prev, seq // 1000, sender, session, f"m{seq}", 1, 4, f"{session}{seq}", "live")


@given(st.integers(0, 2**32))
def test_each_device_gets_what_others_and_its_other_devices_send_once(seed: int) -> None:
    """Of every session: all that is newer than the read position, without what this device itself has sent."""
    rng = random.Random(seed)
    inbox = Inbox()
    stored: dict[str, list[Message]] = {}
    mine: set[str] = set()
    read: dict[str, int] = {}
    for session in SESSIONS:
        first = rng.randrange(1, 50) * 10
        senders = rng.choices(["bob", "me elsewhere", "me here"], k=rng.randrange(1, 12))
        numbers = [first + 10 * n for n in range(len(senders))]
        chain = zip(numbers, [0, *numbers], senders, strict=False)
        stored[session] = [message(session, seq, prev, sender) for seq, prev, sender in chain]
        read[session] = rng.choice([0, *(m.seq_id for m in stored[session])])
        mine |= {m.pack_id for m in stored[session] if m.sender == "me here" and m.seq_id > read[session]}
    arrivals = [m for messages in stored.values() for m in messages if m.seq_id > read[m.session_id]]
    arrivals = [m for m in arrivals if m.pack_id in mine or rng.random() < 0.6]
    rng.shuffle(arrivals)
    got: dict[str, list[int]] = {session: [] for session in SESSIONS}
    sync_at, acked = rng.randrange(len(arrivals) + 1), set[str]()

    def sync(clock: float) -> None:
        for session in SESSIONS:
            inbox.hot(session, stored[session][-1].seq_id, read[session], clock)
        inbox.synced(clock)

    def turn(clock: float) -> None:
        for pull in inbox.pulls(clock):
            page = [m for m in reversed(stored[pull.session]) if pull.floor < m.seq_id <= pull.top]
            inbox.page(pull, page, mine - acked, clock)
        for step in inbox.take():
            if step.message is not None:
                got[step.session].append(step.message.seq_id)

    for n, arrival in enumerate(arrivals):
        if n == sync_at:
            sync(n / 10)
        if arrival.pack_id in mine:
            inbox.own(arrival.session_id, arrival.seq_id, arrival.prev_seq_id, n / 10)
            acked.add(arrival.pack_id)
        else:
            inbox.offer(arrival, n / 10)
        turn(n / 10)
    sync(5.0)
    turn(6.0)
    for session in SESSIONS:
        expected = [m.seq_id for m in stored[session] if m.seq_id > read[session] and m.pack_id not in mine]
        assert got[session] == expected, session
    assert not inbox.has_gaps


@pytest.mark.parametrize(
    ("where", "session", "peer"),
    [
        ("bob", "SC_bob_me", "bob"),
        ("a_b", "SC_a~b_me", "a_b"),
        ("me", "SC_me_me", "me"),
        ("GC_team", "GC_team", "GC_team"),
        ("SC_me_bob", "SC_bob_me", "bob"),
        ("BM_shop_me", "BM_shop_me", "shop"),
    ],
)
def test_what_names_a_session(where: str, session: str, peer: str) -> None:
    assert session_of("me", where) == session
    assert peer_of("me", session) == peer


def test_what_names_none() -> None:
    with pytest.raises(ValueError, match="no user, group or session id"):
        session_of("me", "a b")
