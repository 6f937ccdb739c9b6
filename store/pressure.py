"""Whether messages must be refused for a while, because what Redis holds grows faster than it is drained.

The log may never fill Redis: then nothing could be drained either. Each process that stores messages looks once a
second by itself, so the limit holds also while no olap node runs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mesh.loop import Every
from store.client import Client
from store.errors import StoreUnavailable
from store.keys import DATASET

LOOK_SECONDS = 1.0
RESUME = 0.95
"""Part of a limit below which messages are taken again."""
MEMORY = 0.8
"""Part of Redis' `maxmemory` from which on messages are refused: what is left is for draining."""


class Pressure:
    """The look at Redis. `full` says why messages are refused now, "" when they are taken. `guarded`: also when Redis
    has lost its data, until they are restored from the archive."""

    def __init__(self, client: Client, tags: list[str], log_rows: int, *, guarded: bool) -> None:
        self.full = ""
        self._client = client
        self._rows = dict.fromkeys(tags, 0)  # in the log of each shard, where it could be asked
        self._log_rows = log_rows
        self._guarded = guarded
        self._emptied = False
        self._memory: list[tuple[int, int]] = []  # used and most, of each server that answered
        self._answers = 0  # still to come
        self._every: Every | None = None

    @property
    def rows(self) -> int:
        """In the log."""
        return sum(self._rows.values())

    def start(self) -> None:
        """Begin to look. Harmless when repeated."""
        if self._every is None:
            self._every = Every(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        if self._every is not None:
            self._every.stop()

    def _look(self) -> None:
        if self._answers:
            return
        try:
            servers = self._client.servers()
        except StoreUnavailable:
            return
        self._answers = len(self._rows) + len(servers) + self._guarded
        self._memory.clear()
        for tag in self._rows:
            self._client.command(partial(self._counted, tag), "XLEN", f"{tag}:log")
        for server in servers:
            server.command(self._measured, "INFO", "memory")

        if self._guarded:
            self._client.command(self._looked, "EXISTS", DATASET)

    def _looked(self, there: Any, error: Exception | None) -> None:
        if error is None:
            self._emptied = not there
        self._answered()

    def _counted(self, tag: str, length: Any, error: Exception | None) -> None:
        if error is None:  # a server that does not answer takes no messages either
            self._rows[tag] = length
        self._answered()

    def _measured(self, info: Any, error: Exception | None) -> None:
        if error is None:
            self._memory.append(_memory(info))
        self._answered()

    def _answered(self) -> None:
        self._answers -= 1
        if self._answers:
            return
        rows, rows_limit, part = self.rows, float(self._log_rows), MEMORY
        if self.full:
            rows_limit, part = RESUME * rows_limit, RESUME * part
        crowded = next(((used, most) for used, most in self._memory if most and used >= part * most), None)
        if self._emptied:
            self.full = "Redis has lost its data: imesh rebuild"
        elif rows >= rows_limit:
            self.full = f"{rows} rows wait in the log, [store] log_rows is {self._log_rows}"
        elif crowded is not None:
            self.full = f"Redis uses {crowded[0] >> 20} MiB of {crowded[1] >> 20}"
        elif self._memory:
            self.full = ""


def _memory(info: bytes) -> tuple[int, int]:
    """Used memory and maxmemory (0: no limit), bytes."""
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return int(fields["used_memory"]), int(fields["maxmemory"])
