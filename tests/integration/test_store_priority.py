"""Queues of what must not be missed: what they hold, and pages of several merged."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mesh.loop import post
from packs import structs as s
from packs.message import stored_payload
from store.entries import Entry, tail
from store.keys import Keys
from store.priority import KEPT_SECONDS, SETTLED_US, Page, Priority, message_item
from store.redis import Redis
from store.sessions import BATCH, MEMBERS_ONLY, Message, Sessions
from tests.waiting import wait_until

KEYS = Keys(64)
BYTES = 100_000
LONG_AGO_US = 3_600_000_000


class Queues:
    """The queues of user "a", who is in some groups."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.priority = Priority(redis, redis, KEYS)
        self.sessions = Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=600)

    @property
    def clock(self) -> int:
        seconds, micros = self.redis.ask("TIME")
        return int(seconds) * 1_000_000 + int(micros)

    def own(self, stamp: int, item: bytes) -> None:
        self.redis.ask("ZADD", KEYS.user_priority("a"), stamp, item)

    def group(self, group: str, stamp: int, item: bytes) -> None:
        self.redis.ask("ZADD", KEYS.group_priority(group), stamp, item)

    def join(self, group: str, joined: int = 1) -> None:
        self.redis.ask("ZADD", f"{KEYS.session_tag(group)}:p:{group}", 0, "a")
        self.redis.ask("ZADD", KEYS.my_groups("a"), joined, group)

    def send(self, pack_id: str, session: str = "SC_a_b", content: str = "x", priority: bool = False) -> int:
        kept = tail(14, 0, pack_id, stored_payload(s.MsgReq(sender="b", to="a", content=content)))
        peer = MEMBERS_ONLY if session.startswith("GC_") else ""
        outcome: list[Any] = []
        message = Message(session, "b", peer, pack_id, b"crc.", False, kept, priority)
        post(self.sessions.commit, [message], False, lambda found, error: outcome.append(found))
        wait_until(lambda: outcome, "the message")
        seq: int = outcome[0][0].seq
        assert seq
        return seq

    def page(self, after: int = 0, count: int = 200, size: int = BYTES) -> Page:
        return self.priority.page("a", after, count, size, lambda wanted: [None] * len(wanted))

    def found(self, **options: Any) -> list[bytes | str]:
        """The items, messages by their packIds."""
        return names(self.page(**options))


@pytest.fixture
def queues(redis: Redis) -> Queues:
    return Queues(redis)


def names(page: Page) -> list[bytes | str]:
    return [item.pack_id if isinstance(item, Entry) else item for item in page.items]


def pack(name: object, size: int = 0) -> bytes:
    return b"\x95" + str(name).encode().ljust(size, b".")


# ---- writing


def test_stamps_grow_and_an_item_keeps_its_first(queues: Queues) -> None:
    ahead = queues.clock + 10**9
    queues.own(ahead, pack("from a clock that was ahead"))
    queues.own(queues.clock - (KEPT_SECONDS + 60) * 1_000_000, pack("old"))
    for _ in range(2):
        queues.priority.add_now([("a", pack(n)) for n in range(3)] + [("b", pack("b"))])
    key = KEYS.user_priority("a")
    rows = queues.redis.ask("ZRANGE", key, 1, -1, "WITHSCORES")
    assert rows[::2] == [pack(n) for n in range(3)]
    first, step = int(rows[1]), KEYS.stamp_step
    assert ahead < first <= ahead + step
    assert [int(stamp) for stamp in rows[1::2]] == [first, first + step, first + 2 * step]
    assert 0 < queues.redis.ask("TTL", key) <= KEPT_SECONDS
    assert queues.redis.ask("ZCARD", KEYS.user_priority("b")) == 1


def test_messages_of_a_group_go_to_its_queue_with_them(queues: Queues) -> None:
    queues.redis.ask("HSET", KEYS.group_info("GC_1"), "version", 1)
    queues.redis.ask("ZADD", f"{KEYS.session_tag('GC_1')}:p:GC_1", 0, "b")
    queues.join("GC_1")
    for n in range(6):
        queues.send(f"m{n}", "GC_1", priority=n % 2 == 0)
    queues.send("m0", "GC_1", priority=True)  # a resend
    assert queues.found() == ["m0", "m2", "m4"]


