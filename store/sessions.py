"""Messages of sessions: storing them, reading them back, and what a user sees of his sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgpack
import msgspec

from mesh.loop import now
from store import entries
from store.client import Call, Client
from store.entries import Entry
from store.keys import Keys, dedup_field
from store.profiles import SESSION, attributes_of
from store.scripts import ATTRIBUTES, COMMIT, OVERVIEW, PAGE, RECENT, RECENT_REPAIR

STORED, REPEATED, CONFLICT, NOT_FRIENDS, BLOCKED, NO_GROUP, NOT_MEMBER, CHANGED, ASK, BEHIND = range(1, 11)
FAILED = 0
"""What became of a message (`Stored.status`). CHANGED: a repeat of what was revoked, overridden or deleted since. ASK:
only the archive knows whether it was stored before; BEHIND: not stored either, for it must not overtake such a one."""
MEMBERS_ONLY = "#"
"""As `Message.peer`: the session is a group and the sender must be a member."""

TOUCH_SECONDS = 1.0
"""A session's activity is noted for a user at most once in so many seconds by one process (worth 10 µs per message).
A stamp may thus be this much older than the newest activity; readers' cursors stay further behind than that."""
LATE_US = int(2 * TOUCH_SECONDS * 1_000_000)
"""A stamp that is older than its session's newest message by more than this was not noted."""
UNTOUCHED_MAX = 10_000
"""Activities kept while Redis cannot be reached."""
BATCH = 64
"""Messages per script call: Redis answers other clients between two of them."""


class Message(NamedTuple):
    """A message to store. `peer`: "" where no relation is checked, `MEMBERS_ONLY` in a group; `crc` tells a repeat from
    other content. `priority`: it also goes to its group's queue of what must not be missed. `again`: it is sent again,
    perhaps after so long that only the archive would know it. `users`: whose recent sessions it is noted in."""

    session: str
    sender: str
    peer: str
    pack_id: str
    crc: bytes
    countable: bool
    tail: bytes
    priority: bool = False
    again: bool = False
    users: tuple[str, ...] = ()


class Stored(NamedTuple):
    """The outcome for one message; `version` is that of the group's members when they were checked, `text` only when it
    FAILED."""

    status: int
    seq: int
    prev: int
    version: int
    text: str = ""


class Overview(NamedTuple):
    """A session as one user sees it, with its newest message and the attributes that he gave it. `newest` is a number
    when that message lies in the archive: it has this seqId or a lower one."""

    session: str
    stamp: int
    read_seq: int
    unread: int
    newest: Entry | int
    attributes: dict[str, str]


class Page(NamedTuple):
    """Messages of a session, newest first.

    `rest`: seqId from which on, downwards, the archive has the rest of the page, 0 when this is all. `changed` are
    archived messages, deleted ones too, in a state that the archive may not know yet: it counts, also against theirs.
    """

    entries: list[Entry]
    rest: int
    changed: list[Entry]


Activity = tuple[str, str]
"""A user, and a session in which something happened that concerns him."""
_new = tuple.__new__
_pack = msgpack.Packer(use_bin_type=False).pack  # Redis' msgpack knows no type for bytes
_decode = msgspec.msgpack.Decoder(list).decode

StoredDone = Callable[[Sequence[Stored] | None, "Exception | None"], None]


