"""What a client keeps between runs: cursors, positions, and messages not yet acknowledged."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple, Protocol

Unsent = tuple[str, int, str, bytes, int]
"""(packId, pack type, session, payload, flags)."""


HOT, PRIORITY = "", "priority"
"""Names of cursors: of the recent sessions, and of the high-priority queue. No session is called so."""


class Kept(NamedTuple):
    """What a former run has left: cursors by name, positions by session, unacknowledged messages in order."""

    cursors: dict[str, int]
    positions: dict[str, int]
    unsent: list[Unsent]


class Store(Protocol):
    """Where it is kept. Called under the client's lock, from any of its threads."""

    def load(self) -> Kept: ...

    def cursor(self, name: str, value: int) -> None: ...

    def position(self, session: str, value: int) -> None: ...

    def unsent(self, message: Unsent) -> None: ...

    def sent(self, pack_id: str) -> None: ...


class MemoryStore:
    """Nothing survives the process; a client object that connects again goes on where it was."""

    def load(self) -> Kept:
        return Kept({}, {}, [])

    def cursor(self, name: str, value: int) -> None:
        """Nothing to keep."""

    def position(self, session: str, value: int) -> None:
        """Nothing to keep."""

    def unsent(self, message: Unsent) -> None:
        """Nothing to keep."""

    def sent(self, pack_id: str) -> None:
        """Nothing to keep."""


class FileStore:
    """In an SQLite file, for one user on one device."""

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # outlives the process; a power cut costs the last writes
        self._db.execute("CREATE TABLE IF NOT EXISTS positions (session TEXT PRIMARY KEY, value INTEGER)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS unsent (n INTEGER PRIMARY KEY, pack_id TEXT UNIQUE, type INTEGER, session TEXT,"
            " payload BLOB, flags INTEGER)"
        )

    def load(self) -> Kept:
        with self._lock:
            positions = dict(self._db.execute("SELECT session, value FROM positions"))
            unsent = list(self._db.execute("SELECT pack_id, type, session, payload, flags FROM unsent ORDER BY n"))
        cursors = {name: positions.pop(name) for name in (HOT, PRIORITY) if name in positions}
        return Kept(cursors, positions, unsent)

    def cursor(self, name: str, value: int) -> None:
        self.position(name, value)

    def position(self, session: str, value: int) -> None:
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (session, value))

    def unsent(self, message: Unsent) -> None:
        with self._lock:
            self._db.execute(
                "INSERT INTO unsent (pack_id, type, session, payload, flags) VALUES (?, ?, ?, ?, ?)", message
            )

    def sent(self, pack_id: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM unsent WHERE pack_id = ?", (pack_id,))

    def close(self) -> None:
        self._db.close()
