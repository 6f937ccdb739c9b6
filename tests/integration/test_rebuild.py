"""An emptied Redis is filled again from the archive, and holds what it held."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from store.address import parse_url
from store.archive.database import Archive
from store.archive.sessions import Waiting, undrained
from store.archive.url import parse_archive
from store.client import wait_until_ready
from store.keys import Keys
from store.redis import Redis
from store.registrations import Registration, Registrations
from store.scripts import ALL
from tests import archives
from tests.controls import DELETE, OVERRIDE, REVOKE, control, priorities, read, send
from tests.groups import create, dismiss, leave, update
from tests.integration.test_olap import archive_of, server_of, wait_archived
from tests.integration.test_one_history import fill, history
from tests.people import add, block, blocklist, delete
from tests.phones import QUICK
from tests.raw import Raw, code
from tests.system import System, running, topology_text
from tests.waiting import wait_until

PASSING = re.compile(r"\{u\d\d\}:[dlrj]:|\{s\d\d\}:[dx]:|:log$|:stamp$|^imesh:")
"""Keys that no rebuild restores: dedup, logins, devices, recent sessions (with other stamps), notes, log."""


@pytest.fixture(params=["sqlite", "mariadb"])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    url = "embedded" if request.param == "sqlite" else request.getfixturevalue("mariadb").make("rebuild")
    tables = {"store": {"archive": url, "hot_messages": 30}, "push": QUICK}
    with running(topology_text(tables=tables)) as made:
        yield made


def dump(server: redis.Redis) -> dict[str, Any]:
    """All that Redis holds and a rebuild restores."""
    found: dict[str, Any] = {}
    for key in server.scan_iter(count=1000):
        name = key.decode()
        if PASSING.search(name):
            continue
        kind = server.type(key)
        if kind == b"hash":
            found[name] = {f: v for f, v in server.hgetall(key).items() if f != b"a" and not f.startswith(b"w:")}
        elif kind == b"zset":
            found[name] = server.zrange(key, 0, -1, withscores=True)
        elif kind == b"set":
            found[name] = server.smembers(key)
    return {name: value for name, value in found.items() if value}


def people(system: System) -> dict[str, Raw]:
    """Users who have done everything that is kept."""
    raws = {name: system.client(name) for name in ("ann", "ben", "cat", "dan")}
    ann, ben, cat, dan = raws.values()
    for raw, name in ((ann, "Ann ü 中文"), (ben, "Ben")):
        info = s.UserInfo(name=name, mobile="123", avatar="http://x/y", birthday=123_456_789_000)
        assert code(raw.ask(t.USERINFO_UPDATE, s.UserInfoUpdateReq(user_info=info))) == 0
    assert [add(ann, "ben"), add(ben, "cat"), add(cat, "ann"), add(ann, "dan")] == [0] * 4
    assert delete(ann, "dan") == 0
    assert [block(dan, "ann"), block(ben, "dan")] == [0, 0]
    for name, value in (("REMARK", "my Ben"), ("color", "blue 中"), ("gone", "x"), ("gone", "")):
        about = s.UserAttribute(friend_id="ben", attr_name=name, attr_value=value)
        assert code(ann.ask(t.USERATTRIBUTE_SET, s.UserAttrSetReq(attribute=about))) == 0
    _register(system, "ann")
    attribute = s.SessionAttrSetReq(session_id="SC_ann_ben", attr_name="TOP", attr_value="1")
    assert code(ann.ask(t.SESSIONATTRIBUTE_SET, attribute)) == 0
    return raws


def _register(system: System, user: str) -> None:
    """A phone's token, as a push node keeps it."""
    path = server_of(system).connection_pool.connection_kwargs["path"]
    client = Redis(parse_url(f"unix://{path}"), ALL)
    wait_until_ready(client, 10)
    Registrations(client, client, Keys(64)).put(user, Registration(1, "phone", "app", "fcm", "token"))
    client.close()


def _undrained(system: System) -> list[Waiting]:
    archive = Archive(parse_archive(archive_of(system), system.data))
    found = archive.read(undrained)
    archive.close()
    return found


def talk(raws: dict[str, Raw]) -> dict[str, str]:
    """Sessions and groups with all that can be done in them."""
    ann, ben, cat, _ = raws.values()
    team, other, over = create(ann, "ann", "ben", "cat"), create(ben, "ben", "cat"), create(cat, "cat", "dan")
    sent = fill(ann, "ben", 50) + fill(ben, "ann", 3)
    for message, command in ((0, DELETE), (3, OVERRIDE), (45, REVOKE), (46, DELETE), (48, OVERRIDE)):
        assert control(ann, sent[message], command, "new") == 0
    assert read(ben, sent[0].session, sent[20].seq) == 0
    posts = fill(ann, team, 40)
    assert control(ann, posts[39], DELETE) == control(ann, posts[38], REVOKE) == 0
    assert read(cat, team, posts[35].seq) == 0
    for to in ("ben", team):
        send(ann, to, "urgent", COUNTER | HIGH_PRIORITY)
    send(cat, over)
    assert [dismiss(cat, over), leave(cat, other, "cat"), update(ben, other, name="new")] == [0, 0, 0]
    return {"chat": sent[0].session, "team": team, "other": other}


