"""A message is noted in the recent sessions of its users by the script that stores it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mesh.loop import wait_for
from packs import structs as s
from packs.message import stored_payload
from store.entries import tail
from store.keys import Keys
from store.redis import Redis
from store.sessions import BLOCKED, CHANGED, CONFLICT, REPEATED, STORED, TOUCH_SECONDS, Message, Sessions
from tests.waiting import wait_until

KEYS = Keys(4)
SESSION = "SC_ann_bob"


@pytest.fixture
def sessions(redis: Redis) -> Sessions:
    return Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=0)


def message(pack_id: str, session: str = SESSION, *, peer: str = "", crc: bytes = b"crc.") -> Message:
    _, ann, bob = session.split("_")
    entry = tail(14, 4, pack_id, stored_payload(s.MsgReq(content="x")))
    return Message(session, ann, peer, pack_id, crc, True, entry, users=(bob, ann))


def commit(sessions: Sessions, *messages: Message) -> list[int]:
    """The outcomes."""
    found: Sequence[object] = wait_for(lambda done: sessions.commit(messages, False, done))
    return [outcome.status for outcome in found]  # type: ignore[attr-defined]


def recent(redis: Redis, user: str) -> dict[str, int]:
    """Session -> stamp."""
    found = redis.ask("ZRANGE", KEYS.recent(user), 0, -1, "WITHSCORES")
    return {name.decode(): int(stamp) for name, stamp in zip(found[::2], found[1::2], strict=True)}


def test_what_is_stored_is_noted_for_both(redis: Redis, sessions: Sessions) -> None:
    assert commit(sessions, message("p1"), message("p2", "SC_ann_cat")) == [STORED, STORED]
    assert recent(redis, "bob").keys() == {SESSION} and recent(redis, "cat").keys() == {"SC_ann_cat"}
    assert sorted(recent(redis, "ann"), key=recent(redis, "ann").__getitem__) == [SESSION, "SC_ann_cat"]


def test_what_is_refused_is_noted_for_nobody(redis: Redis, sessions: Sessions) -> None:
    redis.ask("HSET", KEYS.meta(SESSION), "b:bob", "1")
    assert commit(sessions, message("p1", peer="bob")) == [BLOCKED]
    assert not recent(redis, "ann") and not recent(redis, "bob")
    redis.ask("HDEL", KEYS.meta(SESSION), "b:bob")
    assert commit(sessions, message("p2", peer="bob")) == [STORED]
    assert recent(redis, "bob").keys() == {SESSION}


def test_one_that_is_refused_does_not_keep_the_next_from_being_noted(redis: Redis, sessions: Sessions) -> None:
    commit(sessions, message("p1"))
    redis.ask("DEL", KEYS.recent("ann"), KEYS.recent("bob"))
    other = Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=0)  # of a process that has noted nothing
    assert commit(other, message("p1", crc=b"else"), message("p2")) == [CONFLICT, STORED]
    assert recent(redis, "ann").keys() == recent(redis, "bob").keys() == {SESSION}


@pytest.mark.parametrize("changed", [False, True])
def test_a_repeat_is_noted_again_for_a_crash_may_have_cut_it_off(
    redis: Redis, sessions: Sessions, changed: bool
) -> None:
    commit(sessions, message("p1"))
    redis.ask("DEL", KEYS.recent("ann"), KEYS.recent("bob"))
    if changed:
        redis.ask("DEL", KEYS.history(SESSION))  # as if it were deleted
    other = Sessions(redis, redis, KEYS, dedup_seconds=3600, log_seconds=0)
    assert commit(other, message("p1")) == [CHANGED if changed else REPEATED]
    assert recent(redis, "ann").keys() == recent(redis, "bob").keys() == {SESSION}


def test_stamps_only_grow_and_not_with_each_message(redis: Redis, sessions: Sessions) -> None:
    commit(sessions, message("p0"))
    first = recent(redis, "ann")[SESSION]
    number = 0

    def grown() -> bool:
        nonlocal number
        number += 1
        commit(sessions, message(f"p{number}"))
        stamp = recent(redis, "ann")[SESSION]
        assert stamp >= first
        return stamp > first

    wait_until(grown, "the next stamp", 3 * TOUCH_SECONDS)
    assert number > 1


def test_other_activity_is_noted_in_one_call(redis: Redis, sessions: Sessions) -> None:
    users = [f"u{n}" for n in range(20)]
    sessions.touch([(user, SESSION) for user in users])
    wait_until(lambda: all(recent(redis, user) for user in users), "all to be noted")
    stamps = [recent(redis, user)[SESSION] for user in users]
    assert all(len({recent(redis, user)[SESSION] for user in users if KEYS.user_tag(user) == tag}) ==
               sum(KEYS.user_tag(user) == tag for user in users) for tag in KEYS.user_tags()), stamps  # fmt: skip
