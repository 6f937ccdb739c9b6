"""Who is whose friend, who has blocked whom, who asks whom.

A relation of two users lies in three shards: each one's own (the lists), and that of their session (what a message is
checked against). No script may touch two of them, so:

    1. `RELATE_OWN`, in the shard of whoever makes the change: decide, whole or not at all, write his own lists and, in
       the same step, a *note* of what the other shards lack. From here on the change happens.
    2. `RELATE_PAIR` in the shard of the session, then `RELATE_OTHER` in that of the other user.
    3. Take the note away.

When a process dies in between, the note stays, and `repair` finishes the change on any node seconds later; so does a
repeat of the request. Every step may run again, in any order and beside others: a friendship has a version that grows
with every change, and the highest one counts in each of the three places. When step 2 finds that the pair has a higher
version that says otherwise, another change came between, and ours is decided again above it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from store.client import Call, Client
from store.keys import Keys
from store.scripts import FRIENDS, RELATE_OTHER, RELATE_OWN, RELATE_PAIR

ADD, DELETE, BLOCK, UNBLOCK, ASK, ACCEPT, DECLINE = "add", "delete", "block", "unblock", "ask", "accept", "decline"
"""Changes that a user makes of his relation to others. In notes, ACCEPT is an ADD; and to DELETE who is no friend is
to UNDO a request, if there is one."""
UNDO = "undo"
DONE, FULL, NOT_ASKED = range(3)
"""What became of one: FULL: above the limit; NOT_ASKED: nobody asked who could be accepted."""

CHUNK = 200
"""Relations in one script: Redis answers others between two of them."""
ROUNDS = 3
"""How often a change is decided again because others made theirs between."""
REQUESTS_MAX = 500
"""Requests that wait for one user; when there are more, the oldest are forgotten."""
UNFINISHED_SECONDS = 10.0
"""Age of a note from which on whoever made it is taken for dead: more than a call may last."""


class Other(NamedTuple):
    """The other side of a change.

    `sessions` are those whose messages are checked against it, separated by blanks: of one that is blocked also that of
    his notices, should he be an app. An empty `remark` leaves the one that there is.
    """

    user: str
    sessions: str
    remark: str = ""


class Note(NamedTuple):
    """A change that is decided: what other shards are made to say."""

    kind: str
    user: str
    other: str
    sessions: str
    version: str


class Standing(NamedTuple):
    """How somebody stands to a user: is he a friend, has he blocked him, has he asked him; how many friends he has."""

    friend: bool
    blocked: bool
    asked: bool
    friends: int


class Friend(NamedTuple):
    """A friend of a user, with the stamp of the last change."""

    user: str
    stamp: int
    remark: str


class Changed(NamedTuple):
    """A user's friends: those that changed, ascending by stamp, all ids, and the store's time (µs)."""

    clock: int
    friends: list[Friend]
    ids: list[str]


class Friends:
    """Relations in the hot store. All methods block their greenlet and raise `StoreError`."""

    def __init__(self, writes: Client, reads: Client, keys: Keys) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys

    # ---- changes

    def change(self, user: str, kind: str, others: Sequence[Other], limit: int = 0) -> tuple[int, list[Note]]:
        """Change the relation of `user` to others, different from each other: all or none.

        Returns DONE, FULL or NOT_ASKED, and the notes of which the other side should hear. `limit` is how many friends
        (ADD, ACCEPT) or blocked users (BLOCK) he may have.
        """
        floor = 0
        left: list[Note] = []
        for attempt in range(ROUNDS):
            status, notes = self.decide(user, kind, others, limit, floor)
            if status != DONE:
                return status, []
            left += notes
            ahead = self._relate_pairs(notes)
            if not ahead or attempt == ROUNDS - 1:
                break
            floor = max(ahead)
        told = self._relate_others(notes)
        self._finish(left)
        return DONE, told

    def decide(
        self, user: str, kind: str, others: Sequence[Other], limit: int, floor: int = 0
    ) -> tuple[int, list[Note]]:
        """The first step of a change; the notes are what is left to do."""
        rows = [part for other in others for part in other]
        args = (self._keys.user_tag(user), user, kind, limit, floor, *rows)
        status, *notes = self._writes.run(RELATE_OWN, (self._stamp(user),), args)
        return status, [_note(note) for note in notes]

    def finish(self, notes: Sequence[Note]) -> list[Note]:
        """The other steps; returns the notes of which the other side should hear."""
        self._relate_pairs(notes)
        told = self._relate_others(notes)
        self._finish(notes)
        return told

    def repair(self, seconds: float = UNFINISHED_SECONDS) -> list[Note]:
        """Finish what is noted for longer than `seconds`; returns it."""
        limit = int((time.time() - seconds) * 1_000_000)
        tags = self._keys.user_tags()
        commands = [("ZRANGEBYSCORE", f"{tag}:j", "-inf", limit, "LIMIT", 0, CHUNK) for tag in tags]
        found = self._reads.ask_all(commands)
        notes = [_note(note) for reply in found for note in reply]
        self.finish(notes)
        return notes

    def _relate_pairs(self, notes: Iterable[Note]) -> list[int]:
        """Write the shards of the sessions; versions found there that are above ours and say otherwise."""
        calls: list[Call] = []
        asked: list[Note] = []
        about = [
            note._replace(sessions=session) for note in notes if note.kind in (ADD, DELETE, BLOCK, UNBLOCK)
            for session in note.sessions.split(" ")
        ]  # fmt: skip
        for tag, chunk in _by_shard(about, lambda note: self._keys.session_tag(note.sessions)):
            asked += chunk
            rows = [part for n in chunk for part in (n.sessions, n.kind, n.user, n.other, n.version)]
            calls.append((RELATE_PAIR, (f"{tag}:log",), (tag, *rows)))
        known = [int(version) for reply in self._writes.run_all(calls) for version in reply]
        return [
            found for note, found in zip(asked, known, strict=True)
            if found > int(note.version) and (found - int(note.version)) % 2 and note.kind in (ADD, DELETE)
        ]  # fmt: skip

    def _relate_others(self, notes: Iterable[Note]) -> list[Note]:
        calls: list[Call] = []
        asked: list[Note] = []
        about = [note for note in notes if note.kind not in (BLOCK, UNBLOCK)]
        for tag, chunk in _by_shard(about, lambda note: self._keys.user_tag(note.other)):
            asked += chunk
            rows = [part for n in chunk for part in (n.kind, n.user, n.other, n.version)]
            calls.append((RELATE_OTHER, (f"{tag}:stamp",), (tag, REQUESTS_MAX, *rows)))
        told = [bool(look) for reply in self._writes.run_all(calls) for look in reply]
        return [note for note, look in zip(asked, told, strict=True) if look]

    def _finish(self, notes: Iterable[Note]) -> None:
        shards = _by_shard(notes, lambda note: self._keys.user_tag(note.user))
        commands = [("ZREM", f"{tag}:j", *map("\0".join, chunk)) for tag, chunk in shards]
        self._writes.ask_all(commands)

    # ---- reading

    def standings(self, user: str, others: Sequence[str]) -> list[Standing]:
        """How each of the others stands to `user`."""
        key = self._keys.of_user
        commands: list[tuple[str, ...]] = []
        for other in others:
            commands += (
                ("ZSCORE", key("f", other), user),
                ("SISMEMBER", key("b", other), user),
                ("ZSCORE", key("q", user), other),
                ("ZCARD", key("f", other)),
            )
        replies = iter(self._reads.ask_all(commands))
        rows = zip(replies, replies, replies, replies, strict=True)
        return [Standing(f is not None, bool(b), a is not None, int(count)) for f, b, a, count in rows]

    def changed(self, user: str, after: int, count: int) -> Changed:
        """The friends of `user` that changed after a stamp, at most `count`, and all ids."""
        args = (self._keys.user_tag(user), user, after, count)
        clock, rows, ids = self._reads.run(FRIENDS, (self._keys.of_user("f", user),), args)
        fields = iter(rows)
        friends = [Friend(f.decode(), int(s), r.decode()) for f, s, r in zip(fields, fields, fields, strict=True)]
        return Changed(int(clock), friends, [friend.decode() for friend in ids])

    def are(self, user: str, others: Sequence[str]) -> list[bool]:
        """Whether each of the others is a friend of `user`."""
        if not others:
            return []
        return [score is not None for score in self._reads.ask("ZMSCORE", self._keys.of_user("f", user), *others)]

    def ids(self, user: str) -> list[str]:
        """All friends of `user`."""
        return [friend.decode() for friend in self._reads.ask("ZRANGE", self._keys.of_user("f", user), 0, -1)]

    def blocked(self, user: str) -> list[str]:
        """Whom `user` has blocked, sorted."""
        return sorted(other.decode() for other in self._reads.ask("SMEMBERS", self._keys.of_user("b", user)))

    def requests(self, user: str) -> list[tuple[str, int]]:
        """Who asks to be a friend of `user`, oldest first, with a stamp (µs)."""
        fields = iter(self._reads.ask("ZRANGE", self._keys.of_user("q", user), 0, -1, "WITHSCORES"))
        return [(other.decode(), int(float(stamp))) for other, stamp in zip(fields, fields, strict=True)]

    def relation(self, session: str, user: str, peer: str) -> tuple[bool, bool]:
        """What messages of `user` to `peer` are checked against: are they friends, has `peer` blocked him."""
        friend, blocked = self._reads.ask("HMGET", self._keys.meta(session), f"f:{user}", f"b:{peer}")
        return friend is not None, blocked is not None

    def _stamp(self, user: str) -> str:
        return f"{self._keys.user_tag(user)}:stamp"


def _note(found: bytes) -> Note:
    kind, user, other, sessions, version = found.decode().split("\0")
    return Note(kind, user, other, sessions, version)


def _by_shard(notes: Iterable[Note], tag_of: Callable[[Note], str]) -> Iterator[tuple[str, Sequence[Note]]]:
    """The notes by the tag of a shard, at most `CHUNK` at once: Redis answers others between two scripts."""
    found: dict[str, list[Note]] = {}
    for note in notes:
        found.setdefault(tag_of(note), []).append(note)
    for tag, some in found.items():
        for i in range(0, len(some), CHUNK):
            yield tag, some[i : i + CHUNK]
