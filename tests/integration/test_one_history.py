"""One history: Redis keeps a window of it, the archive the rest, and readers notice nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, DUP, HIGH_PRIORITY, OVERRIDE, REVOKE
from store.keys import Keys
from store.settings import LEAST
from tests.controls import DELETE, Sent, control, priorities, read, recent, send, unread
from tests.controls import OVERRIDE as OVERRIDING
from tests.controls import REVOKE as REVOKING
from tests.groups import create
from tests.integration.test_olap import server_of, wait_archived
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until

KEYS = Keys(64)
MANY = 90


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def narrow(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system whose Redis keeps as little as it may."""
    url = "embedded" if request.param == "sqlite" else request.getfixturevalue("mariadb").make("one_history")
    store = {"archive": url, "hot_messages": LEAST}
    with running(topology_text(tables={"store": store})) as system:
        yield system


def fill(raw: Raw, to: str, count: int = MANY, flags: int = COUNTER) -> list[Sent]:
    """Messages of one session, sent at once, oldest first."""
    kind = t.MSG_GROUP_CHAT if to.startswith("GC_") else t.MSG_SINGLE_CHAT
    ids = [raw.request(kind, s.MsgReq(to=to, content=f"{n}"), "", flags) for n in range(count)]
    return [Sent(raw.answer(pack_id), pack_id) for pack_id in ids]


def wait_trimmed(system: System, session: str) -> Any:
    """Wait until Redis holds no more than its window, but for messages that were just changed."""
    server = server_of(system)

    def narrow() -> bool:
        edge = server.hget(KEYS.meta(session), "a")
        return edge is not None and server.zcount(KEYS.history(session), f"({int(edge)}", "+inf") <= LEAST

    wait_until(narrow, "Redis keeps the window only")
    return server


def forget_repeats(server: Any) -> None:
    for key in server.scan_iter("{s*}:d:*"):
        server.delete(key)


def pages(raw: Raw, session: str, count: int) -> Iterator[s.HistoryMsgPullResp]:
    below = 0
    while True:
        page = raw.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=below, count=count))
        assert code(page) == 0, page
        if not page.msgs:
            return
        yield page
        below = decode(page.msgs[-1]).seq_id - 1


def history(raw: Raw, session: str, count: int = 200) -> list[tuple[int, int, str, str, int]]:
    """seqId, prevSeqId, packId, content and flags of all messages, newest first."""
    found = []
    for page in pages(raw, session, count):
        for pack in page.msgs:
            message = decode(pack)
            found.append((message.seq_id, message.prev_seq_id, pack.pack_id, message.content, pack.flags))
    return found


def seqs(raw: Raw, session: str, count: int = 200) -> list[int]:
    return [row[0] for row in history(raw, session, count)]


@pytest.mark.parametrize("group", [False, True], ids=["single", "group"])
def test_pages_go_on_in_the_archive(narrow: System, user: Callable[[], str], group: bool) -> None:
    a, b = user(), user()
    raw = narrow.client(a)
    to = create(raw, a, b) if group else b
    sent = fill(raw, to)
    session = sent[0].session
    assert [control(raw, sent[i], DELETE) for i in (0, 7, 8, 40, MANY - 1)] == [0] * 5
    wait_trimmed(narrow, session)
    there = [m for n, m in enumerate(sent) if n not in (0, 7, 8, 40, MANY - 1)][::-1]
    for count in (1, 7, LEAST - 1, LEAST, 200):
        found = history(raw, session, count)
        assert [(row[0], row[1], row[2]) for row in found] == [(m.seq, m.prev, m.pack_id) for m in there]
    assert [row[3] for row in history(narrow.client(b), session)] == [str(sent.index(m)) for m in there]


