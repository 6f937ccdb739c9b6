"""Recent sessions with their unread counts, their cursor, and pages of a session's history."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec
from packs.flags import COUNTER
from packs.ids import single_session
from tests.raw import Raw, code, decode
from tests.system import System
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("unharmed")


def recent(raw: Raw, cursor: int = 0) -> s.HotSessionResp:
    answer: s.HotSessionResp = raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
    assert code(answer) in (0, 25)
    assert answer.timestamp >= cursor
    return answer


def page(raw: Raw, session: str, seq: int = 0, count: int = 0) -> list[int]:
    """The numbers of a page."""
    answer = raw.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=seq, count=count))
    assert code(answer) == 0
    return [decode(pack).seq_id for pack in answer.msgs]


# ---- 19: sessions and unread


def test_a_session_as_both_see_it(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    acks = [a.text(bob, str(n)) for n in range(3)]
    (mine,), (theirs,) = recent(a).sessions, recent(b).sessions
    assert mine.session_id == theirs.session_id == single_session(alice, bob)
    assert (mine.unread_count, mine.read_seq_id) == (0, acks[-1].seq_id)  # own messages never count
    assert (theirs.unread_count, theirs.read_seq_id) == (3, 0)
    assert [decode(p).content for p in mine.last_msgs] == [decode(p).content for p in theirs.last_msgs] == ["2"]
    assert theirs.attribute == "{}"


def test_only_messages_with_counter_count(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for flags in (COUNTER, 0, COUNTER, 0, 0):
        a.text(bob, "x", flags=flags)
    assert recent(b).sessions[0].unread_count == 2


def test_a_resend_does_not_count_again(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    for _ in range(3):
        a.text(bob, "x", "same")
    assert recent(b).sessions[0].unread_count == 1


def test_sending_moves_the_senders_read_position(system: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.client(bob)
    a.text(bob, "1")
    a.text(bob, "2")
    reply = b.text(alice, "3")
    a.text(bob, "4")
    (item,) = recent(b).sessions
    assert (item.unread_count, item.read_seq_id) == (1, reply.seq_id)


def test_nothing_yet(system: System, user: Callable[[], str]) -> None:
    raw = system.client(user())
    answer = recent(raw)
    assert (code(answer), answer.sessions, answer.timestamp) == (0, [], 0)
    assert recent(raw, 12345).timestamp >= 12345
    assert recent(raw, 2**53).timestamp >= 2**53
    assert code(raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=-5))) == 0


def test_sessions_come_ascending_by_activity(system: System, user: Callable[[], str]) -> None:
    alice, peers = user(), [user() for _ in range(4)]
    a = system.client(alice)
    for peer in (*peers, peers[1]):
        a.text(peer, "x")
    expected = [single_session(alice, peers[n]) for n in (0, 2, 3, 1)]
    assert [item.session_id for item in recent(a).sessions] == expected


def test_two_hundred_sessions_page_by_page(system: System, user: Callable[[], str]) -> None:
    alice, peers = user(), [user() for _ in range(205)]
    a = system.client(alice)
    for n, peer in enumerate(peers):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=peer, content=str(n)), f"m{n}")
    assert [code(a.answer(f"m{n}")) for n in range(205)] == [0] * 205
    expected = {single_session(alice, peer) for peer in peers}
    pages: list[s.HotSessionResp] = []

    def all_found() -> bool:
        pages[:] = [recent(a)]
        while code(pages[-1]) == 25:
            pages.append(recent(a, pages[-1].timestamp))
        return {item.session_id for p in pages for item in p.sessions} == expected

    wait_until(all_found, "all sessions")  # a list follows the ack a moment later
    assert [code(p) for p in pages] == [25] * (len(pages) - 1) + [0]
    assert max(len(p.sessions) for p in pages) <= 100
    assert [p.timestamp for p in pages[:-1]] == sorted({p.timestamp for p in pages[:-1]})

    # What is younger than a few seconds comes again; as cursors are passed on, nothing is left.
    cursor = pages[-1].timestamp

    def nothing_left() -> bool:
        nonlocal cursor
        answer = recent(a, cursor)
        cursor = answer.timestamp
        return not answer.sessions

    wait_until(nothing_left, "an empty page", 9)

    # Activity puts a session behind the cursor again, whatever happened meanwhile.
    a.text(peers[17], "again")
    assert [item.session_id for item in recent(a, cursor).sessions] == [single_session(alice, peers[17])]


def test_a_session_that_moves_while_pages_are_read_is_not_lost(system: System, user: Callable[[], str]) -> None:
    alice, peers = user(), [user() for _ in range(120)]
    a = system.client(alice)
    for n, peer in enumerate(peers):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=peer, content="x"), f"m{n}")
    for n in range(120):
        a.answer(f"m{n}")
    wait_until(lambda: code(recent(a)) == 25, "more than a page")
    first = recent(a)
    moved = [a.text(peer, "moved").session_id for peer in peers[105:110]]
    second = recent(a, first.timestamp)
    found = {item.session_id for item in (*first.sessions, *second.sessions)}
    assert found == {single_session(alice, peer) for peer in peers}
    assert [item.session_id for item in second.sessions][-5:] == moved


# ---- 21: history


@pytest.fixture(scope="module")
def long_session(system: System) -> tuple[str, str, list[int]]:
    """A reader, a session of 450 messages, and their numbers."""
    alice, bob = "long-alice", "long-bob"
    a = system.client(alice)
    for n in range(450):
        a.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=bob, content=str(n)), f"m{n}", COUNTER)
    return bob, single_session(alice, bob), [a.answer(f"m{n}").seq_id for n in range(450)]


@pytest.mark.parametrize(
    "count, expected", [(0, 30), (-1, 30), (-(2**31), 30), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)]
)
def test_how_many_a_page_holds(
    system: System, long_session: tuple[str, str, list[int]], count: int, expected: int
) -> None:
    reader, session, seqs = long_session
    assert page(system.client(reader), session, 0, count) == seqs[::-1][:expected]


def test_a_page_without_a_count(system: System, long_session: tuple[str, str, list[int]]) -> None:
    reader, session, _ = long_session
    answer = system.client(reader).ask_any(t.HISTORY_MSG_PULL, {"sessionId": session, "seqId": 0})
    assert len(answer.msgs) == 30


def test_bounds_are_inclusive(system: System, long_session: tuple[str, str, list[int]]) -> None:
    reader, session, seqs = long_session
    raw = system.client(reader)
    assert page(raw, session, seqs[10], 3) == [seqs[10], seqs[9], seqs[8]]
    assert page(raw, session, seqs[10] - 1, 2) == [seqs[9], seqs[8]]
    assert page(raw, session, seqs[0], 5) == [seqs[0]]
    assert page(raw, session, seqs[0] - 1, 5) == []
    assert page(raw, session, 1, 5) == []
    for newest in (0, -1, -(2**63), 2**63 - 1, seqs[-1]):
        assert page(raw, session, newest, 2) == [seqs[-1], seqs[-2]]


def test_pages_cover_a_session(system: System, long_session: tuple[str, str, list[int]]) -> None:
    reader, session, seqs = long_session
    raw = system.client(reader)
    found: list[int] = []
    bound = 0
    while part := page(raw, session, bound, 200):
        found += part
        bound = part[-1] - 1
    assert found == seqs[::-1]


def test_a_session_without_messages(system: System, user: Callable[[], str]) -> None:
    alice = user()
    raw = system.client(alice)
    assert page(raw, single_session(alice, "nobody")) == []
    assert page(raw, f"BM_app_{alice}") == []


@pytest.mark.parametrize(
    "session, expected",
    [
        ("SC_long-alice_long-bob", 28), ("SC_{me}~_x", 28), ("SC_x_y", 28), ("BM_{me}_other", 28), ("GC_1", 28),
        ("nonsense", 2), ("SC_{me}", 2), ("SC_a b_{me}", 2), ("GC_", 2), ("SC_{me}_x_y", 2),
    ],
)  # fmt: skip
def test_foreign_and_malformed_sessions(
    system: System, long_session: object, user: Callable[[], str], session: str, expected: int
) -> None:
    me = user()
    answer = system.client(me).ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session.format(me=me), seq_id=0))
    assert (code(answer), answer.msgs) == (expected, [])


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)
@pytest.mark.parametrize("content", ["x" * 60_000, "\x01" * 60_000, "é" * 30_000], ids=["ascii", "control", "umlauts"])
def test_a_page_fits_a_frame_whatever_is_in_it(
    system: System, user: Callable[[], str], codec: Codec, content: str
) -> None:
    alice, bob = user(), user()
    a, b = system.client(alice), system.connect(codec=codec)
    b.login(bob, device_type=2)
    seqs = []
    for _ in range(15):
        seqs.append(a.text(bob, content).seq_id)
        assert b.push(t.MSG_SINGLE_CHAT).content == content
    found: list[int] = []
    bound, session = 0, single_session(alice, bob)
    while part := page(b, session, bound, 200):  # `Raw` takes no frame above the limit
        found += part
        bound = part[-1] - 1
    assert found == seqs[::-1]
    (item,) = recent(b).sessions
    assert decode(item.last_msgs[0]).content == content
