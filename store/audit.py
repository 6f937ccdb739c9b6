"""The audit: who listened to which session, from when to when. Only added to."""

from __future__ import annotations

from collections.abc import Sequence

from store import entries
from store.client import Client
from store.entries import Entry
from store.keys import AUDIT, Keys

KEPT = 1_000_000
"""Entries kept, about: the oldest are dropped."""


class Audit:
    """The audit in the hot store. Methods block their greenlet and raise `StoreError`."""

    def __init__(self, writes: Client, reads: Client, keys: Keys) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys

    def note(self, who: str, action: str, sessions: Sequence[str], device: str, address: str) -> None:
        """Write one entry for each session. Written twice when the connection is lost in between, rather than never."""
        rows = [
            ("XADD", AUDIT, "MAXLEN", "~", KEPT, "*", "who", who, "action", action, "session", session,
             "device", device, "address", address)
            for session in sessions
        ]  # fmt: skip
        self._writes.ask_all(rows)

    def page(self, before: str, count: int) -> list[tuple[str, int, str, str, str, str, str]]:
        """Entries older than the one with id `before` ("": the newest), newest first: id, ms, who, action, session,
        device, address."""
        rows = self._reads.ask("XREVRANGE", AUDIT, f"({before}" if before else "+", "-", "COUNT", count)
        found = []
        for row, values in rows:
            texts = [value.decode() for value in values]
            fields = dict(zip(texts[::2], texts[1::2], strict=True))
            name = row.decode()
            found.append(
                (name, int(name.split("-")[0]), fields["who"], fields["action"], fields["session"], fields["device"],
                 fields["address"])
            )  # fmt: skip
        return found

    def newest(self, sessions: Sequence[str]) -> list[Entry | None]:
        """The newest message of each session, whoever may read it."""
        rows = [("ZREVRANGE", self._keys.history(session), 0, 0) for session in sessions]
        replies = self._reads.ask_all(rows)
        return [entries.parse(reply[0]) if reply else None for reply in replies]
