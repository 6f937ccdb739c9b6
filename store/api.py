"""What the HTTP API keeps: keys, records of requests with an `Idempotency-Key`, nonces of signed requests."""

from __future__ import annotations

import os
from typing import NamedTuple

from store.client import Client
from store.keys import API_KEYS, Keys
from store.scripts import IDEMPOTENCY

VERSION = "version"
"""Field of the hash of keys that grows with every change; ids of keys are longer or have digits."""


class KeyRows(NamedTuple):
    """All keys, packed, by id, and the version of the whole."""

    version: int
    rows: dict[str, bytes]


class ApiStore:
    """All methods block their greenlet and raise `StoreError`."""

    def __init__(self, writes: Client, reads: Client, keys: Keys, *, keep_seconds: int, dedup_seconds: int) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys
        self._keep_seconds = keep_seconds
        self._dedup_seconds = dedup_seconds

    # ---- keys

    def version(self) -> int:
        """Of the keys: it differs when they do."""
        return int(self._reads.ask("HGET", API_KEYS, VERSION) or 0)

    def rows(self) -> KeyRows:
        """All keys."""
        fields = self._reads.ask("HGETALL", API_KEYS)
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        version = int(found.pop(VERSION.encode(), 0))
        return KeyRows(version, {name.decode(): row for name, row in found.items()})

    def put(self, key_id: str, row: bytes) -> None:
        """Add a key, or replace it."""
        self._change("HSET", API_KEYS, key_id, row)

    def remove(self, key_id: str) -> bool:
        """Remove a key; False when there is none."""
        there = bool(self._reads.ask("HEXISTS", API_KEYS, key_id))
        self._change("HDEL", API_KEYS, key_id)
        return there

    def _change(self, *command: object) -> None:
        commands = [command, ("HINCRBY", API_KEYS, VERSION, 1)]
        self._writes.ask_all(commands)

    # ---- requests

    def begin(self, record: str, digest: bytes) -> tuple[int, bytes]:
        """Note a request that is about to be done: `store/idempotency.lua` tells the states."""
        args = (digest, self._keep_seconds, self._dedup_seconds)
        state, answer = self._writes.run(IDEMPOTENCY, (self._keys.api_request(record),), args)
        return state, answer

    def complete(self, record: str, answer: bytes) -> bytes:
        """Keep the answer of a request unless there is one; the one that is kept."""
        key = self._keys.api_request(record)
        commands = [("HSETNX", key, "a", answer), ("HGET", key, "a"), ("EXPIRE", key, self._keep_seconds)]
        replies = self._writes.ask_all(commands)
        kept: bytes = replies[1]
        return kept

    def nonce(self, caller: str, nonce: str, seconds: int) -> bool:
        """Note a nonce; False when somebody did before."""
        key, mine = self._keys.api_nonce(caller, nonce), os.urandom(12)
        commands = [("SET", key, mine, "NX", "EX", seconds), ("GET", key)]
        replies = self._writes.ask_all(commands)
        return bool(replies[1] == mine)  # also when the connection was lost and the command ran twice
