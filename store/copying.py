"""All that Redis holds into the archive, whatever the log says: when an archive is new, or was away for too long."""

from __future__ import annotations

import re
from collections.abc import Iterator

from store import marks
from store.archive import messages, things
from store.archive.database import Archive
from store.client import Client
from store.errors import StoreUnavailable
from store.keys import Keys
from store.marks import KINDS, QUEUES, Thing

SCANNED = 500
ENTRIES = 1000
_key = re.compile(rb"\{([su])\d+\}:([a-z]):(.+)", re.DOTALL).fullmatch


def copy(client: Client, keys: Keys, archive: Archive) -> tuple[int, int]:
    """Copy; how many messages and other things there were. Harmless beside whoever writes. Raises `StoreError`."""
    found_messages = found_things = 0
    for server in client.servers():
        cursor = b"0"
        while True:
            cursor, found = server.ask("SCAN", cursor, "COUNT", SCANNED)
            for key in found:
                found_messages += _messages(client, archive, key)
            some = [thing for key in found for thing in _things(client, key)]
            for i in range(0, len(some), ENTRIES):
                states = marks.read(client, keys, some[i : i + ENTRIES])
                if None in states:
                    raise StoreUnavailable("a server of the Cluster does not answer")
                archive.write(things.put, states)
            found_things += len(some)
            if cursor == b"0":
                break
    return found_messages, found_things


def _messages(client: Client, archive: Archive, key: bytes) -> int:
    match = _key(key)
    if match is None or match[1] != b"s" or match[2] not in b"ht":
        return 0
    session, at = match[3].decode(), 0
    while entries := client.ask("ZRANGE", key.decode(), at, at + ENTRIES - 1):
        archive.write(messages.put, [messages.row_of(session, entry, "") for entry in entries])
        at += len(entries)
    return at


def _things(client: Client, key: bytes) -> Iterator[Thing]:
    match = _key(key)
    if match is None:
        return
    letter, owner = match[2].decode(), match[3]
    for kind, about in KINDS.items():
        in_users = match[1] == b"u"
        if letter in about.letter and (in_users == about.of_users or kind == QUEUES):
            for rest in _elements(client, key.decode(), kind, letter):
                yield Thing(kind, (owner, *rest))


def _elements(client: Client, key: str, kind: str, letter: str) -> list[tuple[bytes, ...]]:
    """What a key holds of a kind: the rest of their ids."""
    if KINDS[kind].ids == 1:
        return [()]
    if kind == "blocks":
        return [(member,) for member in client.ask("SMEMBERS", key)]
    if kind == "friends":
        return [(friend,) for friend in client.ask("HKEYS", key)]
    if kind == "positions":
        return [(field[2:],) for field in client.ask("HKEYS", key) if field.startswith(b"r:")]
    if kind == "attributes":
        fields = [field.split(b"\0", 1) for field in client.ask("HKEYS", key) if b"\0" in field]
        return [(letter.encode(), subject, name) for subject, name in fields]
    return [(member,) for member in client.ask("ZRANGE", key, 0, -1)]
