"""The olap node: what is stored and done to messages reaches the archive, on SQLite and on MariaDB."""

from __future__ import annotations

import json
import re
import signal
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

from mesh.loop import post
from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, HIGH_PRIORITY
from packs.ids import single_session
from packs.message import stored_payload
from store import entries
from store.address import parse_url
from store.client import wait_until_ready
from store.entries import DELETED, HIDDEN, OVERRIDDEN, REVOKED, Entry
from store.keys import Keys
from store.redis import Redis
from store.scripts import ALL
from store.sessions import Message, Sessions, Stored
from tests import archives
from tests.controls import DELETE, OVERRIDE, REVOKE, control, priorities, recent, send
from tests.groups import create
from tests.raw import code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until

TEXTS = ("text", "ü ∂ 😀 \" ' \\ %s \0", "中文", "x" * 50_000)


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def cold(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system with an archive on each kind of database."""
    url = "embedded" if request.param == "sqlite" else request.getfixturevalue("mariadb").make("olap")
    with running(topology_text(tables={"store": {"archive": url}})) as system:
        yield system


def archive_of(system: System) -> str:
    for line in system.topology.read_text().splitlines():
        if line.startswith("archive = "):
            return line.split('"')[1]
    return "embedded"


def server_of(system: System) -> Any:
    """Its Redis: a `redis.Redis`, or a `redis.RedisCluster`, which has the same methods."""
    url = tomllib.loads(system.topology.read_text()).get("store", {}).get("redis", "embedded")
    if url.startswith("redis+cluster://"):
        host, _, port = url.removeprefix("redis+cluster://").split(",")[0].partition(":")
        return redis.RedisCluster(host, int(port))
    path = next(p for p in (system.data / "run", *Path("/tmp").glob("imesh-*")) if (p / "redis.sock").exists())
    return redis.Redis(unix_socket_path=str(path / "redis.sock"))


def wait_archived(system: System) -> archives.Rows:
    """Wait until the archive has what Redis has, and return it."""
    server = server_of(system)
    hot = archives.hot_rows(server)
    wait_until(
        lambda: not archives.differences(hot, archives.cold_rows(archive_of(system), system.data)),
        "the archive has all of the hot history",
    )
    return hot


def describe(system: System) -> dict[str, str]:
    found: dict[str, str] = system.status()["cold-1"]["nodes"]["olap"]
    return found


def test_what_is_stored_and_what_is_done_to_it_reaches_the_archive(cold: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, other = cold.client(a), cold.client(b)
    group = create(raw, a, b)
    kinds = (0, COUNTER | HIGH_PRIORITY)
    sent = [send(raw, to, text, flags) for to in (b, a, group) for text in TEXTS for flags in kinds]
    sent += [send(other, to) for to in (a, group)]
    for message, command in ((0, OVERRIDE), (1, REVOKE), (2, DELETE), (0, REVOKE), (0, DELETE)):
        assert control(raw, sent[message], command, "new 中文") == 0
    assert control(raw, sent[-1], REVOKE) == 0  # the owner of the group
    hot = wait_archived(cold)
    assert {(m.session, m.seq) for m in sent} <= set(hot)
    assert hot[sent[0].session, sent[0].seq][6:8] == (REVOKED | OVERRIDDEN | DELETED | HIDDEN, 3)
    wait_until(lambda: describe(cold)["log"] == "0 rows, the archive is 0.0 s behind", "status says so")


def test_rows_that_cannot_be_written_are_set_aside_and_hold_up_nobody(cold: System, user: Callable[[], str]) -> None:
    a, b = user(), user()
    raw, server = cold.client(a), server_of(cold)
    first = send(raw, b)
    log = f"{Keys(64).session_tag(first.session)}:log"
    good = Entry(first.seq + 1, first.seq, 2, 14, 4, "p", msgpack.packb({"from": a}))
    bad = (
        {"s": first.session, "e": b"\xff no entry"}, {"x": "y"}, {"s": b"\xff\xfe", "e": entries.build(good)},
        {"s": "x" * 200_000, "e": entries.build(good)},
        {"s": first.session, "e": entries.build(good._replace(payload=msgpack.packb({"from": 5})))},
    )  # fmt: skip
    before = int(describe(cold).get("poisoned", "0").split()[0])
    for fields in bad:
        server.xadd(log, fields)
        send(raw, b)
    wait_archived(cold)
    refused = len(bad) - (archive_of(cold) == "embedded")  # SQLite takes ids of any length
    wait_until(
        lambda: int(describe(cold).get("poisoned", "0").split()[0]) == before + refused, "the rows are set aside"
    )
    assert cold.log.count("a row is set aside") >= refused
    wait_until(lambda: server.xlen(log) == 0, "the log is cut")


def test_messages_can_be_saved_and_read_by_calls(cold: System) -> None:
    session = single_session("importer", "somebody")
    entry = Entry(1_700_000_000_000_000, 0, 1, 14, 4, "p1", msgpack.packb({"from": "importer", "content": "old"}))
    entries_in = [entry, entry._replace(seq=entry.seq + 1, prev=entry.seq, pack_id="p2")]
    for one in [*entries_in, entry]:
        cold.call("olap.save_msg", session, b64encode(entries.build(one)).decode())
    found = cold.call("olap.page", session, 2**53, 10)
    assert [entries.parse(b64decode(e)) for e in found] == entries_in[::-1]
    refused = cold.run("call", "olap.save_msg", session, '"AAAA"')
    assert refused.returncode == 1 and "no entry" in refused.stderr


def test_the_commands_of_the_archive(cold: System) -> None:
    done = cold.run("db", "migrate")
    assert (done.returncode, done.stdout) == (0, "nothing to migrate\n")
    done = cold.run("db", "status")
    assert done.returncode == 0 and re.match(r" +1 messages +20\d\d-", done.stdout), done.stdout + done.stderr
    assert "rows of the log are set aside" in done.stdout
    found = json.loads(cold.run("db", "status", "--json").stdout)
    assert found["migrations"][0]["name"] == "messages" and len(found["newest"]) == min(10, found["set_aside"]) > 0


@pytest.fixture(scope="module")
def narrow() -> Iterator[System]:
    """A system whose log may hold few rows, and which nobody drains when its olap node is stopped."""
    with running(topology_text(tables={"store": {"log_rows": 1000}})) as system:
        yield system


@pytest.mark.seconds(90)
def test_messages_are_refused_before_the_log_is_full_and_taken_when_it_is_drained(narrow: System) -> None:
    raw = narrow.client("a")
    pid = narrow.pid("cold-1")
    narrow.signal(pid, signal.SIGSTOP)
    sent = 0
    while True:  # one by one: what comes together shares rows
        error = raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to="b", content="x"), flags=COUNTER).error_code
        if error.code:
            break
        sent += 1
    assert error.code == 7 and error.retry_after > 0 and sent >= 1000

    def alarm() -> str:
        found: str = narrow.status()["main-1"]["nodes"]["chat"].get("alarm", "")
        return found

    wait_until(lambda: "rows wait in the log" in alarm(), "the alarm to be shown")
    narrow.signal(pid, signal.SIGCONT)
    wait_until(lambda: code(raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to="c", content="x"))) == 0, "messages are taken")
    wait_archived(narrow)
    assert len(archives.cold_rows(archive_of(narrow), narrow.data)) == sent + 1


def test_what_a_dead_chat_node_left_undone_is_done_by_the_drain(cold: System, user: Callable[[], str]) -> None:
    """A message is stored, and whoever stored it does nothing more: nobody is told, nothing is noted."""
    a, b = user(), user()
    session = single_session(a, b)
    payload = stored_payload(s.MsgReq(session_id=session, sender=a, to=b, content="left alone"))
    flags = COUNTER | HIGH_PRIORITY
    path = server_of(cold).connection_pool.connection_kwargs["path"]
    client = Redis(parse_url(f"unix://{path}"), ALL)
    wait_until_ready(client, 10)
    outcome: list[Stored] = []
    message = Message(session, a, b, "p", b"crc.", True, entries.tail(14, flags, "p", payload))
    sessions = Sessions(client, client, Keys(64), dedup_seconds=3600, log_seconds=0)
    post(sessions.commit, [message], False, lambda found, error: outcome.extend(found))
    wait_until(lambda: outcome, "it is stored")
    raw = cold.client(b)
    item = wait_until(lambda: recent(raw, session), "it is among the recent sessions", 20)
    assert item.unread_count == 1 and recent(cold.client(a), session) is not None
    assert [decode(pack).seq_id for pack in priorities(raw).msgs] == [outcome[0].seq]
    client.close()
