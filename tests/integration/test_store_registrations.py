"""What pushes read from the store: members of large groups, their devices, and how far they have read."""

from __future__ import annotations

from store.groups import Groups
from store.keys import Keys
from store.redis import Redis
from store.registrations import Registration, Registrations
from store.unread import Unread

KEYS = Keys(64)
GROUP = "GC_large"


def key() -> str:
    return f"{KEYS.session_tag(GROUP)}:p:{GROUP}"


def join(redis: Redis, users: list[str]) -> None:
    redis.ask_all([("ZADD", key(), number, user) for number, user in enumerate(users)])


def test_all_members_come_once_however_many_and_whoever_moves_meanwhile(redis: Redis) -> None:
    groups = Groups(redis, redis, KEYS, remember_seconds=60)
    assert list(groups.scan("GC_none", 100)) == [[]]
    for count in (3, 2_500):
        users = [f"u{n}" for n in range(count)]
        join(redis, users)
        found = [user for part in groups.scan(GROUP, 100) for user in part]
        assert sorted(found) == sorted(users)
    found = []
    for number, part in enumerate(groups.scan(GROUP, 100)):
        assert len(part) < 500, "small parts"
        found += part
        redis.ask("ZREM", key(), f"u{number}")
        join(redis, [f"new{number}-{n}" for n in range(200)])  # the table grows under way
    assert len(found) == len(set(found))
    stayed = {f"u{n}" for n in range(number + 1, 2_500)}
    assert stayed <= set(found)


def test_devices_and_read_positions_of_many_users_in_their_order(redis: Redis) -> None:
    registrations, unread = Registrations(redis, redis, KEYS), Unread(redis, KEYS)
    users = [f"u{n}" for n in range(120)]
    for number, user in enumerate(users):
        if number % 3:
            registrations.put(user, Registration(0, "d", "main", "log", f"t-{user}"))
        if number % 5 == 0:
            redis.ask("HSET", KEYS.meta(GROUP), f"r:{user}", f"{number + 1}:9")
    redis.ask("HSET", KEYS.of_user("s", "u4"), f"{GROUP}\0MUTE", "1")
    found = registrations.targets([(user, GROUP) for user in users])
    tokens = [[r.token for r in rows] for rows in found]
    assert tokens == [[f"t-{user}"] if n % 3 and n != 4 else [] for n, user in enumerate(users)]
    assert registrations.targets([]) == []
    asked = [(GROUP if n % 2 else "SC_a_b", user) for n, user in enumerate(users)]
    assert unread.positions(asked) == [n + 1 if n % 2 and n % 5 == 0 else 0 for n in range(120)]
