"""Where archives are measured: SQLite in a file, and a private MariaDB; each gives any number of empty databases."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import peewee

from bench.systems import package_version
from bench.systems.mariadb import BUFFER_POOL, MariaDB
from store.archive import migrations
from store.archive.database import Archive
from store.archive.url import parse_archive

_numbers = itertools.count(1)


class Engine:
    """A kind of database: a context."""

    name: str

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    @staticmethod
    def version() -> str:
        """With what is set otherwise than by default."""
        raise NotImplementedError

    def pids(self) -> dict[str, list[int]]:
        """Processes that work for it, those of its clients excepted."""
        raise NotImplementedError

    def fresh(self) -> str:
        """The URL of a new database, without tables."""
        raise NotImplementedError

    @contextmanager
    def tables(self) -> Iterator[Archive]:
        """A new database with our tables."""
        archive = opened(self.fresh())
        try:
            archive.write(migrations.migrate)
            yield archive
        finally:
            archive.close()


class Sqlite(Engine):
    """It works in the process that writes."""

    name = "SQLite"

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="imesh-bench-sqlite-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    @staticmethod
    def version() -> str:
        return f"SQLite {peewee.sqlite3.sqlite_version}, WAL, synchronous=full"

    def pids(self) -> dict[str, list[int]]:
        return {}

    def fresh(self) -> str:
        return f"sqlite:///{self._directory.name}/{next(_numbers)}.db"


class Maria(Engine):
    """A server of its own."""

    name = "MariaDB"

    def __enter__(self) -> Self:
        self._server = MariaDB().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @staticmethod
    def version() -> str:
        return f"{package_version('mariadb-server')}, innodb_flush_log_at_trx_commit=1, buffer pool {BUFFER_POOL}"

    def pids(self) -> dict[str, list[int]]:
        return self._server.groups()

    def fresh(self) -> str:
        name = f"bench{next(_numbers)}"
        run(self._server.url(), lambda db: db.execute_sql(f"CREATE DATABASE {name}") and None)
        return self._server.url(name)


ENGINES: dict[str, type[Engine]] = {"sqlite": Sqlite, "mariadb": Maria}


def opened(url: str) -> Archive:
    return Archive(parse_archive(url, Path()))


def run(url: str, function: Callable[[peewee.Database], Any]) -> Any:
    """The result of `function` on a database."""
    archive = opened(url)
    try:
        return archive.write(function)
    finally:
        archive.close()
