"""What is done to messages after they were stored: revoked, overridden, deleted, read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from store.client import Client
from store.keys import Keys, dedup_field
from store.priority import KEPT_SECONDS
from store.scripts import CONTROL, READ

DONE, REPEATED, CONFLICT, NOT_FOUND, DENIED, NO_GROUP, TOO_LONG, ASK = range(1, 9)
"""What became of a control (`Controlled.status`). ASK: nothing; the message lies in the archive and must be given."""
MOVED, THERE, READ_NO_GROUP, READ_NOT_MEMBER, READ_ASK = range(1, 6)
"""What became of a read position (`Position.status`): THERE: it was there or further already; READ_ASK: nothing; the
archive knows up to which message that is."""

NAMESPACE = "17 "
"""Before a control's packId where repeats are known by it: no packId of a message has a blank."""


class Control(NamedTuple):
    """A change of the message that has both `seq` and `target` (its packId).

    `command`: 1 revoke (with `hide` readers get no content from now on), 2 override by `content`, 3 delete. `window`:
    how long after the message its sender may do it, in µs, 0 for ever; a group's owner always may. Without `member`,
    the group need not be there (any more), nor the operator be in it.
    """

    session: str
    group: bool
    operator: str
    pack_id: str
    command: int
    seq: int
    target: str
    content: str
    hide: bool
    window: int
    max_payload: int
    member: bool = True


class Controlled(NamedTuple):
    """The outcome. `time` in ms is when it was first done; `version` that of the group's members then."""

    status: int
    time: int
    version: int


class Reading(NamedTuple):
    """`user` has read `session` up to and including `seq`. `known`: the seqId and n of the newest message up to there,
    as the archive says."""

    session: str
    group: bool
    user: str
    seq: int
    known: tuple[int, int] | None = None


class Position(NamedTuple):
    """The outcome: where the read position is now."""

    status: int
    seq: int


class Controls:
    """Controls and read positions in the hot store."""

    def __init__(self, writes: Client, keys: Keys, *, dedup_seconds: int, told: bool = False) -> None:
        """`told`: other systems are told of read positions."""
        self._told = int(told)
        self._writes = writes
        self._keys = keys
        self._dedup_seconds = dedup_seconds

    def control(self, c: Control, pack: bytes, archived: bytes = b"") -> Controlled:
        """Change a message; harmless when repeated. In a greenlet. Raises `StoreError`.

        `archived` is the message's entry when it lies in the archive (see ASK).

        `pack` is the control as a pack whose last 8 bytes, the time in ms, are left out. In a group it goes to the
        group's priority queue at the same time. A control that changes nothing any more is DONE like others.
        """
        tag = self._keys.session_tag(c.session)
        known_by = dedup_field(c.session, c.operator, f"{NAMESPACE}{c.pack_id}")
        digest = crc32(f"{c.command} {c.seq} {c.target} {c.content}".encode()).to_bytes(4, "big")
        args = (
            tag, c.session, c.operator, known_by, digest, c.command, c.seq, c.target, c.content, int(c.hide), c.window,
            c.max_payload, int(c.group) * (1 if c.member else 2), self._dedup_seconds, KEPT_SECONDS,
            self._keys.stamp_step, pack, archived,
        )  # fmt: skip
        return Controlled(*self._writes.run(CONTROL, (f"{tag}:log",), args))

    def read(
        self, readings: Sequence[Reading], done: Callable[[list[Position] | None, Exception | None], None]
    ) -> None:
        """Move read positions forward, never past the newest message; outcomes come in the same order."""
        tag_of = self._keys.session_tag
        args: list[Any] = [self._told]
        for r in readings:
            known = f"{r.known[0]}:{r.known[1]}" if r.known is not None else ""
            args += (tag_of(r.session), r.session, r.user, r.seq, int(r.group), known)

        def moved(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            fields = iter(reply)
            done([Position(status, seq) for status, seq in zip(fields, fields, strict=True)], None)

        self._writes.evaluate(moved, READ, (args[1],), args)
