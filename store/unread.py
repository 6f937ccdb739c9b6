"""What users have not read: in all their sessions together, as a badge shows it, and single messages."""

from __future__ import annotations

from collections.abc import Sequence

from store import entries
from store.client import Call, Client
from store.entries import Entry
from store.keys import GROUP_PREFIX, Keys
from store.scripts import UNREAD

SESSIONS = 1000
"""Of his own sessions the latest so many are counted; of his groups all."""


class Unread:
    """Unread totals. Methods block their greenlet and raise `StoreError`."""

    def __init__(self, reads: Client, keys: Keys) -> None:
        self._reads = reads
        self._keys = keys

    def totals(self, users: Sequence[str]) -> list[int]:
        """The number of unread messages of each of the users."""
        lists = self._reads.ask_all(
            [
                command
                for user in users
                for command in (
                    ("ZREVRANGE", self._keys.recent(user), 0, SESSIONS - 1),
                    ("ZRANGE", self._keys.my_groups(user), 0, -1),
                )
            ]
        )
        calls: list[Call] = []
        owners: list[int] = []
        tag_of = self._keys.session_tag
        for number, (own, groups) in enumerate(zip(lists[::2], lists[1::2], strict=True)):
            sessions = [s for s in map(bytes.decode, own) if s[:3] != GROUP_PREFIX]
            sessions += map(bytes.decode, groups)
            for part in self._reads.parts(sessions, tag_of):
                args = [users[number], *(field for session in part for field in (tag_of(session), session))]
                calls.append((UNREAD, (f"{args[1]}:log",), args))
                owners.append(number)
        totals = [0] * len(users)
        for number, total in zip(owners, self._reads.run_all(calls), strict=True):
            totals[number] += total
        return totals

    def positions(self, asked: Sequence[tuple[str, str]]) -> list[int]:
        """Up to which seqId each (session, user) is read, 0 for nothing."""
        by_session: dict[str, list[int]] = {}
        for number, (session, _) in enumerate(asked):
            by_session.setdefault(session, []).append(number)
        commands = [
            ("HMGET", self._keys.meta(session), *(f"r:{asked[n][1]}" for n in numbers))
            for session, numbers in by_session.items()
        ]
        found = [0] * len(asked)
        for numbers, replies in zip(by_session.values(), self._reads.ask_all(commands), strict=True):
            for number, reply in zip(numbers, replies, strict=True):
                if reply:
                    found[number] = int(reply.partition(b":")[0])
        return found

    def after(self, session: str, seq: int, count: int) -> list[Entry]:
        """The newest `count` messages behind this seqId that the hot store has, newest first."""
        rows = self._reads.ask(
            "ZREVRANGEBYSCORE", self._keys.history(session), "+inf", f"({seq}", "LIMIT", 0, count
        )  # fmt: skip
        return [entries.parse(row) for row in rows]

    def entries(self, asked: Sequence[tuple[str, int]]) -> list[Entry | None]:
        """The message (session, seqId) as it is now; None when it is deleted or lies in the archive only."""
        commands = [("ZRANGEBYSCORE", self._keys.history(session), seq, seq) for session, seq in asked]
        return [entries.parse(reply[0]) if reply else None for reply in self._reads.ask_all(commands)]
