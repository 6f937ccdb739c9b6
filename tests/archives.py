"""The archive compared with the hot history, by what lies in each: nothing here goes through the code of the store."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgpack

from store.archive.database import Archive
from store.archive.url import parse_archive

Rows = dict[tuple[str, int], tuple[Any, ...]]
COLUMNS = "prev, n, type, flags, pack_id, payload, state, revision, changed, content, sender"


def hot_rows(server: Any) -> Rows:
    """Every message in Redis, deleted ones included, by session and seqId."""
    found: Rows = {}
    for kind in ("h", "t"):
        for key in server.scan_iter(f"{{s*}}:{kind}:*", count=1000):
            session = key.decode().split(":", 2)[2]
            for entry, score in server.zrange(key, 0, -1, withscores=True):
                found[session, int(score)] = _entry(entry)
    return found


def _entry(entry: bytes) -> tuple[Any, ...]:
    prev, n = struct.unpack(">QQ", entry[8:24])
    state, revision, changed, content, rest = 0, 0, 0, "", entry[24:]
    if entry[0]:
        state, revision, changed, length = struct.unpack(">BIQI", entry[24:41])
        content, rest = entry[41 : 41 + length].decode(), entry[41 + length :]
    kind, flags, pack_id, payload = msgpack.unpackb(rest)
    sender = msgpack.unpackb(payload)["from"]
    return prev, n, kind, flags, pack_id, payload, state, revision, changed, content, sender


def cold_rows(url: str, data: Path) -> Rows:
    """Every message in the archive."""
    archive = Archive(parse_archive(url, data))
    try:
        rows = archive.read(lambda db: db.execute_sql(f"SELECT session, seq, {COLUMNS} FROM messages").fetchall())
    finally:
        archive.close()
    return {(session, seq): (*rest[:5], bytes(rest[5]), *rest[6:]) for session, seq, *rest in rows}


def operators(url: str, data: Path) -> dict[tuple[str, int], str]:
    """Who changed each message last, as the archive has it; "" for one that is as it was sent."""
    archive = Archive(parse_archive(url, data))
    try:
        rows = archive.read(lambda db: db.execute_sql("SELECT session, seq, operator FROM messages").fetchall())
    finally:
        archive.close()
    return {(session, seq): operator for session, seq, operator in rows}


def differences(hot: Rows, cold: Rows) -> list[str]:
    """What of the hot history the archive does not have, or has otherwise."""
    found = [f"{place} is missing" for place in hot if place not in cold]
    found += [f"{place}: hot {row}, cold {cold[place]}" for place, row in hot.items() if cold.get(place, row) != row]
    return found[:20]
