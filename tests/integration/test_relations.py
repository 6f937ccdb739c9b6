"""Relations lie in three shards: whatever dies between them, in whatever order, they come to say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packs.ids import single_session
from store.client import wait_until_ready
from store.errors import StoreUnavailable
from store.friends import ACCEPT, ADD, ASK, BLOCK, DECLINE, DELETE, DONE, FULL, NOT_ASKED, UNBLOCK, Friends, Other
from store.keys import Keys
from store.redis import Redis
from store.scripts import ALL
from tests.integration.test_redis_client import Server

KEYS = Keys(64)
USERS = ("alice", "bob", "carol")
LIMIT = 100
STEPS = 4
"""Writes of a change: decide, the pair, the other, the note taken away."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Server(Path(tmp_path_factory.mktemp("r")))
    server.start()
    made = Redis(server.address, ALL)
    wait_until_ready(made, 10)
    yield made
    made.close()
    assert server.process is not None
    server.process.kill()
    server.process.wait()


@pytest.fixture
def redis(shared: Redis) -> Redis:
    shared.ask("FLUSHALL")
    return shared


class Dying:
    """A connection of a process that dies before its write number `steps`."""

    def __init__(self, redis: Redis, steps: int) -> None:
        self._redis = redis
        self._left = steps

    def __getattr__(self, name: str) -> Any:
        if self._left == 0:
            raise StoreUnavailable("dead")
        self._left -= 1
        return getattr(self._redis, name)


def whole(redis: Redis) -> Friends:
    return Friends(redis, redis, KEYS)


def change(redis: Redis, user: str, kind: str, other: str, steps: int = 99, limit: int = LIMIT) -> int | None:
    """Make a change with a process that dies after so many writes; its status, None when it died."""
    friends = Friends(Dying(redis, steps), redis, KEYS)  # type: ignore[arg-type]
    try:
        return friends.change(user, kind, [Other(other, single_session(user, other))], limit)[0]
    except StoreUnavailable:
        return None


def fields(redis: Redis, a: str, b: str) -> dict[str, str]:
    found = redis.ask("HGETALL", KEYS.meta(single_session(a, b)))
    return {f.decode(): v.decode() for f, v in zip(found[::2], found[1::2], strict=True)}


def assert_agreed(redis: Redis) -> None:
    """All places say the same, and nothing is left to do."""
    friends = whole(redis)
    for tag in KEYS.user_tags():
        assert redis.ask("ZCARD", f"{tag}:j") == 0
    for a in USERS:
        for b in USERS:
            if a == b:
                continue
            pair = fields(redis, a, b)
            is_friend = b in friends.ids(a)
            assert (f"f:{a}" in pair, f"f:{b}" in pair) == (is_friend, is_friend), (a, b, pair)
            assert (a in friends.ids(b)) == is_friend
            assert (f"b:{a}" in pair) == (b in friends.blocked(a))
            versions = {redis.ask("HGET", KEYS.of_user("v", u), o) for u, o in ((a, b), (b, a))}
            assert versions == {pair["v"].encode() if "v" in pair else None}


@pytest.mark.parametrize("steps", range(1, STEPS))
@pytest.mark.parametrize("again", [False, True], ids=["repaired", "repeated"])
def test_a_change_that_was_cut_off_is_finished(redis: Redis, steps: int, again: bool) -> None:
    def finish(user: str, kind: str, other: str) -> None:
        if again:
            assert change(redis, user, kind, other) == DONE
        assert [note.kind for note in whole(redis).repair(0)] in ([], [kind])
        assert_agreed(redis)

    for user, other in (("alice", "bob"), ("bob", "alice")):
        assert change(redis, user, ADD, other, steps) is None
        finish(user, ADD, other)
        assert whole(redis).ids(user) == [other]
        assert change(redis, other, DELETE, user, steps) is None
        finish(other, DELETE, user)
        assert whole(redis).ids(user) == []
        assert change(redis, user, BLOCK, other, min(steps, 2)) is None
        finish(user, BLOCK, other)
        assert whole(redis).blocked(user) == [other]
        assert change(redis, user, UNBLOCK, other, min(steps, 2)) is None
        finish(user, UNBLOCK, other)


def test_what_was_not_decided_did_not_happen(redis: Redis) -> None:
    assert change(redis, "alice", ADD, "bob", 0) is None
    assert whole(redis).repair(0) == []
    assert whole(redis).ids("alice") == whole(redis).ids("bob") == []
    assert redis.ask("DBSIZE") == 0


def test_a_young_note_is_left_to_who_made_it(redis: Redis) -> None:
    assert change(redis, "alice", ADD, "bob", 1) is None
    assert whole(redis).repair() == []
    assert whole(redis).ids("bob") == []


def test_an_old_note_undoes_nothing_newer(redis: Redis) -> None:
    assert change(redis, "alice", ADD, "bob", 2) is None  # the pair knows, bob does not
    assert change(redis, "alice", DELETE, "bob") == DONE
    assert [note.kind for note in whole(redis).repair(0)] == [ADD]
    assert_agreed(redis)
    assert whole(redis).ids("bob") == []
    assert change(redis, "bob", BLOCK, "alice", 1) is None
    assert change(redis, "bob", UNBLOCK, "alice") == DONE
    whole(redis).repair(0)
    assert_agreed(redis)
    assert whole(redis).blocked("bob") == []


def test_a_change_that_meets_another_is_decided_again_above_it(redis: Redis) -> None:
    assert change(redis, "alice", ADD, "bob") == DONE
    assert change(redis, "bob", DELETE, "alice", 2) is None  # the pair knows, alice does not
    assert change(redis, "alice", ADD, "bob") == DONE
    assert f"f:{'bob'}" in fields(redis, "alice", "bob")
    whole(redis).repair(0)
    assert_agreed(redis)
    assert whole(redis).ids("bob") == ["alice"]


def test_limits_and_requests_are_decided_whole(redis: Redis) -> None:
    friends = whole(redis)
    rows = [Other(f"u{n}", single_session("alice", f"u{n}")) for n in range(5)]
    assert friends.change("alice", ADD, rows, 4)[0] == FULL
    assert friends.ids("alice") == []
    assert friends.change("alice", ADD, rows[:4], 4)[0] == DONE
    assert friends.change("alice", ADD, rows, 4)[0] == FULL and len(friends.ids("alice")) == 4
    assert friends.change("alice", ADD, rows[:4], 2)[0] == DONE  # nobody new
    assert change(redis, "u4", ASK, "alice") == DONE
    assert friends.change("alice", ACCEPT, rows[3:], 5)[0] == DONE  # a friend, and one who asked
    assert change(redis, "alice", ACCEPT, "bob") == NOT_ASKED
    assert change(redis, "alice", DECLINE, "bob") == DONE


CHANGES = st.tuples(
    st.sampled_from(USERS), st.sampled_from((ADD, DELETE, BLOCK, UNBLOCK, ASK, ACCEPT, DECLINE)),
    st.sampled_from(USERS), st.integers(0, STEPS),
)  # fmt: skip


@pytest.mark.seconds(240)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(CHANGES, st.none()), max_size=25))
def test_any_changes_cut_off_anywhere_come_to_the_same(shared: Redis, changes: list[Any]) -> None:
    shared.ask("FLUSHALL")
    for step in changes:
        if step is None:
            whole(shared).repair(0)
        elif step[0] != step[2]:
            change(shared, *step)
    whole(shared).repair(0)
    assert_agreed(shared)
