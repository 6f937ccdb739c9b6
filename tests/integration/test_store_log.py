"""The log: groups that read at their own pace, rows that come again, and what may be cut."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from mesh.loop import post
from packs import structs as s
from packs.message import stored_payload
from store.client import wait_until_ready
from store.entries import parse, tail
from store.errors import StoreError
from store.hot import HotStore
from store.keys import Keys
from store.log import ARCHIVE, HOOKS, PUSH, Consumer, Row, message_of
from store.redis import Redis
from store.scripts import ALL
from store.sessions import FAILED, REPEATED, STORED, Message, Sessions, Stored
from store.settings import StoreSettings
from tests.redis_server import Server
from tests.waiting import wait_until

KEYS = Keys(4)
TAGS = KEYS.session_tags()
HOUR_MS = 3_600_000
_pack_ids = itertools.count()
Make = Callable[..., Consumer]


@pytest.fixture
def make(redis: Redis) -> Make:
    """Makes a consumer."""

    def made(group: str = ARCHIVE, name: str = "one", **options: Any) -> Consumer:
        return Consumer(redis, TAGS, group, name, **{"keep_seconds": 600.0, **options})

    return made


def commit(redis: Redis, sessions: Sequence[str], packs: Iterable[str] = map(str, _pack_ids)) -> list[Stored]:
    """A message to each session, all in one call."""
    kept = Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=0)
    payload = stored_payload(s.MsgReq(sender="a", to="b", content="x"))
    messages = [
        Message(name, "a", "", pack_id, b"crc.", True, tail(14, 4, pack_id, payload))
        for name, pack_id in zip(sessions, packs, strict=False)
    ]  # fmt: skip
    outcome: list[Any] = []
    post(kept.commit, messages, False, lambda found, error: outcome.append(found))
    wait_until(lambda: outcome, "the commit")
    return list(outcome[0])


def store(redis: Redis, *sessions: str) -> list[tuple[str, int]]:
    """A message to each session, each in a call and so in a row of its own; (session, seqId)."""
    return [(name, commit(redis, [name])[0].seq) for name in sessions]


def store_together(redis: Redis, *sessions: str) -> list[tuple[str, int]]:
    """The same in one call."""
    return [(name, stored.seq) for name, stored in zip(sessions, commit(redis, sessions), strict=True)]


def told(rows: list[Row]) -> list[tuple[str, int]]:
    found = [message_of(row) for row in rows]
    return sorted((m.session, m.entry.seq) for m in found if m is not None)


def read_all(consumer: Consumer, count: int = 100) -> list[Row]:
    rows: list[Row] = []
    while more := consumer.read(count):
        rows += more
    return rows


def lengths(redis: Redis) -> int:
    return sum(redis.ask("XLEN", f"{tag}:log") for tag in TAGS)


def test_each_group_gets_every_row_at_its_own_pace(redis: Redis, make: Make) -> None:
    early = store(redis, "SC_a_b", "SC_c_d", "SC_e_f", "SC_a_b")
    archive, push = make(ARCHIVE), make(PUSH)
    assert [archive.open(), push.open(), push.open()] == [len(TAGS), len(TAGS), 0]
    late = store(redis, *[f"SC_u_{n}" for n in range(50)])
    assert told(read_all(archive, 7)) == sorted(early + late)
    assert told(read_all(push)) == sorted(early + late)
    assert archive.read(10) == []
    only_new = make(HOOKS)
    only_new.open(start="$")
    assert only_new.read(10) == []
    newest = store(redis, "SC_a_b")
    assert told(only_new.read(10)) == newest


def test_a_row_says_what_was_stored_and_when(redis: Redis, make: Make) -> None:
    consumer = make()
    consumer.open()
    ((_, seq),) = store(redis, "SC_a_b")
    (row,) = consumer.read(10)
    message = message_of(row)
    assert message is not None
    assert (message.session, message.entry.seq, message.operator) == ("SC_a_b", seq, "")
    assert abs(row.stored - seq // 1000) < 1000 and row.tag == KEYS.session_tag("SC_a_b")
    mark = redis.ask("XADD", f"{TAGS[0]}:log", "*", "k", "group", "i", "GC_1")
    assert [(row.id, message_of(row)) for row in consumer.read(10)] == [(mark, None)]


def test_messages_stored_together_share_rows_and_keep_their_order(redis: Redis, make: Make) -> None:
    consumer = make()
    consumer.open()
    here, there, *_ = (name for n in range(99) if KEYS.session_tag(name := f"SC_u_{n}") == TAGS[0])
    stored = store_together(redis, *[here, here, there, here] * 5, "SC_alone")
    rows = read_all(consumer)
    shared = [row for row in rows if row.tag == TAGS[0] and row.fields[1] in (here.encode(), there.encode())]
    assert [(m.session, m.entry.seq) for row in shared if (m := message_of(row))] == stored[:-1]
    assert [row.part for row in shared] == [*range(8), *range(8), *range(4)] and len({row.id for row in shared}) == 3
    assert len({(row.tag, row.name) for row in rows}) == len(stored) and told(rows) == sorted(stored)
    assert lengths(redis) == len({(row.tag, row.id) for row in rows})


def test_a_shared_row_is_done_when_all_of_it_is(redis: Redis, make: Make) -> None:
    consumer = make(idle=0.0)
    consumer.open()
    stored = store_together(redis, *["SC_a_b"] * 6)
    rows = consumer.read(10)
    consumer.ack(rows[:2])
    consumer.ack(rows[3:])
    consumer.ack(rows[3:])  # whoever says it twice means no other part
    consumer.ack([])
    assert consumer.trim().groups[ARCHIVE].pending == 1
    consumer._claim_at = 0.0
    assert consumer.read(10) == []  # it works on one of them
    consumer.ack(rows[2:3])
    assert consumer.trim().groups[ARCHIVE].pending == 0 and lengths(redis) == 0
    consumer.ack(rows)
    assert told(rows) == sorted(stored)


def test_of_a_shared_row_all_comes_again_when_one_part_does(redis: Redis, make: Make) -> None:
    consumer = make(idle=0.0)
    consumer.open()
    stored = store_together(redis, *["SC_a_b"] * 6)
    rows = consumer.read(10)
    consumer.ack(rows[:2])
    consumer.release(rows[2:3])
    consumer.ack(rows[3:])
    assert consumer.trim().groups[ARCHIVE].pending == 1
    consumer._claim_at = 0.0
    again = consumer.read(10)
    assert told(again) == sorted(stored)
    consumer.ack([*rows[1:], *again[1:]])  # from both times
    assert consumer.trim().groups[ARCHIVE].pending == 1
    consumer.take_back(again[:1])
    assert told(consumer.read(10)) == sorted(stored)
    consumer.ack(again)
    assert consumer.trim().groups[ARCHIVE].pending == 0


def test_what_is_done_is_said_with_the_next_call_when_it_could_not_be(server: Server) -> None:
    redis = Redis(server.address, ALL)
    wait_until_ready(redis, 10)
    consumer = Consumer(redis, TAGS, ARCHIVE, "one", keep_seconds=600.0)
    consumer.open()
    store_together(redis, *["SC_a_b"] * 6)
    rows = consumer.read(10)
    consumer.ack(rows[:2])
    server.signal(signal.SIGKILL)
    with pytest.raises(StoreError):
        consumer.ack(rows[2:])
    server.start()
    wait_until_ready(redis, 10)
    consumer.ack([])
    assert consumer.trim().groups[ARCHIVE].pending == 0 and consumer.read(10) == []
    redis.close()


def test_what_cannot_be_added_to_its_log_is_not_called_stored(redis: Redis) -> None:
    redis.ask("SET", f"{TAGS[0]}:log", "no stream")
    sessions = [f"SC_u_{n % 20}" for n in range(40)]
    packs = [str(n) for n in range(20)] * 2  # each is repeated in the same call
    for first, then in ((STORED, REPEATED), (REPEATED, REPEATED)):  # and all in a second one
        outcome = commit(redis, sessions, packs)
        for n, (name, stored) in enumerate(zip(sessions, outcome, strict=True)):
            lost = KEYS.session_tag(name) == TAGS[0]
            assert stored.status == (FAILED if lost else first if n < 20 else then)
            assert ("WRONGTYPE" in stored.text) == lost
    gone = next(name for name in sessions if KEYS.session_tag(name) == TAGS[0])
    assert redis.ask("EXISTS", KEYS.history(gone)) == 0
    redis.ask("DEL", f"{TAGS[0]}:log")
    statuses = {KEYS.session_tag(name) == TAGS[0]: [] for name in sessions}
    for name, stored in zip(sessions[:20], commit(redis, sessions[:20], packs), strict=True):
        statuses[KEYS.session_tag(name) == TAGS[0]].append(stored.status)
    assert set(statuses[True]) == {STORED} and set(statuses[False]) == {REPEATED}


def test_what_was_not_acknowledged_comes_again_after_a_restart(redis: Redis, make: Make) -> None:
    first = make()
    first.open()
    stored = store(redis, *[f"SC_u_{n}" for n in range(20)])
    rows = read_all(first)
    first.ack(rows[:5])
    again = make()
    again.open()
    assert told(read_all(again, 4)) == told(rows[5:])
    assert len(stored) == 20
    newer = store(redis, "SC_a_b")
    again.ack(rows[5:])
    assert told(again.read(10)) == newer


def test_rows_of_a_dead_consumer_and_lost_replies_are_taken_over(redis: Redis, make: Make) -> None:
    dead, alive = make(name="dead"), make(name="alive", idle=0.0)
    dead.open()
    alive.open()
    store(redis, "SC_a_b", "SC_c_d")
    store_together(redis, *["SC_a_b"] * 5)
    lost = dead.read(10)
    dead.ack([row for row in lost if row.part == 1])  # of the shared one
    alive._claim_at = 0.0
    taken = alive.read(10)
    assert told(taken) == told(lost)
    alive._claim_at = 0.0
    assert alive.read(10) == []  # it works on them
    alive.release(taken)
    alive._claim_at = 0.0
    again = alive.read(10)
    assert told(again) == told(lost)
    alive.ack(again)
    assert alive.trim().groups[ARCHIVE].pending == 0


@pytest.mark.parametrize("away", ["for a moment", "for long"])
def test_rows_whose_reply_was_lost_come_again_at_once(server: Server, away: str) -> None:
    redis = Redis(server.address, ALL)
    wait_until_ready(redis, 10)
    consumer = Consumer(redis, TAGS, ARCHIVE, "one", keep_seconds=600.0)
    consumer.open()
    stored = store(redis, *["SC_a_b"] * 20)
    held = consumer.read(8)
    log = f"{KEYS.session_tag('SC_a_b')}:log"
    redis.ask("XREADGROUP", "GROUP", ARCHIVE, "one", "COUNT", "8", "STREAMS", log, ">")  # so nobody gets the reply
    server.signal(signal.SIGKILL)
    if away == "for long":
        with pytest.raises(StoreError):
            consumer.read(8)
    server.start()  # else a read that was under way just runs again, and nobody hears of the first reply
    wait_until(lambda: redis.reconnects, "the client to notice")
    wait_until_ready(redis, 10)
    assert told(read_all(consumer)) == sorted(set(stored) - set(told(held)))
    redis.close()


def test_the_log_is_cut_at_the_slowest_group(redis: Redis, make: Make) -> None:
    archive, push = make(ARCHIVE), make(PUSH)
    archive.open()
    push.open()
    store(redis, *[f"SC_u_{n}" for n in range(30)])
    rows, pushed = read_all(archive), read_all(push)
    push.ack(pushed)
    assert push.trim().length == lengths(redis) == 30
    kept = next(row for row in rows if row.tag == rows[0].tag)
    archive.ack([row for row in rows if row != kept])
    state = archive.trim()
    here = [row for row in rows if row.tag == kept.tag]
    assert state.length == lengths(redis) == len(here)  # from its oldest row on, a shard is kept
    assert (state.groups[ARCHIVE].pending, state.groups[PUSH].pending) == (1, 0)
    assert state.groups[ARCHIVE].lag > 0 and state.groups[PUSH].lag == 0
    archive.ack([kept])
    assert archive.trim().length == lengths(redis) == 0
    assert archive.trim().groups[ARCHIVE].lag == 0


def test_groups_are_passed_over_after_a_while_but_the_archive_never_is(redis: Redis, make: Make) -> None:
    archive, push, hooks = make(ARCHIVE), make(PUSH), make(HOOKS)
    for consumer in (archive, push, hooks):
        consumer.open()
    log = f"{TAGS[1]}:log"
    clock = int(redis.ask("TIME")[0]) * 1000
    for n in range(1200):
        redis.ask("XADD", log, f"{clock - HOUR_MS + n}-0", "s", "SC_a_b", "e", "x")
    fresh = redis.ask("XADD", log, "*", "s", "SC_a_b", "e", "x")
    given = push.read(700)  # of which it acknowledges nothing
    assert len(given) == 700
    passed = {PUSH: 0, HOOKS: 0, ARCHIVE: 0}
    for _ in range(4):
        state = archive.trim()
        for group, progress in state.groups.items():
            passed[group] += progress.passed
    assert passed == {PUSH: 1200, HOOKS: 1200, ARCHIVE: 0}
    assert state.length == 1201 and state.groups[ARCHIVE].lag > 3500
    assert [row.id for row in hooks.read(10)] == [row.id for row in push.read(10)] == [fresh]
    archive.ack(read_all(archive, 500))
    assert archive.trim().length == 1  # what push and hooks were given just now


def test_a_group_whose_log_was_lost_is_made_again(redis: Redis, make: Make) -> None:
    consumer = make()
    consumer.open()
    redis.ask("FLUSHALL")
    stored = store(redis, "SC_a_b")
    assert told(read_all(consumer) or read_all(consumer)) == stored
    assert consumer.remade == len(TAGS)


def test_what_was_left_comes_also_when_one_log_was_lost(redis: Redis, make: Make) -> None:
    consumer = make()
    consumer.open()
    stored = store(redis, *(f"SC_a_{n}" for n in range(40)))
    assert told(consumer.read(1000)) == sorted(stored)  # and its process dies
    again = make()
    again.open()
    redis.ask("DEL", f"{TAGS[0]}:log")
    left = [(session, seq) for session, seq in stored if KEYS.session_tag(session) != TAGS[0]]
    assert 0 < len(left) < len(stored) and told(read_all(again)) == sorted(left)
    assert again.remade == 1


@pytest.mark.seconds(60)
def test_nothing_is_lost_when_redis_is_killed_between(server: Server) -> None:
    redis = Redis(server.address, ALL)
    wait_until_ready(redis, 10)
    consumer = Consumer(redis, TAGS, ARCHIVE, "one", keep_seconds=600.0, idle=0.0)
    consumer.open()
    stored = store_together(redis, *[f"SC_u_{n}" for n in range(40)])
    stored += store(redis, *[f"SC_u_{n}" for n in range(20)])
    seen: list[Row] = []
    for part in range(4):
        rows = consumer.read(4)
        seen += rows
        if part % 2:
            consumer.ack(rows[: len(rows) - part])  # of the last shared one perhaps not all
        server.signal(signal.SIGKILL)
        server.start()
        consumer.trim()
    again = Consumer(redis, TAGS, ARCHIVE, "one", keep_seconds=600.0)
    again.open()
    seen += read_all(again)
    assert set(told(seen)) == set(stored)
    assert {parse(row.fields[3]).seq for row in seen} == {seq for _, seq in stored}
    redis.close()


def test_a_store_makes_consumers_of_all_its_shards(server: Server, tmp_path: Any) -> None:
    hot = HotStore(StoreSettings(redis=server.url, shards=8), tmp_path, tmp_path)
    wait_until_ready(hot.reads, 10)
    consumer = hot.consumer(PUSH, "push-1")
    assert consumer.open() == 8
    assert (consumer.group, consumer.read(1)) == (PUSH, [])
    hot.close()


def test_a_log_that_was_lost_is_not_cut_before_the_archive_reads_it_again(redis: Redis, make: Make) -> None:
    """Others may find out first."""
    archive, push, hooks = make(ARCHIVE), make(PUSH), make(HOOKS)
    archive.open()
    push.open()
    assert push.trim().groups.keys() == {ARCHIVE, PUSH}
    redis.ask("FLUSHALL")
    stored = store(redis, *[f"SC_u_{n}" for n in range(30)])
    pushed = read_all(push)
    assert told(pushed) == sorted(stored)
    push.ack(pushed)
    assert push.trim().length == lengths(redis) == 30
    rows = read_all(archive)
    assert told(rows) == sorted(stored)
    archive.ack(rows)
    assert push.trim().length == 0
    redis.ask("FLUSHALL")
    hooks.open()  # and where there is no archive, it is cut
    store(redis, "SC_a_b")
    hooks.ack(read_all(hooks))
    assert hooks.trim().length == lengths(redis) == 0
