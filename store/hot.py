"""The hot store of one process: its connections to Redis, the check at start, and the functions by topic."""

from __future__ import annotations

import os
from pathlib import Path

from mesh.errors import ConfigError
from mesh.loop import now
from store import keys
from store.api import ApiStore
from store.audit import Audit
from store.controls import Controls
from store.devices import Devices
from store.errors import StoreRefused, StoreUnavailable
from store.friends import Friends
from store.groups import Groups
from store.log import Consumer
from store.pressure import Pressure
from store.priority import Priority
from store.profiles import Profiles
from store.recent import RecentSessions
from store.redis import Redis, wait_until_ready
from store.scripts import ALL
from store.sessions import Sessions
from store.settings import StoreSettings
from store.users import Users

START_SECONDS = 30.0
"""How long a start waits for Redis (it may be loading a large file)."""


class HotStore:
    """Redis, as the nodes of one process share it. Sends and reads use two connections, so that a long read delays no
    send. `archived`: a node drains the log; where none does, it is cut by age."""

    def __init__(self, settings: StoreSettings, data_dir: Path, run_dir: Path, *, archived: bool = False) -> None:
        self.settings = settings
        address = settings.address(data_dir, run_dir)
        self.writes = Redis(address, ALL)
        self.reads = Redis(address, ALL)
        self.keys = keys.Keys(settings.shards)
        self.sessions = Sessions(
            self.writes, self.reads, self.keys, dedup_seconds=settings.dedup_seconds,
            log_seconds=0 if archived else settings.log_seconds,
        )  # fmt: skip
        self.groups = Groups(self.writes, self.reads, self.keys, remember_seconds=settings.dedup_seconds)
        self.recent = RecentSessions(self.reads, self.keys)
        self.audit = Audit(self.writes, self.reads, self.keys)
        self.controls = Controls(self.writes, self.keys, dedup_seconds=settings.dedup_seconds)
        self.priority = Priority(self.writes, self.reads, self.keys)
        self.users = Users(self.writes, self.reads, self.keys)
        self.devices = Devices(self.writes, self.reads, self.keys)
        self.friends = Friends(self.writes, self.reads, self.keys)
        self.profiles = Profiles(self.writes, self.reads, self.keys)
        self.pressure = Pressure(self.reads, self.keys.session_tags(), settings.log_rows)
        self.api = ApiStore(
            self.writes, self.reads, self.keys, keep_seconds=settings.idempotency_seconds,
            dedup_seconds=settings.dedup_seconds,
        )  # fmt: skip

    def open(self) -> None:
        """Wait for Redis and check that it keeps what it promises. Raises `ConfigError`. In a greenlet."""
        started = now()
        for redis in (self.writes, self.reads):
            try:
                wait_until_ready(redis, START_SECONDS - (now() - started))
            except StoreUnavailable as error:
                raise ConfigError(f"[store] redis: {error}") from None
        self._check_durability()
        self._check_dataset()

    def _check_durability(self) -> None:
        if self.settings.durability_checked_by_operator:
            return
        wanted = {"appendonly": "yes", "appendfsync": self.settings.durability, "maxmemory-policy": "noeviction"}
        wrong = []
        for name, value in wanted.items():
            try:
                _, found = self.writes.ask("CONFIG", "GET", name)
            except (StoreRefused, ValueError):
                raise ConfigError(
                    "[store] redis: CONFIG GET is forbidden; check appendonly, appendfsync and maxmemory-policy by "
                    "hand and set durability_checked_by_operator = true"
                ) from None
            if found.decode() != value and not (name == "appendfsync" and found == b"always"):
                wrong.append(f"CONFIG SET {name} {value}  (it is {found.decode()})")
        if wrong:
            raise ConfigError(
                f'[store] redis: the server does not keep what durability = "{self.settings.durability}" promises; '
                "run on it: " + "; ".join(wrong)
            )

    def _check_dataset(self) -> None:
        """Mark new data, and refuse data that were made with another number of shards."""
        shards = str(self.settings.shards)
        self.writes.ask("HSETNX", keys.DATASET, "shards", shards)
        self.writes.ask("HSETNX", keys.DATASET, "id", os.urandom(8).hex())
        found = self.writes.ask("HGET", keys.DATASET, "shards").decode()
        if found != shards:
            raise ConfigError(f"[store] shards: these data were made with {found} shards, not {shards}")

    def consumer(self, group: str, name: str) -> Consumer:
        """A consumer of a group of the log (`store/log.py`); its `name` is the same after a restart."""
        tags = self.keys.session_tags()
        return Consumer(self.reads, tags, group, name, keep_seconds=self.settings.log_seconds)

    def close(self) -> None:
        self.pressure.stop()
        self.writes.close()
        self.reads.close()