def test_a_page_is_right_while_the_window_moves(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, reader = narrow.client(a), narrow.client(b)
    sent: list[Sent] = []
    for _ in range(8):
        sent += fill(raw, b, 50)
        found = seqs(reader, sent[0].session, 20)
        assert found[-len(sent) :] == [m.seq for m in sent[::-1]]
    wait_trimmed(narrow, sent[0].session)
    assert seqs(reader, sent[0].session) == [m.seq for m in sent[::-1]]


def test_archived_messages_are_revoked_overridden_and_deleted(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, reader = narrow.client(a), narrow.client(b)
    sent = fill(raw, b)
    session = sent[0].session
    wait_trimmed(narrow, session)
    assert unread(reader, session) == MANY
    assert control(raw, sent[3], OVERRIDING, "new") == 0
    assert control(raw, sent[4], REVOKING) == 0
    assert control(raw, sent[5], DELETE) == 0
    assert control(raw, sent[6], OVERRIDING, "first") == control(raw, sent[6], OVERRIDING, "second") == 0
    assert control(raw, sent[6], REVOKING) == control(raw, sent[6], DELETE) == 0
    wrong = Sent.__new__(Sent)
    wrong.session, wrong.seq, wrong.pack_id = session, sent[9].seq, "other"
    assert [control(raw, wrong, DELETE), control(reader, sent[9], DELETE)] == [44, 33]
    assert control(raw, sent[5], REVOKING) == 44

    def look() -> None:
        found = {row[0]: row for row in history(reader, session, 17)}
        assert len(found) == MANY - 2 and sent[5].seq not in found and sent[6].seq not in found
        assert found[sent[3].seq][3:] == ("new", COUNTER | OVERRIDE)
        assert found[sent[4].seq][3:] == ("", COUNTER | REVOKE)
        assert unread(reader, session) == MANY - 3

    look()
    wait_archived(narrow)
    look()
    assert control(raw, sent[3], DELETE) == 0
    assert sent[3].seq not in seqs(reader, session)


def test_unread_is_exact_for_who_reads_in_the_archive(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, reader = narrow.client(a), narrow.client(b)
    sent = fill(raw, b)
    session = sent[0].session
    assert control(raw, sent[10], DELETE) == control(raw, sent[50], REVOKING) == 0
    wait_trimmed(narrow, session)
    for n, left in ((2, MANY - 3 - 2), (10, MANY - 11 - 1), (11, MANY - 12 - 1), (50, MANY - 51), (3, MANY - 51)):
        assert read(reader, session, sent[n].seq) == 0
        assert unread(reader, session) == left
    assert read(reader, session, sent[55].seq) == 0
    item = recent(reader, session)
    assert item is not None and (item.read_seq_id, item.unread_count) == (sent[55].seq, MANY - 56)
    assert read(reader, session, 2**52) == 0
    assert unread(reader, session) == 0


def test_the_newest_message_is_shown_also_when_it_is_archived(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, reader = narrow.client(a), narrow.client(b)
    sent = fill(raw, b)
    session = sent[0].session
    server = wait_trimmed(narrow, session)
    kept = server.zcard(KEYS.history(session))
    for message in sent[-kept:]:
        assert control(raw, message, DELETE) == 0
    assert server.zcard(KEYS.history(session)) == 0
    item = recent(reader, session)
    assert item is not None and decode(item.last_msgs[0]).seq_id == sent[-kept - 1].seq
    assert seqs(reader, session) == [m.seq for m in sent[: -kept][::-1]]


def test_what_must_not_be_missed_is_read_from_the_archive(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, reader = narrow.client(a), narrow.client(b)
    group = create(raw, a, b)
    urgent = [send(raw, to, "urgent", COUNTER | HIGH_PRIORITY) for to in (b, group, b, group)]
    assert control(raw, urgent[2], DELETE) == 0
    for to in (b, group):
        wait_trimmed(narrow, fill(raw, to)[0].session)
    assert control(raw, urgent[3], DELETE) == 0
    found = [decode(p).seq_id for p in priorities(reader).msgs if p.type in (t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT)]
    assert sorted(found) == [urgent[0].seq, urgent[1].seq]
    wait_archived(narrow)
    assert [decode(p).seq_id for p in priorities(reader).msgs if p.type != t.MSG_CTRL] == found


def resend(raw: Raw, message: Sent, to: str, content: str, flags: int = COUNTER) -> str:
    return raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=to, content=content), message.pack_id, flags | DUP)


def test_a_resend_that_redis_forgot_is_found_in_the_archive(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw = narrow.client(a)
    sent = fill(raw, b)
    session = sent[0].session
    assert control(raw, sent[1], REVOKING) == control(raw, sent[2], DELETE) == 0
    server = wait_trimmed(narrow, session)
    forget_repeats(server)  # as if an hour had passed
    for n, answer in ((0, 46), (1, 46), (2, 46), (50, 46), (MANY - 1, 46)):
        ack = raw.answer(resend(raw, sent[n], b, str(n)))
        assert (code(ack), ack.seq_id, ack.prev_seq_id) == (answer, sent[n].seq, sent[n].prev)
    assert code(raw.answer(resend(raw, sent[3], b, "other"))) == 2
    assert len(seqs(raw, session)) == MANY - 1


def test_nothing_overtakes_a_message_of_which_the_archive_is_asked(narrow: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw = narrow.client(a)
    sent = fill(raw, b)
    server = wait_trimmed(narrow, sent[0].session)
    forget_repeats(server)
    names = [f"new-{n}" for n in range(150)]
    ids = []
    for n, name in enumerate(names):
        again = DUP if n % 10 == 0 else 0
        ids.append(raw.request(t.MSG_SINGLE_CHAT, s.MsgReq(to=b, content=name), name, COUNTER | again))
        if n == 75:
            ids.append(resend(raw, sent[5], b, "5"))
    answers = [raw.answer(pack_id) for pack_id in ids]
    assert [code(answer) for answer in answers] == [0] * 76 + [46] + [0] * 74
    found = history(raw, sent[0].session)
    assert [row[2] for row in found[:150]] == names[::-1]
    assert len(found) == MANY + 150
    assert list(itertools.pairwise(seqs(raw, sent[0].session))) == [(row[0], row[1]) for row in found[:-1]]