def test_no_two_queues_give_the_same_stamp(queues: Queues) -> None:
    groups = [f"GC_{n}" for n in range(BATCH)]
    for group in groups:
        queues.redis.ask("HSET", KEYS.group_info(group), "version", 1)
        queues.redis.ask("ZADD", f"{KEYS.session_tag(group)}:p:{group}", 0, "b")
    outcome: list[Any] = []
    kept = tail(15, 0, "m", stored_payload(s.MsgReq(sender="b", content="x")))
    messages = [Message(group, "b", MEMBERS_ONLY, "m", b"crc.", False, kept, True) for group in groups]
    queues.priority.add([("a", pack(n)) for n in range(BATCH)])  # at the same time, as servers of a Cluster do
    post(queues.sessions.commit, messages, False, lambda found, error: outcome.append(found))
    wait_until(lambda: outcome, "the messages")
    assert len({stored.seq for stored in outcome[0]}) == BATCH, "nor do two sessions get the same number in one turn"
    rows = [queues.redis.ask("ZRANGE", KEYS.group_priority(group), 0, -1, "WITHSCORES") for group in groups]
    rows.append(queues.redis.ask("ZRANGE", KEYS.user_priority("a"), 0, -1, "WITHSCORES"))
    by_queue = [[int(stamp) for stamp in row[1::2]] for row in rows]
    stamps = [stamp for queue in by_queue for stamp in queue]
    assert len(stamps) == len(set(stamps)) == 2 * BATCH
    # The servers need not know of each other: what a shard gives differs from what others give, at any time.
    tags = [KEYS.session_tag(group) for group in groups]
    rests = {tag: {x % KEYS.stamp_step for x in queue} for tag, queue in zip(tags, by_queue, strict=False)}
    rests[KEYS.user_tag("a")] = {stamp % KEYS.stamp_step for stamp in by_queue[-1]}
    assert all(len(found) == 1 for found in rests.values())
    assert len({min(found) for found in rests.values()}) == len(rests)


def test_a_message_is_as_it_is_now(queues: Queues) -> None:
    seqs = [queues.send(f"m{n}") for n in range(3)]
    queues.priority.add([("a", message_item("SC_a_b", seq)) for seq in seqs])
    wait_until(lambda: queues.found() == ["m0", "m1", "m2"], "all messages")
    queues.redis.ask("ZREMRANGEBYSCORE", KEYS.history("SC_a_b"), seqs[1], seqs[1])
    assert queues.found() == ["m0", "m2"]


# ---- reading


def test_nothing(queues: Queues) -> None:
    assert queues.page() == Page([], 0, False)
    assert queues.page(after=12345).cursor == 12345
    assert queues.page(after=2**60).cursor == 2**60


def test_the_cursor_of_a_last_page_stays_behind_the_present(queues: Queues) -> None:
    now = queues.clock
    queues.own(now - LONG_AGO_US, pack("old"))
    assert queues.page().cursor == now - LONG_AGO_US
    queues.own(now - 10, pack("new"))
    page = queues.page()
    assert names(page) == [pack("old"), pack("new")]
    assert now - SETTLED_US - 1 <= page.cursor <= queues.clock - SETTLED_US
    assert names(queues.page(page.cursor)) == [pack("new")]
    assert queues.page(after=now - 100).cursor == now - 100, "never less than the request's"


def test_a_full_page_ends_at_its_largest_stamp_and_never_between_equal_ones(queues: Queues) -> None:
    start = queues.clock - LONG_AGO_US
    for group in ("GC_1", "GC_2", "GC_3"):
        queues.join(group)
    for n in range(4):
        queues.own(start + n, pack(f"own {n}"))
    for n, group in enumerate(("GC_1", "GC_2", "GC_3")):
        queues.group(group, start + 2, pack(group))
        queues.group(group, start + 10 + n, pack(f"{group} again"))
    first = queues.page(count=2)
    assert (names(first), first.cursor, first.cut) == ([pack("own 0"), pack("own 1")], start + 1, False)
    second = queues.page(first.cursor, count=2)
    assert sorted(map(str, names(second))) == sorted(map(str, map(pack, ("own 2", "GC_1", "GC_2", "GC_3"))))
    assert second.cursor == start + 2
    assert names(queues.page(second.cursor, count=1)) == [pack("own 3")]


def test_what_is_ahead_of_the_clock_comes_again(queues: Queues) -> None:
    now = queues.clock
    queues.own(now - LONG_AGO_US, pack("old"))
    for n in range(3):
        queues.own(now + LONG_AGO_US + n, pack(n))
    page = queues.page(count=3)
    assert names(page) == [pack("old"), pack(0), pack(1)]
    assert page.cursor == now - LONG_AGO_US, "something lower may still be written"


