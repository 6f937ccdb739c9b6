"""Logins that other systems were told of and that have not ended, and which brokers are there: so that the end of those
at a broker that died is told as well."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from store.client import Client
from store.keys import BROKERS as BROKERS_KEY
from store.keys import Keys
from store.scripts import BROKERS, GONE

SCANNED = 500
"""Logins looked at in one step."""


class Brokers(NamedTuple):
    """`now` and, by start of a broker, when it was last there; ms of the store's clock."""

    now: int
    last: dict[str, int]


class Standing:
    """Methods block their greenlet and raise `StoreError`."""

    def __init__(self, redis: Client, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def note(self, brokers: Iterable[str], forget: dict[str, int]) -> Brokers:
        """These starts of brokers are there now; those to `forget` are left out from now on, unless they came back
        since the time given."""
        stale = [part for pair in forget.items() for part in pair]
        reply = self._redis.run(BROKERS, (BROKERS_KEY,), (len(forget), *stale, *brokers))
        fields = iter(reply[1:])
        return Brokers(int(reply[0]), {name.decode(): int(ms) for name, ms in zip(fields, fields, strict=True)})

    def end(self, alive: Collection[str], brokers: Brokers, before: int) -> int:
        """End the logins at brokers that are not `alive`; how many. At one that was never noted, which perhaps is only
        to come, only those made up to `before` (ms)."""
        return sum(self._end(tag, alive, brokers, before) for tag in self._keys.user_tags())

    def _end(self, tag: str, alive: Collection[str], brokers: Brokers, before: int) -> int:
        key, cursor, ended = f"{tag}:n", b"0", 0
        while True:
            cursor, fields = self._redis.ask("HSCAN", key, cursor, "COUNT", SCANNED)
            args: list[bytes | int] = []
            for field, login in zip(fields[::2], fields[1::2], strict=True):
                number, _, connection = login.partition(b" ")
                broker, made = connection.decode().rpartition("/")[0], int(number) // 1000
                if broker not in alive and (broker in brokers.last or made <= before):
                    args += (field, login, brokers.last.get(broker, made))
            if args:
                ended += self._redis.run(GONE, (key,), args)
            if cursor == b"0":
                return ended
