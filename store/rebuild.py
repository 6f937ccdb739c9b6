"""An emptied Redis, filled again from the archive: all things, and of each session the newest messages and its numbers.

What is not restored is made again by itself (who is online, login numbers), or was not archived: dedup digests, so that
repeats are looked up in the archive, and whatever of the log had not been drained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from store import entries
from store.archive import carried, sessions, things
from store.archive.database import Archive
from store.client import Client
from store.entries import DELETED
from store.keys import GROUP_PREFIX, Keys
from store.marks import KINDS, Command, Pairs, Values
from store.settings import LEAST

CHUNK = 500
"""Commands that wait for replies at once."""
SESSIONS = 200
"""Sessions whose newest messages are read at once."""
Progress = Callable[[str, int], None]
"""Told what is restored, and how many of it."""
PartiesOf = Callable[[str], Sequence[str]]
"""The users in whose lists of recent sessions a session is; none for a group."""


class Rebuild:
    """One rebuild. It may be cut off and begun again; nodes serve when all is there. Whoever runs it forgets what a
    backup brought (`store/archive/carried.py`) once Redis is marked."""

    def __init__(
        self, client: Client, keys: Keys, archive: Archive, *, pairs: Pairs, parties_of: PartiesOf,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._client = client
        self._keys = keys
        self._archive = archive
        self._pairs = pairs
        self._parties_of = parties_of
        self._progress = progress
        self._members: dict[str, set[str]] = {}

    def run(self) -> None:
        """Restore everything. In a greenlet. Raises `StoreError`."""
        groups = self._things("chat_groups")
        self._members = {ids[0]: set() for ids, _ in groups}
        members = [row for row in self._things("members") if row[0][0] in self._members]
        for (group, user), _ in members:
            self._members[group].add(user)
        found = {"chat_groups": groups, "members": members}
        for kind in KINDS:
            if kind != "positions":
                self._restore(kind, found.get(kind) or self._things(kind))
        self._sessions()
        brought = self._archive.read(carried.kept)
        carried.restore(self._client, brought)
        self._progress("other keys", len(brought))

    def _things(self, kind: str) -> list[tuple[tuple[str, ...], Values]]:
        return self._archive.read(lambda db: list(things.every(db, kind)))

    def _restore(self, kind: str, rows: list[tuple[tuple[str, ...], Values]]) -> None:
        restore = KINDS[kind].restore
        self._send(command for ids, values in rows for command in restore(self._keys, self._pairs, ids, values))
        if kind == "attributes":
            self._send(self._names(rows))
        self._progress(kind, len(rows))

    def _names(self, rows: list[tuple[tuple[str, ...], Values]]) -> Iterable[Command]:
        """For each subject the list of its attributes (`store/people.lua`)."""
        names: dict[tuple[str, str, str], list[str]] = {}
        for (user, about, subject, name), _ in rows:
            names.setdefault((user, about, subject), []).append(name)
        for (user, about, subject), found in names.items():
            yield "HSET", self._keys.of_user(about, user), subject, "".join(f"{name}\0" for name in found)

    def _send(self, commands: Iterable[Command]) -> None:
        batch: list[Command] = []
        for command in commands:
            batch.append(command)
            if len(batch) == CHUNK:
                self._client.ask_all(batch)
                batch = []
        if batch:
            self._client.ask_all(batch)

    # ---- sessions

    def _sessions(self) -> None:
        heads = self._archive.read(sessions.heads)
        count = 0
        for i in range(0, len(heads), SESSIONS):
            some = heads[i : i + SESSIONS]
            newest = self._archive.read(sessions.newest, [session for session, _, _ in some])
            for (session, seq, n), found in zip(some, newest, strict=True):
                self._send(self._session(session, seq, n, found))
                count += len(found)
        self._progress("messages", count)
        self._send(self._positions())
        gone = self._archive.read(sessions.gone)
        self._send(("ZADD", f"{self._keys.session_tag(s)}:g:{s}", seq, seq) for s, seq in gone)
        self._recent(heads)
        self._progress("sessions", len(heads))

    def _session(self, session: str, seq: int, n: int, found: list[bytes]) -> Iterable[Command]:
        rows = [(entries.parse(entry), entry) for entry in found]
        for row, entry in rows:
            key = self._keys.tombstones(session) if row.state & DELETED else self._keys.history(session)
            yield "ZADD", key, row.seq, entry
        # Also 0, for all of it: a repeat is looked up in the archive, since Redis has forgotten it.
        edge = rows[-1][0].seq - 1 if len(rows) == LEAST else 0
        yield "HSET", self._keys.meta(session), "q", seq, "n", n, "a", edge

    def _positions(self) -> Iterable[Command]:
        """Who has read up to where: what he said, or what he sent after it."""
        found: dict[tuple[str, ...], tuple[int, int]] = {}
        for ids, values in self._things("positions"):
            found[ids] = (values[0], values[1])
        for session, sender, seq, n in self._archive.read(sessions.sent):
            found[session, sender] = max(found.get((session, sender), (0, 0)), (seq, n))
        count = 0
        for (session, user), (seq, n) in found.items():
            if session.startswith(GROUP_PREFIX) and user not in self._members.get(session, ()):
                continue
            count += 1
            yield "HSET", self._keys.meta(session), f"r:{user}", f"{seq}:{n}"
        self._progress("positions", count)

    def _recent(self, heads: list[tuple[str, int, int]]) -> None:
        """Recent sessions in the order of their newest messages, all with stamps of now: whoever asks gets all of them
        again, since nobody knows what he has missed."""
        seconds, micros = self._client.ask("TIME")
        stamp = int(seconds) * 1_000_000 + int(micros) - len(heads)
        commands: list[Command] = []
        for i, (session, _, _) in enumerate(sorted(heads, key=lambda head: head[1])):
            commands += [("ZADD", self._keys.recent(user), stamp + i, session) for user in self._parties_of(session)]
        self._send(commands)
        tags = self._keys.user_tags()
        self._send(("SET", f"{tag}:stamp", stamp + len(heads)) for tag in tags)