def seen(raws: dict[str, Raw], sessions: dict[str, str]) -> dict[str, Any]:
    """What each of them sees."""
    found: dict[str, Any] = {}
    for name, raw in raws.items():
        hot = raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0))
        found[f"{name}.hot"] = [(i.session_id, i.read_seq_id, i.unread_count, i.last_msgs) for i in hot.sessions]
        found[f"{name}.queue"] = priorities(raw).msgs
        found[f"{name}.friends"] = raw.ask(t.FRIEND_SYNC, s.FriendSyncReq(timestamp=0)).friends
        found[f"{name}.groups"] = raw.ask(t.GROUPCHAT_SYNC, s.GroupChatSyncReq(timestamp=0)).group_chats
        found[f"{name}.blocked"] = blocklist(raw)
    for name, session in sessions.items():
        found[name] = history(raws["ben"], session)
    return found


def same(after: dict[str, Any], before: dict[str, Any]) -> None:
    for name, value in before.items():
        assert after[name] == value, name


@pytest.mark.seconds(110)
def test_everything_is_there_again_and_goes_on(system: System, user: Callable[[], str]) -> None:
    raws = people(system)
    sessions = talk(raws)
    server = server_of(system)
    before = seen(raws, sessions)
    wait_archived(system)
    wait_until(lambda: sum(server.xlen(key) for key in server.scan_iter("*:log")) == 0, "the log is drained")
    wait_until(lambda: not any(w.rows for w in _undrained(system)), "the node has noted it")
    kept = dump(server)
    refused = system.run("rebuild")
    assert refused.returncode == 1 and "nothing to rebuild" in refused.stderr
    server.flushall()
    early, ask = system.client("eve"), s.MsgReq(to="fay", content="too early")
    wait_until(lambda: code(early.ask(t.MSG_SINGLE_CHAT, ask)) == 7, "messages are refused")
    done = system.run("rebuild", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"restored +\d+ messages", done.stdout) and re.search(r": \d+ rows", done.stderr)
    wait_until(lambda: code(early.ask(t.MSG_SINGLE_CHAT, ask)) == 0, "messages are taken again")
    again = dump(server)
    assert {name for name in kept if name not in again} == set()
    assert "{u" in next(name for name in again if name.endswith(":k:ann"))
    for name in kept:
        if not re.match(r"\{s\d\d\}:[hmt]:", name):
            assert again[name] == kept[name], name
    same(seen(raws, sessions), before)
    _goes_on(system, raws, sessions)


def _goes_on(system: System, raws: dict[str, Raw], sessions: dict[str, str]) -> None:
    """Numbers grow, repeats are known, and what comes now is archived."""
    ann, ben = raws["ann"], raws["ben"]
    newest = history(ben, sessions["chat"])[0]
    flags = COUNTER | HIGH_PRIORITY | DUP
    message = s.MsgReq(to="ben", content="urgent", content_type=1)
    answer = ann.answer(ann.request(t.MSG_SINGLE_CHAT, message, newest[2], flags))
    assert (code(answer), answer.seq_id) == (46, newest[0])
    sent = send(ann, "ben")
    assert sent.seq > newest[0] and sent.prev == newest[0]
    assert send(ann, sessions["team"]).seq
    wait_archived(system)
    assert (sent.session, sent.seq) in archives.cold_rows(archive_of(system), system.data)


@pytest.mark.seconds(110)
def test_a_new_archive_gets_what_redis_holds_and_an_embedded_redis_is_filled_by_itself() -> None:
    with running(topology_text()) as made:
        raws = people(made)
        sessions = talk(raws)
        before = seen(raws, sessions)
        wait_archived(made)
        made.stop()
        (made.data / "archive.db").unlink()
        made.up()
        hot = archives.hot_rows(server_of(made))
        cold = archives.cold_rows("embedded", made.data)
        assert not archives.differences(hot, cold)
        made.stop()
        for path in (made.data / "redis").rglob("*"):
            if path.is_file():
                path.unlink()
        made.up()
        raws = {name: made.client(name) for name in raws}
        after = seen(raws, sessions)
        for name in before:
            if not name.endswith((".hot", "chat", "team")):  # what only the old archive had is gone
                assert after[name] == before[name], name
        assert after["chat"] == before["chat"][: len(after["chat"])] and len(after["chat"]) >= 28
        assert "Redis is empty: it is filled from the archive" in made.log
