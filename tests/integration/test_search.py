"""Searching messages (75), on SQLite and on MariaDB: who finds what, and what is found no more."""

from __future__ import annotations

import json
import signal
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packs import structs_social as x
from packs import table as t
from packs.ids import single_session
from store import entries
from tests.controls import DELETE, OVERRIDE, REVOKE, control, send
from tests.groups import create, join, leave
from tests.mariadb import MariaDB
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until

User = Callable[[], str]


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system with an archive on each kind of database."""
    url = "embedded" if request.param == "sqlite" else request.getfixturevalue("mariadb").make("search")
    with running(topology_text(tables={"store": {"archive": url}})) as found, found.unharmed():
        yield found


def answer(raw: Raw, text: str, **more: Any) -> x.SearchResp:
    found: x.SearchResp = raw.ask(t.SEARCH, x.SearchReq(text=text, **more))
    return found


def search(raw: Raw, text: str, **more: Any) -> list[str]:
    """What all pages of a search say, newest first."""
    found, cursor = [], ""
    while True:
        page = answer(raw, text, cursor=cursor, **more)
        assert code(page) == 0, page
        found += [decode(pack).content for pack in page.msgs]
        cursor = page.cursor
        if not cursor:
            return found


def wait_found(raw: Raw, text: str, count: int = 1) -> None:
    wait_until(lambda: len(search(raw, text)) == count, f"{text} is found {count} times")


def test_everybody_finds_what_he_may_see(system: System, user: User) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = system.client(alice), system.client(bob), system.client(carol)
    group = create(a, alice, bob)
    send(a, bob, "今天天气很好")
    send(b, alice, "Das WETTER, es ist gut")
    send(b, carol, "weather 天气")
    send(b, group, "群里的天气")
    send(a, alice, "note: 天气!")
    system.call("chat.notify", "shop", alice, "天气预报", 1, 0, ["", "", ""], f"n-{alice}")
    wait_found(a, "天气", 4)
    assert search(a, "天气") == ["天气预报", "note: 天气!", "群里的天气", "今天天气很好"]
    assert search(b, "天气") == ["群里的天气", "weather 天气", "今天天气很好"]
    assert search(c, "天气") == ["weather 天气"]
    assert search(a, "gut wetter") == search(b, "Wetter") == ["Das WETTER, es ist gut"]
    assert search(a, "weather") == search(c, "WETTER") == []

    own, other = single_session(alice, bob), single_session(bob, carol)
    assert search(a, "天气", session_id=own) == ["今天天气很好"]
    assert search(a, "天气", session_id=group) == ["群里的天气"]
    assert search(c, "天气", session_id=other) == search(b, "天气", session_id=other) == ["weather 天气"]
    assert search(a, "天气", session_id=single_session(alice, alice)) == ["note: 天气!"]
    assert search(a, "天气", sender_id=bob) == ["群里的天气"]
    assert search(a, "天气", session_id=f"BM_shop_{alice}", sender_id="shop") == ["天气预报"]
    assert [code(answer(a, "天气", session_id=session)) for session in (other, "GC_none", f"BM_shop_{bob}")] == [28] * 3
    assert code(answer(c, "天气", session_id=group)) == 28
    assert join(a, group, carol) == 0
    assert search(c, "天气") == ["群里的天气", "weather 天气"]
    assert leave(a, group, carol) == 0
    assert (search(c, "天气"), code(answer(c, "天气", session_id=group))) == (["weather 天气"], 28)


def test_what_was_revoked_deleted_or_overridden_is_not_found_from_that_moment_on(system: System, user: User) -> None:
    bob = user()
    a = system.client(user())
    sent = [send(a, bob, f"apple {n}") for n in range(4)]
    wait_found(a, "apple", 4)
    pid = system.pid("cold-1")
    assert control(a, sent[0], REVOKE) == 0
    assert search(a, "apple") == ["apple 3", "apple 2", "apple 1"]
    assert control(a, sent[1], DELETE) == 0
    assert search(a, "apple") == ["apple 3", "apple 2"]
    assert control(a, sent[2], OVERRIDE, "pear and 苹果") == 0
    assert search(a, "apple") == ["apple 3"]
    wait_found(a, "苹果 pear")
    assert search(a, "apple") == ["apple 3"]
    assert control(a, sent[2], DELETE) == 0
    assert search(a, "pear") == []
    assert system.pid("cold-1") == pid


def test_pages(system: System, user: User) -> None:
    bob = user()
    a = system.client(user())
    sent = [send(a, bob, f"word {n} " + ("x" * 30_000 if n < 5 else "")) for n in range(12)]
    wait_found(a, "word", 12)
    first = answer(a, "word", count=3)
    assert [decode(pack).seq_id for pack in first.msgs] == [m.seq for m in sent[:8:-1]]
    send(a, bob, "a word that comes between two pages")
    found, cursor = [decode(pack).seq_id for pack in first.msgs], first.cursor
    while cursor:
        page = answer(a, "word", count=3, cursor=cursor)
        assert code(page) == 0 and len(page.msgs) <= 3
        found += [decode(pack).seq_id for pack in page.msgs]
        cursor = page.cursor
    assert found == [m.seq for m in reversed(sent)]
    assert len(answer(a, "word", count=100).msgs) < 12, "a page fits a frame"
    times = [m.seq // 1000 for m in sent]
    assert [w.split()[1] for w in search(a, "word", since=times[3], until=times[6]) if w.split()[1].isdigit()] == [
        str(n) for n in range(11, -1, -1) if times[3] <= times[n] < times[6]
    ]


def test_what_cannot_be_looked_for_is_refused(system: System, user: User) -> None:
    a = system.client(user())
    wrong: list[dict[str, Any]] = [
        {"text": ""}, {"text": "😀 !"}, {"text": " ".join("abcdefghijklmnopq")}, {"text": "x" * 201},
        {"text": "x", "session_id": "nonsense"},
        {"text": "x", "sender_id": "no user"}, {"text": "x", "cursor": "abc"}, {"text": "x", "cursor": "9" * 17},
    ]  # fmt: skip
    assert [code(a.ask(t.SEARCH, x.SearchReq(**fields))) for fields in wrong] == [2] * len(wrong)
    for text in ('" OR *', "a* NEAR(b) -c", "' ; DROP TABLE search", "x" * 200, "+a -b ~c (d) @4", "\0"):
        assert code(answer(a, text)) in (0, 2)
    assert search(a, "x", since=2**60, until=-5) == search(a, "x", until=1) == []


def test_other_nodes_search_by_a_call(system: System, user: User) -> None:
    alice, bob = user(), user()
    a = system.client(alice)
    send(a, bob, "kumquat")
    wait_found(a, "kumquat")
    found = system.call("olap.search", bob, ["kumquat", "", "", 0, 0, "", 5])
    ((session, entry),), cursor = found
    assert (session, cursor) == (single_session(alice, bob), "")
    assert b"kumquat" in entries.parse(b64decode(entry)).payload
    refused = system.run("call", "olap.search", user(), json.dumps(["kumquat", session, "", 0, 0, "", 5]))
    assert refused.returncode == 1 and "28" in refused.stderr


def test_while_sql_is_away_searches_fail_and_nothing_is_lost(mariadb: MariaDB, user: User) -> None:
    with running(topology_text(tables={"store": {"archive": mariadb.make("search_away")}})) as system:
        bob = user()
        a = system.client(user())
        send(a, bob, "elderberry 1")
        wait_found(a, "elderberry", 1)
        mariadb.signal(signal.SIGKILL)
        assert code(answer(a, "elderberry")) == 6
        send(a, bob, "elderberry 2")
        mariadb.start()
        wait_until(lambda: code(answer(a, "elderberry")) == 0, "searches are answered again")
        wait_found(a, "elderberry", 2)


@pytest.mark.seconds(60)
def test_the_index_is_whole_after_the_node_was_killed_and_can_be_made_again(user: User) -> None:
    with running(topology_text(tables={"node.olap": {"search": False}})) as system:
        alice, bob = user(), user()
        a = system.client(alice)
        send(a, bob, "durian 30")
        assert code(answer(a, "durian")) == 6
        assert system.stop() == 0
        system.topology.write_text(topology_text())
        system.up()
        a = system.client(alice)
        for n in range(29):
            send(a, bob, f"durian {n}")
            if n == 20:
                system.kill("cold-1")
        wait_found(a, "durian", 30)
        done = system.run("db", "reindex")
        assert done.returncode == 0 and "indexes all messages again" in done.stdout
        wait_found(a, "durian", 30)
        wait_until(lambda: "the search index has all messages" in system.log, "all are indexed again")
        assert len(search(a, "durian")) == 30
        system.signal(system.pid("cold-1"), signal.SIGTERM)
        wait_until(lambda: code(answer(a, "durian")) == 0, "the node is there again")
