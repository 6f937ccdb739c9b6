"""Keys of Redis that the archive knows nothing of (API keys, the audit, devices): a backup brings them along."""

from __future__ import annotations

from collections.abc import Iterator

import peewee

from store.archive.models import Carried
from store.client import Client
from store.keys import DATASET

PATTERNS = ("imesh:*", "{u*}:[dl]:*")
SCANNED = 500


def read(client: Client) -> Iterator[tuple[str, bytes]]:
    """The keys, and what DUMP says of them. In a greenlet. Raises `StoreError`."""
    for server in client.servers():
        for pattern in PATTERNS:
            cursor = b"0"
            while True:
                cursor, found = server.ask("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)
                for key in found:
                    dump = client.ask("DUMP", key.decode()) if key.decode() != DATASET else None
                    if dump is not None:
                        yield key.decode(), dump
                if cursor == b"0":
                    break


def restore(client: Client, rows: list[tuple[str, bytes]]) -> None:
    """Put keys back. In a greenlet. Raises `StoreError`."""
    for name, dump in rows:
        client.ask("RESTORE", name, 0, dump, "REPLACE")


def kept(db: peewee.Database) -> list[tuple[str, bytes]]:
    """Those that a backup brought and nobody put back yet."""
    return [(row.name, bytes(row.dump)) for row in Carried.select().execute(db)]


def forget(db: peewee.Database) -> None:
    """They are back."""
    Carried.delete().execute(db)
