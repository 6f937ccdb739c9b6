"""The address of an archive, as `[store] archive` gives it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

EMBEDDED = "embedded"
EMBEDDED_FILE = "archive.db"
MYSQL_PORT = 3306
EXPECTED = "expected sqlite:///FILE, sqlite:////DIRECTORY/FILE or mysql://USER:PASSWORD@HOST[:PORT]/DATABASE"


class SqliteFile(NamedTuple):
    """A file of SQLite."""

    path: Path

    def __repr__(self) -> str:
        return f"sqlite:///{self.path}"


class MysqlServer(NamedTuple):
    """A database of a MySQL or MariaDB server; `socket` is a unix socket, or "" for TCP."""

    host: str
    port: int
    user: str
    password: str
    database: str
    socket: str = ""

    def __repr__(self) -> str:  # no password in logs
        return f"mysql://{self.user}@{self.host or self.socket}:{self.port}/{self.database}"


ArchiveAddress = SqliteFile | MysqlServer


def parse_archive(url: str, data_dir: Path) -> ArchiveAddress:
    """What a URL names; "embedded" is a file in the data directory, as relative paths are. Raises `ValueError`."""
    if url == EMBEDDED:
        return SqliteFile(data_dir / EMBEDDED_FILE)
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return SqliteFile(data_dir / unquote(parts.path[1:]))
    if parts.scheme == "mysql" and len(parts.path) > 1 and parts.username:
        query = dict(p.split("=", 1) for p in parts.query.split("&") if "=" in p)
        if parts.hostname or "unix_socket" in query:
            return MysqlServer(
                parts.hostname or "", parts.port or MYSQL_PORT, unquote(parts.username), unquote(parts.password or ""),
                parts.path[1:], unquote(query.get("unix_socket", "")),
            )  # fmt: skip
    raise ValueError(EXPECTED)
