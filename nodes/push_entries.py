"""What lies in the queue of pushes: an entry holds notes, each for some devices of an outlet.

An entry is msgpack [tries, queued (ms), notes]; a note [what it is about, its text, devices]. Devices of one note get
the same, but for the badge, which is read when it is sent.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from push.model import Notification, Outcome, Push, Verdict
from push.text import key_of

ENTRY_PUSHES = 200
"""Pushes of an entry, at most: it is settled as a whole."""


class Target(NamedTuple):
    """A device: whose it is, its registration's field and token."""

    user: str
    field: str
    token: str

    @property
    def device(self) -> str:
        return self.field.split("\0")[1]


class Note(NamedTuple):
    """A notification for some devices. `about` and `seq`: session and message, "" and 0 for none; `kind` tells
    notifications about one message apart. `badge` -1: what the user has not read. `expires` in s since the epoch."""

    about: str
    seq: int
    kind: str
    title: str
    body: str
    url: str
    extra: str
    badge: int
    expires: float
    alert: bool
    targets: tuple[Target, ...]

    @property
    def name(self) -> str:
        """The same for the same notification."""
        return f"{self.about} {self.seq} {self.kind}"

    def push(self, target: Target, badge: int) -> Push:
        """For one of its devices."""
        id_ = key_of(f"{self.name} {target.user} {target.field}", 22)
        shown = Notification(
            id_, self.title, self.body, self.url, self.extra, self.about, badge, self.expires, self.alert
        )  # fmt: skip
        return Push(target.token, shown)


class Entry(NamedTuple):
    """Notes that are settled together."""

    tries: int
    queued: int
    notes: tuple[Note, ...]

    @property
    def name(self) -> str:
        """The same for the same notes to the same devices."""
        return "\n".join(f"{note.name} {' '.join(t.user + ' ' + t.field for t in note.targets)}" for note in self.notes)


_encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Entry).decode
decode_record = msgspec.msgpack.Decoder(list[tuple[int, str, str, int, str, str, str, str, int, int]]).decode
"""Rows of a record: time, user, session, seqId, device, outcome, reason, vendor's id, tries, ms waited."""


def encode(entry: Entry) -> bytes:
    """As it lies in the queue."""
    return _encode(entry)


def pack(notes: list[Note], queued: int) -> list[Entry]:
    """Entries of these notes, none of them too large; large notes are cut, small ones put together."""
    entries: list[Entry] = []
    held: list[Note] = []
    size = 0
    for note in notes:
        for start in range(0, len(note.targets), ENTRY_PUSHES):
            part = note._replace(targets=note.targets[start : start + ENTRY_PUSHES])
            if size + len(part.targets) > ENTRY_PUSHES:
                entries.append(Entry(0, queued, tuple(held)))
                held, size = [], 0
            held.append(part)
            size += len(part.targets)
    if held:
        entries.append(Entry(0, queued, tuple(held)))
    return entries


Outcomes = list[tuple[tuple[Note, Target, Verdict, int], int]]


def record(rows: Outcomes, clock: int) -> bytes:
    """What became of pushes at `clock` (ms): ((note, device, verdict, try number), when it was queued in ms)."""
    return _encode([
        (clock, target.user, note.about, note.seq, target.device, verdict.outcome.value, verdict.reason, verdict.id,
         tries, max(0, clock - queued))
        for (note, target, verdict, tries), queued in rows
    ])  # fmt: skip


EXPIRED = Verdict(Outcome.SKIPPED, "expired")
"""Its time ran out before the vendor took it."""
READ = Verdict(Outcome.SKIPPED, "read")
"""The user has read it meanwhile."""
REVOKED = Verdict(Outcome.SKIPPED, "revoked")
"""Its message is no more."""
