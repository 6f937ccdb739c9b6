"""Connections to the archive, and the threads that they block.

Everything that talks SQL runs in a native thread: SQLite blocks in C (a locked write froze a loop for 4 s), and what
PyMySQL encodes and decodes would hold the loop up, too. A connection is used by one thread at a time: those that write
stand in a queue of one, readers in a queue of a few.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import gevent.monkey
import gevent.threadpool
import peewee
import pymysql
from gevent.lock import BoundedSemaphore

from store.archive.url import ArchiveAddress, MysqlServer, SqliteFile
from store.errors import StoreUnavailable

R = TypeVar("R")
SQLITE, MYSQL = "sqlite", "mysql"
BUSY_SECONDS = 5.0
"""How long a statement waits for a lock."""
CONNECT_SECONDS = 3
READ_SECONDS = 30
"""Longest silence of a MySQL server."""
READERS = 4
STEPS = 500
"""Steps of SQLite's machine, about 0.1 ms, after which its thread gives way to others that want its core."""
SQLITE_PRAGMAS = (
    ("journal_mode", "wal"),
    ("synchronous", "full"),  # what is acknowledged in the log is gone there: a commit is on the disk
    ("cache_size", -65_536),  # KiB
    ("wal_autocheckpoint", 8_000),  # pages: index pages that several batches touch are written once
    ("temp_store", "memory"),
)
MYSQL_SETTINGS = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    f"SET SESSION innodb_lock_wait_timeout = {int(BUSY_SECONDS)}",
)

REFUSALS = (
    peewee.DataError, peewee.IntegrityError, peewee.ProgrammingError, peewee.NotSupportedError, ValueError,
    OverflowError, TypeError,
)  # fmt: skip
"""What SQL or its driver says of a row that it will not have."""

Done = tuple[Any, "BaseException | None"]


class _Mysql(peewee.MySQLDatabase):
    """MySQL or MariaDB over a socket that blocks its thread and no greenlet."""

    address: MysqlServer

    def _connect(self) -> pymysql.Connection[Any]:
        plain = gevent.monkey.get_original("socket", "socket")
        address = self.address
        if address.socket:
            sock = plain(pymysql.connections.socket.AF_UNIX)
            where: Any = address.socket
        else:
            look_up = gevent.monkey.get_original("socket", "getaddrinfo")
            family, _, _, _, where = look_up(address.host, address.port, 0, pymysql.connections.socket.SOCK_STREAM)[0]
            sock = plain(family)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(where)
            connection = pymysql.Connection(
                user=address.user, password=address.password, database=address.database, charset="utf8mb4",
                collation="utf8mb4_bin", read_timeout=READ_SECONDS, write_timeout=READ_SECONDS, autocommit=True,
                defer_connect=True,
            )  # fmt: skip
            connection.host = address.host or "localhost"
            connection.connect(sock)
            for setting in MYSQL_SETTINGS:
                connection.query(setting)
        except OSError as error:
            sock.close()
            raise peewee.OperationalError(f"{address!r}: {error}") from None
        except BaseException:
            sock.close()
            raise
        return connection


def kind_of(db: peewee.Database) -> str:
    """SQLITE or MYSQL."""
    return MYSQL if isinstance(db, peewee.MySQLDatabase) else SQLITE


def writing(db: peewee.Database) -> AbstractContextManager[Any]:
    """A transaction that writes. On SQLite it holds the one lock from its begin on: what it reads stays so."""
    found: AbstractContextManager[Any] = db.atomic("IMMEDIATE") if kind_of(db) == SQLITE else db.atomic()
    return found


@contextmanager
def unhurried(db: peewee.Database) -> Iterator[None]:
    """Transactions inside need not be on the disk when they are committed: what they are made of is still there after
    a power cut that undoes them. On SQLite they cost no fsync, for which messages on the same disk would wait."""
    if kind_of(db) != SQLITE:
        yield
        return
    db.execute_sql("PRAGMA synchronous = normal")
    try:
        yield
    finally:
        db.execute_sql("PRAGMA synchronous = full")


def _database(address: ArchiveAddress) -> peewee.Database:
    if isinstance(address, SqliteFile):
        address.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return peewee.SqliteDatabase(
            str(address.path), thread_safe=False, check_same_thread=False, timeout=BUSY_SECONDS,
            pragmas=SQLITE_PRAGMAS,
        )  # fmt: skip
    db = _Mysql(address.database, thread_safe=False)
    db.address = address
    return db


class _Queue:
    """A few connections, each used by one thread at a time."""

    def __init__(self, address: ArchiveAddress, size: int, between: Callable[[], None] | None = None) -> None:
        """`between` is called by SQLite every `STEPS`."""
        self._address = address
        self._between = between
        self._threads = gevent.threadpool.ThreadPool(size)
        self._turns = BoundedSemaphore(size)
        self._idle: list[peewee.Database] = []

    def run(self, function: Callable[..., R], args: tuple[Any, ...]) -> R:
        with self._turns:
            result, error = self._threads.spawn(self._work, function, args).get()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _work(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Done:
        """In a thread; errors are returned: the pool would print those that are raised."""
        db = self._idle.pop() if self._idle else _database(self._address)
        try:
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
                if db.is_closed():
                    db.connect()
                    if self._between is not None and kind_of(db) == SQLITE:
                        db.connection().set_progress_handler(self._between, STEPS)
                result = function(db, *args)
        except (peewee.OperationalError, peewee.InterfaceError) as error:
            _discard(db)
            return None, StoreUnavailable(f"{self._address!r}: {error}")
        except BaseException as error:
            _discard(db)
            return None, error
        self._idle.append(db)
        return result, None

    def close(self) -> None:
        self._threads.join()
        while self._idle:
            _discard(self._idle.pop())


def _discard(db: peewee.Database) -> None:
    """Close a connection in whatever state it is; a transaction that is open is rolled back."""
    try:
        db.close()
    except Exception:
        return  # it is broken, which is why it goes


class Archive:
    """The archive, as the nodes of one process share it. Methods block their greenlet and raise `StoreError`."""

    def __init__(self, address: ArchiveAddress) -> None:
        self.address = address
        self.gives_way = True
        """Whether writing lets everybody go first who wants its core: those whom somebody waits for. Where the core is
        never idle, hardly anything is written then."""
        self._writer = _Queue(address, 1, self._give_way)
        self._readers = _Queue(address, READERS)

    def write(self, function: Callable[..., R], *args: Any) -> R:
        """Run `function(db, *args)` in the thread that writes. What it does is its own transaction.

        Raises `StoreUnavailable`: the outcome is unknown, so `function` must be harmless when run twice. What SQL
        refuses is raised as peewee's exception.
        """
        return self._writer.run(function, args)

    def read(self, function: Callable[..., R], *args: Any) -> R:
        """Run `function(db, *args)`, which only reads, in a thread."""
        return self._readers.run(function, args)

    def _give_way(self) -> None:
        if self.gives_way:
            os.sched_yield()

    def close(self) -> None:
        self._writer.close()
        self._readers.close()