class Sessions:
    """Sessions in the hot store."""

    def __init__(self, writes: Client, reads: Client, keys: Keys, *, dedup_seconds: int, log_seconds: int) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys
        self._floor = 0  # the largest number seen from the store; new ones are above it, whatever became of the data
        self._dedup_seconds = dedup_seconds
        self._log_keep_ms = log_seconds * 1000
        self._touched: set[Activity] = set()  # lately
        self._forget_at = 0.0  # when to empty it
        self._untouched: list[Activity] = []  # what could not be written; goes with the next ones

    def commit(self, messages: Sequence[Message], require_friend: bool, done: StoredDone) -> None:
        """Store messages, in order and atomically each; the outcomes come in the same order. Harmless when repeated.
        What is stored, now or before, is noted in the recent sessions of its users.

        `messages` are at most `BATCH`. An error of `done` means that nothing is known of any of them.
        """
        tag_of, recent = self._keys.session_tag, self._keys.recent
        lately = self._lately()
        fresh = [[of for user in m.users if (of := (user, m.session)) not in lately] for m in messages]
        together = self._writes.together
        rows = [
            (
                tag_of(m.session), m.session, m.sender, m.peer, dedup_field(m.session, m.sender, m.pack_id), m.crc,
                m.countable + 2 * m.priority + 4 * m.again, m.tail,
                " ".join([recent(user) for user, _ in activity]) if activity and together else "",
            )
            for m, activity in zip(messages, fresh, strict=True)
        ]  # fmt: skip

        def stored(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            outcomes = []
            active: list[Activity] = []
            for status, seq, prev, extra, activity in zip(*_decode(reply), fresh, strict=True):
                if status == FAILED:
                    outcomes.append(Stored(status, seq, prev, 0, extra))
                    continue
                outcomes.append(Stored(status, seq, prev, extra))
                if seq > self._floor:
                    self._floor = seq
                if activity and status in (STORED, REPEATED, CHANGED):
                    active += activity
            if together:
                self._touched.update(active)
            elif active:
                self.touch(active)
            done(outcomes, None)

        self._writes.evaluate(stored, COMMIT, (rows[0][0],), (
            self._floor, 1 if require_friend else 0, self._dedup_seconds, self._log_keep_ms, self._keys.stamp_step,
            _pack(list(zip(*rows, strict=True))),
        ))  # fmt: skip

    def touch(self, activity: Iterable[Activity]) -> None:
        """Note activity for the users' recent sessions, unless it was noted within TOUCH_SECONDS."""
        lately = self._lately()
        fresh = [of for of in activity if of not in lately]
        if self._untouched:
            fresh, self._untouched = [*self._untouched, *fresh], []
        fresh = list(dict.fromkeys(fresh))
        self._touched.update(fresh)
        for some in self._writes.parts(fresh, lambda of: self._keys.user_tag(of[0])):
            args = [part for user, session in some for part in (self._keys.recent(user), session)]
            self._writes.evaluate(partial(self._noted, some), RECENT, (args[0],), args)

    def _lately(self) -> set[Activity]:
        """What was noted within `TOUCH_SECONDS`."""
        time = now()
        if time >= self._forget_at:
            self._touched.clear()
            self._forget_at = time + TOUCH_SECONDS
        return self._touched

    def repair(self, newest: Iterable[tuple[str, str, int]]) -> tuple[int, list[tuple[str, str, int]]]:
        """Note activity that `touch` should have noted, for each (user, session, seqId of the newest message); returns
        how often it had not, and those whose server, one of a Cluster, did not answer. In a greenlet. Raises
        `StoreError`."""
        by_shard: dict[str, list[tuple[str, str, int]]] = {}
        for row in newest:
            by_shard.setdefault(self._keys.user_tag(row[0]), []).append(row)
        calls: list[Call] = []
        for tag, rows in by_shard.items():
            args = [part for user, session, seq in rows for part in (self._keys.recent(user), session, seq)]
            calls.append((RECENT_REPAIR, (f"{tag}:stamp",), (LATE_US, *args)))
        count = 0
        left: list[tuple[str, str, int]] = []
        for rows, reply in zip(by_shard.values(), self._writes.run_each(calls), strict=True):
            if isinstance(reply, Exception):
                left += rows
            else:
                count += reply
        return count, left

    def _noted(self, activity: Sequence[Activity], reply: Any, error: Exception | None) -> None:
        if error is not None:
            self._touched.difference_update(activity)
            self._untouched = [*self._untouched, *activity][-UNTOUCHED_MAX:]

    def page(
        self, session: str, below: int, count: int, done: Callable[[Page | None, Any], None], member: str = ""
    ) -> None:
        """Messages of `session` with seqId <= `below` (<= 0: from the newest), newest first, at most `count`.

        With `member`, the session is a group; no page and no error when that user is not in it.
        """
        parse = entries.parse

        def read(reply: Any, error: Exception | None) -> None:
            if error is not None or reply is None:
                done(None, error)
                return
            archived, found, *changed = reply
            bound = int(archived)
            if below > 0:
                bound = min(bound, below)
            rest = bound if len(found) < count else 0
            done(Page([parse(e) for e in found], rest, [parse(e) for some in changed for e in some]), None)

        top = below if below > 0 else "+inf"
        args = (self._keys.session_tag(session), session, member, top, count)
        self._reads.evaluate(read, PAGE, (self._keys.history(session),), args)

    def overview(
        self,
        user: str,
        sessions: Sequence[tuple[str, int]],
        done: Callable[[list[Overview] | None, Any], None],
        *,
        attributed: bool = True,
    ) -> None:
        """What `user` sees of these (session, stamp), in their order; sessions without any message are left out, and
        groups that he is not in. `attributed`: he may have given attributes to some."""
        if not sessions:
            done([], None)
            return
        rows = [(self._keys.session_tag(session), session) for session, _ in sessions]
        also: list[Call] = []
        if attributed:
            also.append((ATTRIBUTES, (self._keys.of_user(SESSION, user),), [session for session, _ in sessions]))

        def read(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                done(None, error)
                return
            attributes = attributes_of(replies.pop() if attributed else [], len(rows))
            fields = iter(replies)
            found = zip(sessions, fields, fields, fields, attributes, strict=True)
            parse, new = entries.parse, _new
            done(
                [
                    new(Overview, (*row, int(at), n, e if type(e) is int else parse(e), given))
                    for row, at, n, e, given in found if e
                ], None,
            )  # fmt: skip

        self._reads.gather(read, OVERVIEW, (user,), rows, answers=3, chunk=len(rows), also=also)

    def held(self, places: Sequence[tuple[str, int]]) -> list[Entry | None]:
        """The message of each (session, seqId) as Redis has it, tombstones included; None where it has it no more. In a
        greenlet. Raises `StoreError`."""
        commands = [
            ("ZRANGEBYSCORE", key(session), seq, seq)
            for session, seq in places for key in (self._keys.history, self._keys.tombstones)
        ]  # fmt: skip
        replies = iter(self._reads.ask_all(commands))
        pairs = zip(replies, replies, strict=True)
        return [entries.parse((gone or there)[0]) if gone or there else None for there, gone in pairs]
