"""The queue of pushes: for each outlet (an app at a vendor) a stream, what waits for its next try, and records.

    {p:<outlet>}:q      stream       entries to be sent, read by consumers of the group "push"
    {p:<outlet>}:d      sorted set   entries that wait: when (ms) -> entry
    {p:<outlet>}:r      stream       records of what became of pushes, the newest so many
    {p:<outlet>}:u:...  string       an entry that was added lately; expires

An entry that was read stays until it is settled: after a crash it is read again, by the same consumer or, once it lay
for `IDLE_MS`, by another. What an entry holds is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from mesh.loop import now
from store.client import Client
from store.errors import StoreRefused
from store.scripts import PUSH_DUE, PUSH_ENQUEUE, PUSH_SETTLE

GROUP = "push"
REPEAT_SECONDS = 900
"""How long an entry that was added before is known."""
IDLE_MS = 600_000
"""How long an entry may lie with a consumer until another takes it: longer than any call may last."""
CLAIM_SECONDS = 30.0
DUE_AT_ONCE = 1000


class Waiting(NamedTuple):
    """Entries of an outlet: in the queue (being sent among them), and waiting for their next try."""

    queued: int
    delayed: int
    since: int
    """When the oldest one in the queue came there (ms), 0 for none."""
    next: bytes
    """The one that is to be tried next, b"" for none."""


class Outgoing:
    """The queue of one outlet. Methods block their greenlet and raise `StoreError`."""

    def __init__(self, redis: Client, outlet: str, consumer: str, *, records: int) -> None:
        """`consumer`: a name that is the same after a restart. `records`: how many are kept, about."""
        tag = f"{{p:{outlet}}}"
        self._redis = redis
        self._queue, self._delayed, self._records = f"{tag}:q", f"{tag}:d", f"{tag}:r"
        self._consumer = consumer
        self._keep = records
        self._left: str | None = (
            "0"  # what was read and not settled, up to here: by an earlier life, or lost on its way
        )
        self._reconnects = 0
        self._claim_at = now() + CLAIM_SECONDS

    def open(self) -> None:
        """Before anything is read. Harmless when repeated."""
        try:
            self._redis.ask("XGROUP", "CREATE", self._queue, GROUP, "0", "MKSTREAM")
        except StoreRefused as error:
            if "BUSYGROUP" not in str(error):
                raise

    def add(self, entries: Sequence[tuple[str, bytes]]) -> int:
        """Add (name, entry), unless one of this name was added lately; how many were."""
        args: list[Any] = [REPEAT_SECONDS]
        for name, entry in entries:
            args += (blake2b(name.encode(), digest_size=12).hexdigest(), entry)
        return int(self._redis.run(PUSH_ENQUEUE, (self._queue,), args))

    def read(self, count: int) -> list[tuple[bytes, bytes]]:
        """At most `count` entries as (id, entry): what an earlier life left, what dead consumers left, then new ones.

        After the connection was lost, entries come again that are being worked on.
        """
        reconnects = sum(server.reconnects for server in self._redis.servers())
        if self._reconnects != reconnects:
            self._reconnects, self._left = reconnects, "0"
        if self._left is not None:
            found = self._read(self._left, count)
            self._left = found[-1][0].decode() if found else None
            if found:
                return found
        if now() >= self._claim_at:
            self._claim_at = now() + CLAIM_SECONDS
            reply = self._redis.ask(
                "XAUTOCLAIM", self._queue, GROUP, self._consumer, IDLE_MS, "0", "COUNT", count
            )  # fmt: skip
            if reply[1]:
                return [(entry[0], entry[1][1]) for entry in reply[1] if entry and entry[1]]
        return self._read(">", count)

    def _read(self, after: str, count: int) -> list[tuple[bytes, bytes]]:
        reply = self._redis.ask(
            "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, "STREAMS", self._queue, after
        )  # fmt: skip
        return [(id_, fields[1]) for id_, fields in reply[0][1] if fields] if reply else []

    def again(self) -> None:
        """What was read and is not settled comes again with the next `read`."""
        self._left = "0"

    def settle(self, ids: Sequence[bytes], again: Sequence[tuple[int, bytes]], record: bytes) -> None:
        """These entries are done, but for `again`: (when in ms, entry) of what is to be tried once more."""
        args: list[Any] = [GROUP, self._keep, record, len(ids), *ids]
        for when, entry in again:
            args += (when, entry)
        self._redis.run(PUSH_SETTLE, (self._queue, self._delayed, self._records), args)

    def due(self) -> Waiting:
        """Put what has waited long enough back into the queue. About once a second."""
        args = (int(time.time() * 1000), DUE_AT_ONCE)
        _, delayed, queued, first, entry = self._redis.run(PUSH_DUE, (self._queue, self._delayed), args)
        return Waiting(queued, delayed, int(first.partition(b"-")[0] or 0), entry)

    def records(self, before: str, count: int) -> list[tuple[str, bytes]]:
        """Records older than the one with id `before` ("": from the newest) as (id, record), newest first."""
        rows = self._redis.ask("XREVRANGE", self._records, f"({before}" if before else "+", "-", "COUNT", count)
        return [(row[0].decode(), row[1][1]) for row in rows]
