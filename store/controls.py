"""What is done to messages after they were stored: revoked, overridden, deleted, read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from store.client import Client
from store.keys import Keys, dedup_field
from store.priority import KEPT_SECONDS
from store.scripts import CONTROL, READ

DONE, REPEATED, CONFLICT, NOT_FOUND, DENIED, NO_GROUP, TOO_LONG = range(1, 8)
"""What became of a control (`Controlled.status`)."""
MOVED, THERE, READ_NO_GROUP, READ_NOT_MEMBER = range(1, 5)
"""What became of a read position (`Position.status`): THERE: it was there or further already."""

NAMESPACE = "17 "
"""Before a control's packId where repeats are known by it: no packId of a message has a blank."""


class Control(NamedTuple):
    """A change of the message that has both `seq` and `target` (its packId).

    `command`: 1 revoke (with `hide` readers get no content from now on), 2 override by `content`, 3 delete. `window`:
    how long after the message its sender may do it, in µs, 0 for ever; a group's owner always may.
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


class Controlled(NamedTuple):
    """The outcome. `time` in ms is when it was first done; `version` that of the group's members then."""

    status: int
    time: int
    version: int


class Reading(NamedTuple):
    """`user` has read `session` up to and including `seq`."""

    session: str
    group: bool
    user: str
    seq: int


class Position(NamedTuple):
    """The outcome: where the read position is now."""

    status: int
    seq: int


class Controls:
    """Controls and read positions in the hot store."""

    def __init__(self, writes: Client, keys: Keys, *, dedup_seconds: int) -> None:
        self._writes = writes
        self._keys = keys
        self._dedup_seconds = dedup_seconds

    def control(self, c: Control, pack: bytes) -> Controlled:
        """Change a message; harmless when repeated. In a greenlet. Raises `StoreError`.

        `pack` is the control as a pack whose last 8 bytes, the time in ms, are left out. In a group it goes to the
        group's priority queue at the same time. A control that changes nothing any more is DONE like others.
        """
        tag = self._keys.session_tag(c.session)
        known_by = dedup_field(c.session, c.operator, f"{NAMESPACE}{c.pack_id}")
        digest = crc32(f"{c.command} {c.seq} {c.target} {c.content}".encode()).to_bytes(4, "big")
        args = (
            tag, c.session, c.operator, known_by, digest, c.command, c.seq, c.target, c.content, int(c.hide), c.window,
            c.max_payload, int(c.group), self._dedup_seconds, KEPT_SECONDS,
            self._keys.stamp_step, pack,
        )  # fmt: skip
        return Controlled(*self._writes.run(CONTROL, (f"{tag}:log",), args))

    def read(
        self, readings: Sequence[Reading], done: Callable[[list[Position] | None, Exception | None], None]
    ) -> None:
        """Move read positions forward, never past the newest message; outcomes come in the same order."""
        tag_of = self._keys.session_tag
        args: list[Any] = []
        for r in readings:
            args += (tag_of(r.session), r.session, r.user, r.seq, int(r.group))

        def moved(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            fields = iter(reply)
            done([Position(status, seq) for status, seq in zip(fields, fields, strict=True)], None)

        self._writes.evaluate(moved, READ, (args[0],), args)
