"""Listening to sessions of others (22-24): who may, what comes, and the audit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packs import structs as s
from packs import table as t
from packs.codec import JSON
from packs.flags import COUNTER, DUP
from packs.ids import single_session
from tests.controls import DELETE, OVERRIDE, REVOKE, control, controlled, send
from tests.groups import create, join, leave, quiet, say
from tests.raw import Raw, code, decode
from tests.system import LAYOUTS, System, running, topology_text
from tests.waiting import wait_until

WATCHERS = ["watcher", "other-watcher"]


@pytest.fixture(scope="module", params=list(LAYOUTS))
def watched(request: pytest.FixtureRequest) -> Iterator[System]:
    with running(topology_text(request.param, tables={"auth": {"monitors": WATCHERS}})) as found, found.unharmed():
        yield found


def listen(raw: Raw, session: str) -> int:
    return code(raw.ask(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=session)))


def stop(raw: Raw, session: str) -> int:
    return code(raw.ask(t.SESSION_MONITOR_STOP, s.SessionMonitor(session_id=session)))


def listed(raw: Raw) -> list[s.HotSessionItem]:
    response = raw.ask(t.SESSION_MONITOR_SYNC)
    assert code(response) == 0
    found: list[s.HotSessionItem] = response.sessions
    return found


def audit(system: System, count: int = 1000) -> list[dict[str, Any]]:
    done = system.run("user", "audit", "--json", "--count", str(count))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_messages_of_a_session_come_as_to_a_participant(watched: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b = watched.client(alice), watched.client(bob)
    w = watched.client("watcher")
    web = watched.connect(codec=JSON)
    web.login("other-watcher")
    session = single_session(alice, bob)
    assert [listen(w, f"SC_{bob}_{alice}"), listen(web, session)] == [0, 0]  # in either order
    first = a.text(bob, "hi", "m1")
    second = b.text(alice, "ho", "m2", flags=0)
    a.text(carol, "not listened to")
    for raw in (w, web):
        packs = [raw.pack(), raw.pack()]
        assert [(p.type, p.flags, p.pack_id) for p in packs] == [(14, COUNTER, "m1"), (14, 0, "m2")]
        found = [decode(p) for p in packs]
        assert [(m.content, m.sender) for m in found] == [("hi", alice), ("ho", bob)]
        assert [m.seq_id for m in found] == [first.seq_id, second.seq_id]
        assert found[1].prev_seq_id == first.seq_id and found[0].session_id == session
    assert code(a.text(bob, "hi", "m1", COUNTER | DUP)) == 46
    for raw in (w, web):
        again = raw.pack()
        assert again.flags == COUNTER | DUP and decode(again).seq_id == first.seq_id
    assert stop(w, session) == 0
    a.text(bob, "unheard")
    assert web.push(t.MSG_SINGLE_CHAT).content == "unheard"
    assert w.silent(0.2)
    assert stop(w, session) == 0  # again


def test_groups_and_notices(watched: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, w = watched.client(alice), watched.client("watcher")
    group = create(a, bob)
    assert [listen(w, group), listen(w, f"BM_shop_{alice}")] == [0, 0]
    ack = say(a, group, "to all")
    got = w.push(t.MSG_GROUP_CHAT)
    assert (got.content, got.seq_id, got.to) == ("to all", ack.seq_id, group)
    watched.call("chat.notify", "shop", alice, "news", 1, COUNTER, ["", "", ""], "n1")
    assert w.push(t.MSG_BIZ_NOTIFY).content == "news"
    assert [i.session_id for i in listed(w)] == [group, f"BM_shop_{alice}"]


@pytest.mark.parametrize("in_group", [False, True])
def test_what_is_done_to_messages_comes_too(watched: System, user: Callable[[], str], in_group: bool) -> None:
    """Controls are heard; the list shows what was sent in the first place, but for what was deleted."""
    alice, bob = user(), user()
    a, w = watched.client(alice), watched.client("watcher")
    to = create(a, bob) if in_group else bob
    first, second = send(a, to, "first"), send(a, to, "second")
    assert listen(w, first.session) == 0
    assert control(a, second, REVOKE) == 0
    heard = controlled(w)
    assert (heard.command, heard.seq_id, heard.operator_id) == (REVOKE, second.seq, alice)
    assert [m.content for item in listed(w) for m in map(decode, item.last_msgs)] == ["second"]
    assert control(a, first, OVERRIDE, "changed") == 0
    assert (controlled(w).content, control(a, second, DELETE)) == ("changed", 0)
    assert controlled(w).command == DELETE
    assert [m.content for item in listed(w) for m in map(decode, item.last_msgs)] == ["first"]


def test_who_takes_part_gets_each_message_once(watched: System, user: Callable[[], str]) -> None:
    alice = user()
    a, w = watched.client(alice), watched.client("watcher")
    group = create(a, "watcher")
    assert not quiet(w)  # told that he is in it
    assert [listen(w, group), listen(w, single_session(alice, "watcher"))] == [0, 0]
    say(a, group, "one")
    a.text("watcher", "two")
    assert sorted(decode(w.pack()).content for _ in range(2)) == ["one", "two"]
    w.text(alice, "mine")
    assert quiet(w)
    assert leave(a, group, "watcher") == 0
    say(a, group, "he listens still")
    while (pack := w.pack()).type != t.MSG_GROUP_CHAT:
        assert pack.type == t.SYNC_DATA_CMD
    assert decode(pack).content == "he listens still"
    assert join(a, group, "watcher") == 0


def test_who_has_no_right(watched: System, user: Callable[[], str]) -> None:
    alice = user()
    raw = watched.client(alice)
    for pack_type in (t.SESSION_MONITOR_START, t.SESSION_MONITOR_STOP, t.SESSION_MONITOR_SYNC):
        for payload in ({"sessionId": f"SC_{alice}_bob"}, {"sessionId": "?"}, {}, b"\xc1"):
            assert code(raw.ask_any(pack_type, payload)) == 23
    assert code(raw.ask(t.PING)) == 0
    watched.client(user()).text("bob", "x")
    assert raw.silent(0.1)
    assert not any(row["who"] == alice for row in audit(watched))


@pytest.mark.parametrize(
    "payload, expected",
    [
        ({"sessionId": ""}, 2), ({}, 2), ({"sessionId": "x"}, 2), ({"sessionId": "SC_a"}, 2), ({"sessionId": 1}, 42),
        (b"\xc1", 42), ({"sessionId": "GC_none"}, 35),
    ],
)  # fmt: skip
def test_what_cannot_be_listened_to(watched: System, payload: Any, expected: int) -> None:
    raw = watched.client("watcher")
    assert code(raw.ask_any(t.SESSION_MONITOR_START, payload)) == expected
    assert listed(raw) == []


def test_history_of_others_stays_closed(watched: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    watched.client(alice).text(bob, "x")
    w = watched.client("watcher")
    session = single_session(alice, bob)
    assert listen(w, session) == 0
    assert code(w.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=0))) == 28


def test_the_sessions_that_one_listens_to(watched: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, w = watched.client(alice), watched.client("watcher")
    a.text(bob, "old")
    with_bob, with_carol, silent = (single_session(alice, x) for x in (bob, carol, user()))
    assert [listen(w, x) for x in (with_bob, with_carol, with_bob, silent)] == [0] * 4
    a.text(carol, "new")
    assert w.push(t.MSG_SINGLE_CHAT).content == "new"
    rows = [(i.session_id, [decode(p).content for p in i.last_msgs]) for i in listed(w)]
    assert rows == [(silent, []), (with_bob, ["old"]), (with_carol, ["new"])]
    web = watched.connect(codec=JSON)
    web.login("watcher", device_type=6)
    assert listed(web) == []  # each connection listens for itself


def test_long_messages_do_not_make_the_answer_too_large(watched: System, user: Callable[[], str]) -> None:
    alice = user()
    a, w = watched.client(alice), watched.client("watcher")
    for _ in range(4):
        peer = user()
        assert listen(w, single_session(alice, peer)) == 0
        a.text(peer, "\x01" * 40_000)
        assert w.push(t.MSG_SINGLE_CHAT).seq_id
    assert [len(i.last_msgs) for i in listed(w)] == [1, 1, 0, 0]


def test_it_ends_with_the_connection_or_the_user(watched: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, session = watched.client(alice), single_session(alice, bob)
    for end in (Raw.close, lambda raw: raw.login(user())):
        w = watched.client("watcher")
        assert listen(w, session) == 0
        end(w)
        wait_until(lambda: [r["action"] for r in audit(watched, 2)] == ["stop", "start"], "the end in the audit")
        assert audit(watched, 1)[0]["session"] == session
    a.text(bob, "unheard")
    assert w.silent(0.2)
    assert code(w.ask(t.SESSION_MONITOR_SYNC)) == 23  # another user now


def test_requests_are_served_in_order(watched: System, user: Callable[[], str]) -> None:
    sessions = [single_session(user(), user()) for _ in range(20)]
    w = watched.client("watcher")
    for session in sessions:
        w.request(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=session))
        w.request(t.SESSION_MONITOR_STOP, s.SessionMonitor(session_id=session))
    for _ in range(900):
        w.send_any(t.SESSION_MONITOR_START, {"sessionId": "?"})
    w.request(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=sessions[0]))
    answers = [decode(w.pack()) for _ in range(941)]
    assert [code(x) for x in answers] == [0] * 40 + [2] * 900 + [0]
    assert [i.session_id for i in listed(w)] == sessions[:1]


def test_the_audit(watched: System, user: Callable[[], str]) -> None:
    session = single_session(user(), user())
    w = watched.client("watcher", device_id="desk-7")
    assert [listen(w, session), len(listed(w)), stop(w, session)] == [0, 1, 0]
    rows = audit(watched, 3)
    assert [row["action"] for row in rows] == ["stop", "read", "start"]
    for row in rows:
        assert (row["who"], row["session"]) == ("watcher", session)
        assert (row["device"], row["address"]) == ("desk-7", "127.0.0.1")
    assert rows[0]["time"] >= rows[2]["time"] > 1_700_000_000_000
    lines = [line for line in watched.log.splitlines() if session in line]
    assert len(lines) == 3
    assert all("audit=true who=watcher" in line and "device=desk-7" in line for line in lines)
    text = watched.run("user", "audit", "--count", "1").stdout
    assert "stop   watcher" in text and session in text


def test_a_store_that_is_down_hears_nothing(user: Callable[[], str]) -> None:
    """What cannot be audited does not happen."""
    with running(topology_text(tables={"auth": {"monitors": WATCHERS}})) as found:
        w = found.client("watcher")
        session = single_session(user(), user())
        found.signal(found.pid("redis"), signal.SIGSTOP)
        answer = w.request(t.SESSION_MONITOR_START, s.SessionMonitor(session_id=session))
        assert code(w.answer(answer)) == 6
        found.signal(found.pid("redis"), signal.SIGCONT)
        wait_until(lambda: listed(w) == [], "an answer")
