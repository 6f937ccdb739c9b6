"""The hot store of one process: its connections to Redis, the check at start, and the functions by topic."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import gevent

from mesh.errors import ConfigError
from mesh.loop import now
from store import keys
from store.api import ApiStore
from store.audit import Audit
from store.client import T, wait_until_ready
from store.connect import connect
from store.controls import Controls
from store.devices import Devices
from store.erasure import Erasure
from store.erasures import Erasures
from store.errors import StoreRefused, StoreUnavailable
from store.events import Events
from store.friends import Friends
from store.groups import Groups
from store.leases import Leases
from store.log import ARCHIVE, HOOKS, Consumer, Noter
from store.pressure import Pressure
from store.priority import Priority
from store.profiles import Profiles
from store.pushes import Outgoing
from store.recent import RecentSessions
from store.redis import Redis
from store.registrations import Registrations
from store.scripts import ALL
from store.sessions import Sessions
from store.settings import StoreSettings
from store.standing import Standing
from store.unread import Unread
from store.users import Users
from store.window import Window

DATASET_SECONDS = 0.1
START_SECONDS = 30.0
"""How long a start waits for Redis (it may be loading a large file)."""
PATIENCE_SECONDS = 3.0
"""How long it waits for the last masters of a Cluster, once others answer."""


class HotStore:
    """Redis, as the nodes of one process share it. Sends and reads use two connections, so that a long read delays no
    send. `archived`: a node drains the log; where none does, it is cut by age. `told`: another makes events of it."""

    def __init__(
        self, settings: StoreSettings, data_dir: Path, run_dir: Path, *, archived: bool = False, told: bool = False
    ) -> None:
        self.settings = settings
        self._archived = archived
        self._told = told
        self._made = now()
        self._opened = False
        address = settings.address(data_dir, run_dir)
        self.writes = connect(address, ALL)
        self.reads = connect(address, ALL)
        self.keys = keys.Keys(settings.shards)
        self.sessions = Sessions(
            self.writes, self.reads, self.keys, dedup_seconds=settings.dedup_seconds,
            log_seconds=0 if archived else settings.log_seconds,
        )  # fmt: skip
        self.groups = Groups(self.writes, self.reads, self.keys, remember_seconds=settings.dedup_seconds)
        self.recent = RecentSessions(self.reads, self.keys)
        self.audit = Audit(self.writes, self.reads, self.keys)
        self.controls = Controls(self.writes, self.keys, dedup_seconds=settings.dedup_seconds, told=told)
        self.priority = Priority(self.writes, self.reads, self.keys)
        self.users = Users(self.writes, self.reads, self.keys, told=told)
        self.devices = Devices(self.writes, self.reads, self.keys, told=told)
        self.standing = Standing(self.writes, self.keys)
        self.friends = Friends(self.writes, self.reads, self.keys)
        self.profiles = Profiles(self.writes, self.reads, self.keys)
        self.window = Window(self.reads, self.keys, settings.hot_messages, settings.hot_seconds)
        self.pressure = Pressure(self.reads, self.keys.session_tags(), settings.log_rows, guarded=archived)
        self.api = ApiStore(
            self.writes, self.reads, self.keys, keep_seconds=settings.idempotency_seconds,
            dedup_seconds=settings.dedup_seconds,
        )  # fmt: skip
        self.registrations = Registrations(self.writes, self.reads, self.keys)
        self.leases = Leases(self.writes)
        self.erasures = Erasures(self.writes)
        self.erasure = Erasure(self.writes, self.keys, self.registrations)
        self.unread = Unread(self.reads, self.keys)

    def noter(self) -> Noter:
        """Adds notes for other systems to the logs."""
        return Noter(self.writes, self.keys)

    def events(self, keep: int) -> Events:
        """Events for other systems, the newest `keep` of them."""
        return Events(self.writes, self.reads, keep=keep, said_seconds=2 * self.settings.dedup_seconds)

    def open(self, settle: Callable[[], None] | None = None) -> list[str]:
        """Wait for Redis and check that it keeps what it promises. Raises `ConfigError`. In a greenlet.

        `settle` compares the data with the archive; where somebody archives and others do that, they are waited for.

        What could not be checked is said in the result: a master of a Cluster that is down does not stop the start,
        its shards are served when it is back. Once opened, it is not checked again.
        """
        if self._opened:
            return []
        down: set[Redis] = set()
        for client in (self.writes, self.reads):
            waited = now() - self._made
            try:
                down.update(wait_until_ready(client, START_SECONDS - waited, PATIENCE_SECONDS - waited))
            except StoreUnavailable as error:
                raise ConfigError(f"[store] redis: {error}") from None
        for server in self.writes.servers():
            if server not in down:
                self._check_durability(server)
        unchecked = sorted({f"{server.address} is down ({server.trouble})" for server in down})
        try:
            self._check_dataset(settle)
        except StoreUnavailable as error:
            if not down:
                raise ConfigError(f"[store] redis: {error}") from None
            unchecked.append(f"the number of shards could not be compared with that of the data ({error})")
        self._opened = True
        return unchecked

    def _check_durability(self, server: Redis) -> None:
        if self.settings.durability_checked_by_operator:
            return
        wanted = {"appendonly": "yes", "appendfsync": self.settings.durability, "maxmemory-policy": "noeviction"}
        if len(self.writes.servers()) > 1:  # a master that is down shall take its own slots along only
            wanted["cluster-require-full-coverage"] = "no"
        wrong = []
        for name, value in wanted.items():
            try:
                _, found = server.ask("CONFIG", "GET", name)
            except (StoreRefused, ValueError):
                raise ConfigError(
                    "[store] redis: CONFIG GET is forbidden; check appendonly, appendfsync and maxmemory-policy by "
                    "hand and set durability_checked_by_operator = true"
                ) from None
            if found.decode() != value and not (name == "appendfsync" and found == b"always"):
                wrong.append(f"CONFIG SET {name} {value}  (it is {found.decode()})")
        if wrong:
            raise ConfigError(
                f'[store] redis: {server.address} does not keep what durability = "{wanted["appendfsync"]}" promises; '
                "run on it: " + "; ".join(wrong)
            )

    def _check_dataset(self, settle: Callable[[], None] | None) -> None:
        """Mark new data, and refuse data that were made with another number of shards."""
        shards = str(self.settings.shards)
        if settle is not None:
            settle()
        elif self._archived:
            while not self.dataset():  # an olap node sees to it that it holds what the archive holds
                gevent.sleep(DATASET_SECONDS)
        else:
            self.mark_dataset("")
            # Nobody needs the marks; an archive that comes (again) begins with a copy.
            self.set_archived(False)
            if not self._told:
                self.writes.ask_all([("UNLINK", f"{tag}:log") for tag in self.keys.user_tags()])
        found = self.writes.ask("HGET", keys.DATASET, "shards").decode()
        if found != shards:
            raise ConfigError(
                f"[store] shards: these data were made with {found} shards, not {shards}: set shards = {found}"
            )

    def dataset(self) -> str:
        """The id of the data in Redis, "" when there are none (any more). In a greenlet. Raises `StoreError`."""
        found = self.writes.ask("HGET", keys.DATASET, "id")
        return found.decode() if found is not None else ""

    def mark_dataset(self, name: str) -> str:
        """Give the data an id ("": a new one) where they have none; the id that they have."""
        shards = str(self.settings.shards)
        self.writes.ask("HSETNX", keys.DATASET, "shards", shards)
        self.writes.ask("HSETNX", keys.DATASET, "id", name or os.urandom(8).hex())
        return self.dataset()

    def consumer(self, group: str, name: str) -> Consumer:
        """A consumer of a group of the log (`store/log.py`); its `name` is the same after a restart."""
        tags = self.keys.session_tags()
        if group in (ARCHIVE, HOOKS):
            tags += self.keys.user_tags()
        return Consumer(self.reads, tags, group, name, keep_seconds=self.settings.log_seconds)

    def is_archived(self) -> bool:
        """Whether the archive has, or the log will bring it, whatever Redis holds."""
        return bool(self.writes.ask("HGET", keys.DATASET, "archived"))

    def set_archived(self, archived: bool = True) -> None:
        """Note it, or that an archive must begin with a copy."""
        self.writes.ask(*(("HSET", keys.DATASET, "archived", "1") if archived else ("HDEL", keys.DATASET, "archived")))

    def by_session(self, items: Sequence[T], session_of: Callable[[T], str]) -> Iterable[Sequence[T]]:
        """`items` as one call of the store takes them: of any sessions, or on a Cluster of those in one shard."""
        return self.writes.parts(items, lambda item: self.keys.session_tag(session_of(item)))

    def by_user(self, items: Sequence[T], user_of: Callable[[T], str]) -> Iterable[Sequence[T]]:
        """As `by_session`, for what lies with users."""
        return self.writes.parts(items, lambda item: self.keys.user_tag(user_of(item)))

    def outgoing(self, outlet: str, consumer: str, records: int) -> Outgoing:
        """The queue of pushes of an outlet (`store/pushes.py`); the `consumer` is the same after a restart."""
        return Outgoing(self.reads, outlet, consumer, records=records)

    def close(self) -> None:
        self.pressure.stop()
        self.writes.close()
        self.reads.close()
