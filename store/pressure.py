"""Whether messages must be refused for a while, because what Redis holds grows faster than it is drained.

The log may never fill Redis: then nothing could be drained either. Each process that stores messages looks once a
second by itself, so the limit holds also while no olap node runs.
"""

from __future__ import annotations

from typing import Any

from mesh.loop import Every
from store.redis import Redis

LOOK_SECONDS = 1.0
RESUME = 0.95
"""Part of a limit below which messages are taken again."""
MEMORY = 0.8
"""Part of Redis' `maxmemory` from which on messages are refused: what is left is for draining."""


class Pressure:
    """The look at Redis. `full` says why messages are refused now, "" when they are taken."""

    def __init__(self, redis: Redis, tags: list[str], log_rows: int) -> None:
        self.full = ""
        self.rows = 0
        """In the log."""
        self._redis = redis
        self._tags = tags
        self._log_rows = log_rows
        self._asked = False
        self._every: Every | None = None

    def start(self) -> None:
        """Begin to look. Harmless when repeated."""
        if self._every is None:
            self._every = Every(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        if self._every is not None:
            self._every.stop()

    def _look(self) -> None:
        if self._asked:
            return
        self._asked = True
        lengths = [("XLEN", f"{tag}:log") for tag in self._tags]
        self._redis.command_all(self._seen, [*lengths, ("INFO", "memory")])

    def _seen(self, replies: list[Any] | None, error: Exception | None) -> None:
        self._asked = False
        if replies is None:
            return  # a store that does not answer takes no messages either
        *lengths, memory = replies
        self.rows = sum(lengths)
        used, most = _memory(memory)
        rows_limit, memory_limit = float(self._log_rows), MEMORY * most
        if self.full:
            rows_limit, memory_limit = RESUME * rows_limit, RESUME * memory_limit
        if self.rows >= rows_limit:
            self.full = f"{self.rows} rows wait in the log, [store] log_rows is {self._log_rows}"
        elif most and used >= memory_limit:
            self.full = f"Redis uses {used >> 20} MiB of {most >> 20}"
        else:
            self.full = ""


def _memory(info: bytes) -> tuple[int, int]:
    """Used memory and maxmemory (0: no limit), bytes."""
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return int(fields["used_memory"]), int(fields["maxmemory"])