def test_only_groups_that_he_is_in_and_from_his_joining_on(queues: Queues) -> None:
    start = queues.clock - LONG_AGO_US
    queues.join("GC_1", start + 5)
    queues.redis.ask("ZADD", KEYS.my_groups("a"), 1, "GC_2")  # left: the list does not know yet
    for group in ("GC_1", "GC_2", "GC_3"):
        for n in range(10):
            queues.group(group, start + n, pack(f"{group} {n}"))
    assert queues.found() == [pack(f"GC_1 {n}") for n in range(6, 10)]
    queues.redis.ask("ZREM", f"{KEYS.session_tag('GC_1')}:p:GC_1", "a")
    assert queues.found() == []


def test_thirty_days(queues: Queues) -> None:
    oldest = queues.clock - KEPT_SECONDS * 1_000_000
    queues.own(oldest - 10_000_000, pack("too old"))
    queues.own(oldest + 60_000_000, pack("not yet"))
    assert queues.found() == [pack("not yet")]


def test_messages_that_are_gone_leave_a_page_full(queues: Queues) -> None:
    start = queues.clock - LONG_AGO_US
    for n in range(300):
        if n % 3:
            queues.own(start + n, message_item("SC_a_b", n))  # never was
        else:
            queues.own(start + n, pack(n))
    page = queues.page(count=50)
    assert names(page) == [pack(n) for n in range(0, 150, 3)]
    assert start + 147 <= page.cursor < start + 150
    assert not page.cut
    assert names(queues.page(page.cursor)) == [pack(n) for n in range(150, 300, 3)]
    queues.redis.ask("DEL", KEYS.user_priority("a"))
    for n in range(300):
        queues.own(start + n, message_item("SC_a_b", n))
    page = queues.page(count=10)
    assert (page.items, page.cursor) == ([], start + 299)


def test_a_page_is_cut_to_its_size(queues: Queues) -> None:
    start = queues.clock - LONG_AGO_US
    for n in range(10):
        queues.own(start + n, pack(n, 3000))
    page = queues.page(size=10_000)
    assert (len(page.items), page.cursor, page.cut) == (3, start + 2, True)
    assert len(queues.page(page.cursor, size=1).items) == 1, "one at least"
    rest = queues.page(start + 6, size=10_000)
    assert (len(rest.items), rest.cut) == (3, False)
    seqs = [queues.send(f"m{n}", content="x" * 3000) for n in range(5)]
    for n, seq in enumerate(seqs):
        queues.own(start + 100 + n, message_item("SC_a_b", seq))
    page = queues.page(start + 50, size=10_000)
    assert (names(page), page.cut) == (["m0", "m1", "m2"], True)


@pytest.mark.parametrize("seed", range(8))
def test_pages_cover_everything_once(queues: Queues, seed: int) -> None:
    dice = random.Random(seed)
    start = queues.clock - LONG_AGO_US
    groups = [f"GC_{n}" for n in range(dice.randrange(5))]
    for group in groups:
        queues.join(group)
    seqs = [queues.send(f"m{n}", content="x" * dice.randrange(500)) for n in range(20)]
    expected: list[tuple[int, str]] = []
    for n in range(dice.randrange(400)):
        stamp = start + dice.randrange(300)
        item: bytes = pack(n, dice.randrange(800))
        name: bytes | str = item
        if dice.random() < 0.3:
            at = dice.randrange(40)
            item = message_item("SC_a_b", seqs[at] if at < 20 else at)
            name = f"m{at}" if at < 20 else ""
        where = dice.choice([None, *groups])
        key = KEYS.group_priority(where) if where else KEYS.user_priority("a")
        if queues.redis.ask("ZCOUNT", key, stamp, stamp) or queues.redis.ask("ZSCORE", key, item) is not None:
            continue  # in one queue, stamps and items differ
        queues.redis.ask("ZADD", key, stamp, item)
        if name:
            expected.append((stamp, str(name)))
    count, size = dice.choice([1, 3, 20, 200]), dice.choice([1, 2000, 10_000, 100_000])
    found: list[str] = []
    cursor = 0
    while True:
        page = queues.page(cursor, count, size)
        assert page.cursor >= cursor
        found += map(str, names(page))
        cursor = page.cursor
        if len(page.items) < count and not page.cut:
            break
    assert sorted(found) == sorted(name for _, name in expected)
    stamps = {name: stamp for stamp, name in expected}
    once = [name for name in found if not name.startswith("m")]  # a message may be in several queues
    assert [stamps[name] for name in once] == sorted(stamps[name] for name in once)
