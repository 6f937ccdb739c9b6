"""The coalescing Redis client and the scripts, on a real server that dies, hangs and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import gevent
import pytest

from mesh.loop import post
from store import redis as client_module
from store.address import parse_url
from store.client import Client, wait_until_ready
from store.entries import parse, tail
from store.errors import StoreRefused, StoreUnavailable
from store.keys import Keys
from store.redis import Redis
from store.sessions import (
    ASK,
    BLOCKED,
    CHANGED,
    CONFLICT,
    FAILED,
    NO_GROUP,
    NOT_FRIENDS,
    NOT_MEMBER,
    REPEATED,
    STORED,
    Message,
    Sessions,
    Stored,
)
from store.users import Users
from tests.redis_server import Server
from tests.waiting import wait_until


def send(redis: Redis, *args: Any) -> list[Any]:
    """Issue a command from the hub; its outcome appears in the list."""
    outcome: list[Any] = []
    post(redis.command, lambda reply, error: outcome.append(error or reply), *args)
    return outcome


def test_replies_are_matched_in_order(redis: Redis) -> None:
    outcomes = [send(redis, "ECHO", f"{n}") for n in range(500)]
    wait_until(lambda: all(outcomes), "all replies")
    assert [o[0] for o in outcomes] == [str(n).encode() for n in range(500)]


def test_large_commands_and_replies_pass(redis: Redis) -> None:
    blob = os.urandom(3_000_000)
    assert redis.ask("SET", "k", blob) == b"OK"
    assert redis.ask("GET", "k") == blob


def test_an_error_reply_is_of_its_own_command_only(redis: Redis) -> None:
    good, bad, after = send(redis, "SET", "k", "v"), send(redis, "LPUSH", "k", "x"), send(redis, "GET", "k")
    wait_until(lambda: good and bad and after, "all replies")
    assert isinstance(bad[0], StoreRefused) and bad[0].ran == "no"
    assert after == [b"v"]


def test_commands_wait_out_a_restart_and_run_in_order(server: Server, redis: Redis) -> None:
    server.signal(signal.SIGKILL)
    outcomes = [send(redis, "RPUSH", "list", n) for n in range(50)]
    server.start()
    wait_until(lambda: all(outcomes), "all replies")
    assert [o[0] for o in outcomes] == list(range(1, 51))
    assert redis.reconnects == 1


def test_a_stopped_redis_fails_everything_at_the_deadline_and_nothing_overtakes(
    server: Server, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "DEADLINE", 0.5)
    server.signal(signal.SIGSTOP)
    first = send(redis, "SET", "a", 1)
    gevent.sleep(0.3)
    second = send(redis, "SET", "b", 2)
    wait_until(lambda: first and second, "both to fail")
    assert isinstance(first[0], StoreUnavailable) and first[0].ran == "maybe"
    assert isinstance(second[0], StoreUnavailable)
    monkeypatch.setattr(client_module, "DEADLINE", 5.0)
    server.signal(signal.SIGCONT)
    wait_until_ready(redis, 10)
    assert redis.ask("SET", "c", 3) == b"OK"


def test_flushed_scripts_are_loaded_again(redis: Redis) -> None:
    sessions = make_sessions(redis)
    assert [s.status for s in commit(sessions, message("SC_a_b", "a", "1"))] == [STORED]
    redis.ask("SCRIPT", "FLUSH")
    assert [s.status for s in commit(sessions, message("SC_a_b", "a", "2"))] == [STORED]


# ---- the message script


def make_sessions(redis: Client, **options: int) -> Sessions:
    return Sessions(redis, redis, Keys(64), **{"dedup_seconds": 3600, "log_seconds": 600, **options})


def pairs_of(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def message(session: str, sender: str, pack_id: str, text: bytes = b"x", peer: str = "") -> Message:
    payload = b"\x81\xa1c\xc4\x01" + text[:1]
    return Message(session, sender, peer, pack_id, text.ljust(4, b"\0")[:4], True, tail(14, 4, pack_id, payload))


def commit(sessions: Sessions, *messages: Message, require_friend: bool = False) -> list[Stored]:
    outcome: list[Any] = []
    post(sessions.commit, messages, require_friend, lambda found, error: outcome.append(found or error))
    wait_until(lambda: outcome, "the commit")
    assert not isinstance(outcome[0], Exception), outcome[0]
    return list(outcome[0])


def page(sessions: Sessions, session: str, below: int = 0, count: int = 100) -> list[Any]:
    outcome: list[Any] = []
    post(sessions.page, session, below, count, lambda found, error: outcome.append((found, error)))
    wait_until(lambda: outcome, "the page")
    assert outcome[0][1] is None
    return list(outcome[0][0].entries)


def test_numbers_grow_and_are_chained(redis: Redis) -> None:
    sessions = make_sessions(redis)
    found = commit(sessions, *(message("SC_a_b", "a", f"p{n}") for n in range(20)))
    numbers = [s.seq for s in found]
    assert numbers == sorted(set(numbers))
    assert [s.prev for s in found] == [0, *numbers[:-1]]
    entries = page(sessions, "SC_a_b")
    assert [(e.seq, e.prev, e.n, e.pack_id) for e in reversed(entries)] == [
        (s.seq, s.prev, n + 1, f"p{n}") for n, s in enumerate(found)
    ]
    assert [e.seq for e in page(sessions, "SC_a_b", numbers[5], 3)] == [numbers[5], numbers[4], numbers[3]]


def test_a_repeat_gets_the_first_numbers_and_other_content_is_a_conflict(redis: Redis) -> None:
    sessions = make_sessions(redis)
    first, other = commit(sessions, message("SC_a_b", "a", "p", b"one"), message("SC_a_b", "b", "p", b"two"))
    assert (first.status, other.status) == (STORED, STORED)  # the scope is (session, sender)
    again, conflict = commit(sessions, message("SC_a_b", "a", "p", b"one"), message("SC_a_b", "a", "p", b"new"))
    assert again == Stored(REPEATED, first.seq, first.prev, 0)
    assert conflict.status == CONFLICT
    assert len(page(sessions, "SC_a_b")) == 2


def test_a_repeat_leaves_no_trace(redis: Redis) -> None:
    sessions, session = make_sessions(redis), "SC_a_b"
    one, again, two = commit(sessions, *(message(session, "a", p) for p in ("1", "1", "2")))
    assert again == Stored(REPEATED, one.seq, one.prev, 0) and two.prev == one.seq
    before = [redis.ask("DUMP", key) for key in sorted(redis.ask("KEYS", "{s*"))]
    repeats = commit(sessions, message(session, "a", "1"), message(session, "a", "2"))
    assert repeats == [again, two._replace(status=REPEATED)]
    assert [redis.ask("DUMP", key) for key in sorted(redis.ask("KEYS", "{s*"))] == before
    (three,) = commit(sessions, message(session, "a", "3"))
    assert three.prev == two.seq and [e.n for e in page(sessions, session)] == [3, 2, 1]


def test_what_was_stored_is_acknowledged_again_also_when_it_would_be_refused_now(redis: Redis) -> None:
    sessions, keys = make_sessions(redis), Keys(64)
    single, group = "SC_a_b", "GC_1"
    redis.ask("HSET", keys.meta(single), "f:a", "1")
    redis.ask("HSET", keys.group_info(group), "version", "7")
    redis.ask("ZADD", keys.members(group), "0", "a")
    sent = [message(single, "a", "1", peer="b"), message(group, "a", "1", peer="#")]
    stored = commit(sessions, *sent, require_friend=True)
    assert [(s.status, s.version) for s in stored] == [(STORED, 0), (STORED, 7)]
    again = [s._replace(status=REPEATED, version=0) for s in stored]
    redis.ask("HSET", keys.meta(single), "b:b", "1")
    redis.ask("DEL", keys.members(group))
    new = [message(single, "a", "2", peer="b"), message(group, "a", "2", peer="#")]
    assert commit(sessions, *sent, require_friend=True) == again
    assert [s.status for s in commit(sessions, *new)] == [BLOCKED, NOT_MEMBER]
    redis.ask("HDEL", keys.meta(single), "b:b", "f:a")
    redis.ask("DEL", keys.group_info(group))
    assert commit(sessions, *sent, require_friend=True) == again
    assert [s.status for s in commit(sessions, *new, require_friend=True)] == [NOT_FRIENDS, NO_GROUP]
    other = [message(single, "a", "1", b"else", peer="b"), message(group, "a", "1", b"else", peer="#")]
    assert [s.status for s in commit(sessions, *other, require_friend=True)] == [CONFLICT, CONFLICT]


def test_relations_are_checked_in_the_script(redis: Redis) -> None:
    sessions = make_sessions(redis)
    meta = Keys(64).meta("SC_a_b")
    assert commit(sessions, message("SC_a_b", "a", "1", peer="b"), require_friend=True)[0].status == NOT_FRIENDS
    redis.ask("HSET", meta, "f:a", "1")
    assert commit(sessions, message("SC_a_b", "a", "2", peer="b"), require_friend=True)[0].status == STORED
    redis.ask("HSET", meta, "b:b", "1")
    assert commit(sessions, message("SC_a_b", "a", "3", peer="b"))[0].status == BLOCKED
    assert commit(sessions, message("SC_a_b", "b", "4", peer="a"))[0].status == STORED


def test_a_message_that_fails_is_not_overtaken_and_others_are_left_alone(redis: Redis) -> None:
    sessions = make_sessions(redis)
    redis.ask("SET", Keys(64).history("SC_a_b"), "not a sorted set")
    found = commit(
        sessions, message("SC_a_b", "a", "1"), message("SC_c_d", "c", "1"), message("SC_a_b", "a", "2")
    )  # fmt: skip
    assert [s.status for s in found] == [FAILED, STORED, FAILED]
    assert "WRONGTYPE" in found[0].text and "WRONGTYPE" in found[2].text
    redis.ask("DEL", Keys(64).history("SC_a_b"))
    found = commit(sessions, message("SC_a_b", "a", "1"), message("SC_a_b", "a", "2"))
    assert [s.status for s in found] == [STORED, STORED] and found[0].prev == 0


def test_messages_of_a_session_that_come_together_are_as_if_each_had_come_alone(redis: Redis) -> None:
    sessions = make_sessions(redis)
    first = commit(sessions, message("SC_a_b", "a", "0"))[0]
    news = [message("SC_a_b", sender, f"{n}") for n, sender in enumerate("aabab")]
    news[2] = news[2]._replace(countable=False)
    found = commit(sessions, *news[1:3], message("SC_c_d", "c", "1"), *news[3:])
    mine = [first, *found[:2], *found[3:]]
    assert [s.status for s in found] == [STORED] * 5
    assert [s.prev for s in mine] == [0, *(s.seq for s in mine[:-1])]
    entries = [parse(entry) for entry in redis.ask("ZRANGE", Keys(64).history("SC_a_b"), 0, -1)]
    assert [(e.seq, e.prev, e.n, e.pack_id) for e in entries] == [
        (s.seq, s.prev, n, f"{k}") for k, (s, n) in enumerate(zip(mine, (1, 2, 2, 3, 4), strict=True))
    ]
    head = pairs_of(redis.ask("HGETALL", Keys(64).meta("SC_a_b")))
    assert head == {
        b"q": b"%d" % mine[4].seq, b"n": b"4", b"r:a": b"%d:3" % mine[3].seq, b"r:b": b"%d:4" % mine[4].seq,
    }  # fmt: skip


def test_a_repeat_among_messages_that_come_together(redis: Redis) -> None:
    sessions = make_sessions(redis)
    one, two = message("SC_a_b", "a", "1"), message("SC_a_b", "a", "2")
    found = commit(sessions, one, two, one, one._replace(crc=b"else"))
    assert [s.status for s in found] == [STORED, STORED, REPEATED, CONFLICT]
    assert (found[2].seq, found[2].prev) == (found[0].seq, found[0].prev)
    assert redis.ask("ZCARD", Keys(64).history("SC_a_b")) == 2


def test_what_cannot_be_written_as_a_whole_is_taken_back(redis: Redis) -> None:
    sessions, keys = make_sessions(redis), Keys(64)
    urgent = message("GC_g", "a", "1")._replace(priority=True)
    queue = f"{keys.session_tag('GC_g')}:c:GC_g"
    redis.ask("SET", queue, "not a sorted set")
    found = commit(sessions, message("GC_g", "a", "0"), urgent, urgent, message("SC_c_d", "c", "1"))
    assert [s.status for s in found] == [FAILED, FAILED, FAILED, STORED]
    assert redis.ask("ZCARD", keys.history("GC_g")) == 0 and not redis.ask("EXISTS", keys.meta("GC_g"))
    redis.ask("DEL", queue)
    found = commit(sessions, message("GC_g", "a", "0"), urgent, urgent)
    assert [s.status for s in found] == [STORED, STORED, REPEATED]
    assert redis.ask("ZCARD", keys.history("GC_g")) == 2


def test_nothing_overtakes_what_could_not_be_written(redis: Redis) -> None:
    sessions, keys = make_sessions(redis), Keys(64)
    redis.ask("HSET", keys.meta("SC_a_b"), "q", 7, "a", 7)  # the archive has messages of it
    redis.ask("SET", keys.history("SC_a_b"), "not a sorted set")
    again = message("SC_a_b", "b", "2")._replace(again=True)
    one = message("SC_a_b", "a", "1")
    found = commit(sessions, one, one._replace(crc=b"else"), again, message("SC_a_b", "a", "3"))
    assert [s.status for s in found] == [FAILED] * 4
    found = commit(sessions, again)
    assert [s.status for s in found] == [ASK]


def test_a_full_redis_takes_nothing(redis: Redis) -> None:
    sessions = make_sessions(redis)
    redis.ask("CONFIG", "SET", "maxmemory", 1)
    names = ("SC_a_b", "SC_c_d", "SC_e_f")
    found = commit(sessions, *(message(name, name[3], f"{n}") for n in range(2) for name in names))
    assert [s.status for s in found] == [FAILED] * 6
    redis.ask("CONFIG", "SET", "maxmemory", 0)
    assert redis.ask("DBSIZE") == 0


def test_what_is_not_noted_is_not_acknowledged(redis: Redis) -> None:
    sessions, recent = make_sessions(redis), Keys(64).recent("b")
    news = [message("SC_a_b", "a", f"{n}")._replace(users=("b",)) for n in range(2)]
    redis.ask("SET", recent, "not a sorted set")
    assert [s.status for s in commit(sessions, *news)] == [FAILED, FAILED]
    redis.ask("DEL", recent)
    assert [s.status for s in commit(sessions, *news)] == [REPEATED, REPEATED]
    assert redis.ask("ZRANGE", recent, 0, -1) == [b"SC_a_b"]


def test_a_repeat_of_what_is_gone_is_no_news_beside_a_new_message(redis: Redis) -> None:
    sessions, keys = make_sessions(redis), Keys(64)
    old = message("SC_a_b", "a", "1")
    commit(sessions, old)
    redis.ask("UNLINK", keys.history("SC_a_b"), keys.meta("SC_a_b"))
    assert [s.status for s in commit(sessions, message("SC_a_b", "a", "2"), old)] == [STORED, CHANGED]


def test_numbers_stay_above_what_was_seen_even_when_the_data_are_gone(redis: Redis) -> None:
    sessions = make_sessions(redis)
    far = commit(sessions, message("SC_a_b", "a", "1"))[0].seq + 10**12
    sessions._floor = far
    redis.ask("FLUSHALL")
    assert commit(sessions, message("SC_a_b", "a", "2"))[0].seq == far
    assert commit(sessions, message("SC_a_b", "a", "3"))[0].seq == far + 1


def test_every_row_is_in_the_log_of_its_shard(redis: Redis) -> None:
    sessions = make_sessions(redis)
    stored = commit(sessions, message("SC_a_b", "a", "1"), message("SC_a_b", "a", "2"))
    stored += commit(sessions, message("SC_a_b", "a", "3"))
    log = redis.ask("XRANGE", f"{Keys(64).session_tag('SC_a_b')}:log", "-", "+")
    together, alone = (fields for _, fields in log)
    assert together[:2] == [b"m", b"SC_a_b"] and together[2::2] == [b"e", b"e"]
    assert alone[:2] == [b"s", b"SC_a_b"] and alone[2::2] == [b"e"]
    assert [parse(entry).seq for entry in (*together[3::2], *alone[3::2])] == [s.seq for s in stored]


def test_keys_that_must_expire_do(redis: Redis) -> None:
    commit(make_sessions(redis), message("SC_a_b", "a", "1"))
    (dedup,) = redis.ask("KEYS", "*:d:*")
    assert 3600 < redis.ask("TTL", dedup) <= 7200


def test_login_numbers_grow(redis: Redis) -> None:
    users = Users(redis, redis, Keys(64))
    outcome: list[Any] = []
    for _ in range(3):
        logins = [("alice", 1, b"", 0), ("alice", 1, b"", 0), ("bob", 2, b"", 0)]
        post(users.enter, logins, lambda n, e: outcome.append(n))
    wait_until(lambda: len(outcome) == 3, "the logins")
    numbers = [n for found in outcome for n in found[:2]]
    assert numbers == sorted(set(numbers))
    newest: list[Any] = []
    post(users.numbers, [("alice", 1), ("bob", 2), ("carl", 1)], lambda n, e: newest.append(n))
    wait_until(lambda: newest, "the newest numbers")
    assert newest[0] == [numbers[-1], outcome[-1][2], 0]


@pytest.mark.parametrize("url", ["http://x", "redis://", "redis"])
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_url(url)


def test_passwords_do_not_show() -> None:
    assert "secret" not in repr(parse_url("redis://user:secret@db:6380/2"))
    assert parse_url("redis://user:secret@db:6380/2")[1:] == ("db", 6380, "user", "secret", 2, None)
