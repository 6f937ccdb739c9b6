"""Messages on their way in: each exactly once and in order per session; no I/O, the clock is an argument.

A message whose `prev` is above what is there contiguously waits while the missing ones are pulled from history. Numbers
of messages that this connection sent itself come from their acks, so they leave no gap. When history cannot be had for
long, what waits is let through; the gap stays, and what is missing is delivered late rather than never.

A control (a message was revoked, edited or deleted) of a message that was delivered is passed on; to one that waits it
is applied; one of a message that has not come yet is kept for a while and applied when that comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from client.controls import Controls
from client.events import Changed, Message
from packs.ids import is_group_id

GAP_SECONDS = 0.05
"""How long a gap may be before it is pulled: an ack and a push of one session can overtake each other."""
PULL_RETRY_SECONDS = 1.0
"""Pause after history could not be had."""
HOLE_SECONDS = 30.0
"""After this long on a connection, what waits behind a gap is let through."""
LET_THROUGH_MAX = 10_000
"""Messages let through a gap of one session; after that it is given up."""
UNKNOWN = -1


class Step(NamedTuple):
    """One step forward in a session: a message to deliver, or none if it is ours; and up to where all is there now
    (None: a gap below it remains). Or a change of a message that was delivered before."""

    session: str
    message: Message | None
    position: int | None
    change: Changed | None = None


@dataclass(frozen=True)
class Pull:
    """History to fetch: from `top` (inclusive) down to `floor` (exclusive)."""

    session: str
    top: int
    floor: int


class _Own:
    """Stands for a message that has its place in the chain and is not to be delivered: ours, or delivered before."""


_OWN = _Own()
_Waiting = tuple[int, "Message | _Own | None"]
"""(prev, what is there); None: it is known to exist, and the page that closes the gap brings it."""


class _Session:
    __slots__ = ("gap_since", "let_through", "position", "pull_after", "pulling", "waiting")

    def __init__(self, position: int) -> None:
        self.position = position  # everything up to here was delivered; UNKNOWN until the first sync has told
        self.waiting: dict[int, _Waiting] = {}  # by seq: what is above a gap
        self.gap_since = 0.0  # while something waits
        self.pull_after = 0.0  # while something waits
        self.pulling = False
        self.let_through = False  # the gap has lasted too long: what comes is delivered at once


class Inbox:
    """All sessions of one user."""

    def __init__(self, catch_up: bool = True, synced: bool = False) -> None:
        """`catch_up`: of sessions that were never seen here, deliver what the user has not read; else only what comes
        from now on. `synced`: a former run has seen all sessions, and `restore` tells them."""
        self._catch_up = catch_up
        self._synced = synced
        self._sessions: dict[str, _Session] = {}
        self._gaps: dict[str, _Session] = {}  # those in which something waits
        self._ready: list[Step] = []
        self._controls = Controls()

    def restore(self, session: str, position: int) -> None:
        """What a former run had received of a session."""
        self._sessions[session] = _Session(position)

    def take(self) -> list[Step]:
        """What can be delivered, in order."""
        ready, self._ready = self._ready, []
        return ready

    def offer(self, message: Message, time: float) -> None:
        """A pushed message."""
        self._insert(message.session_id, message.seq_id, message.prev_seq_id, message, time)

    def own(self, session: str, seq: int, prev: int, time: float) -> None:
        """An acknowledged message of ours: it closes the chain and is not delivered."""
        self._insert(session, seq, prev, _OWN, time)

    def control(self, change: Changed, time: float, *, quiet: bool = False) -> None:
        """A control, which may have come before. `quiet`: what was delivered is as it is after it already."""
        if not self._controls.is_new(change):
            return
        session, seq = change.session_id, change.seq_id
        state = self._sessions.get(session)
        if state is None or seq > state.position:
            prev, known = state.waiting.get(seq, (0, None)) if state is not None else (0, None)
            if known is None:
                self._controls.keep(change, time)
                return
            if state is not None and isinstance(known, Message):
                state.waiting[seq] = (prev, change.applied_to(known) or _OWN)
                return
        if not quiet:
            self._ready.append(Step(session, None, None, change))

    def _changed(self, session: str, seq: int, message: Message | _Own, time: float) -> Message | _Own:
        """A message that has come now, as the controls that waited for it leave it."""
        for change in self._controls.take(session, seq, time):
            if isinstance(message, Message):
                message = change.applied_to(message) or _OWN
            else:
                self._ready.append(Step(session, None, None, change))
        return message

    def hot(self, session: str, newest: int, read: int, time: float) -> None:
        """A session of the recent ones: what is newer than we have is to be fetched."""
        state = self._sessions.get(session)
        if state is None:
            state = self._sessions[session] = _Session(UNKNOWN)
        if state.position == UNKNOWN:
            self._begin(session, state, self._start_of(session, read) if self._catch_up else newest, time)
        if newest > state.position and newest not in state.waiting:
            state.waiting[newest] = (newest, None)  # a gap below it; the page brings the message itself
            self._gap(session, state, time - GAP_SECONDS)

    def synced(self, time: float) -> None:
        """A sync is complete: sessions that it did not name are new, all of theirs is to be delivered."""
        self._synced = True
        for session, state in list(self._gaps.items()):
            if state.position == UNKNOWN:
                self._begin(session, state, self._start_of(session, min(p for p, _ in state.waiting.values())), time)

    def connected(self, time: float) -> None:
        """There is a connection again; what could not be pulled before it does not count."""
        for state in self._gaps.values():
            state.gap_since = time

    def _start_of(self, session: str, read: int) -> int:
        """Where a session that was never seen here begins.

        After a complete sync it is a new one, and its read position says nothing: sending moves it. But a group may
        have been there long before its new member, who is added with all of it read.
        """
        return 0 if self._synced and not is_group_id(session) else read

    def _insert(self, session: str, seq: int, prev: int, message: Message | _Own, time: float) -> None:
        state = self._sessions.get(session)
        if state is None:
            state = self._sessions[session] = _Session(UNKNOWN)
            if self._synced or not self._catch_up:
                self._begin(session, state, self._start_of(session, prev) if self._catch_up else prev, time)
        if seq <= state.position:
            return
        known = state.waiting.get(seq)
        if known is None or known[1] is None:
            message = self._changed(session, seq, message, time)
            if state.let_through and isinstance(message, Message):
                self._ready.append(Step(session, message, None))
                message = _OWN
            state.waiting[seq] = (prev, message)
        self._advance(session, state, time)

    def _begin(self, session: str, state: _Session, position: int, time: float) -> None:
        state.position = position
        self._ready.append(Step(session, None, position))
        self._advance(session, state, time)

    def _advance(self, session: str, state: _Session, time: float) -> None:
        if state.position != UNKNOWN:
            for seq in sorted(state.waiting):
                prev, message = state.waiting[seq]
                if prev > state.position:
                    break
                del state.waiting[seq]
                if seq > state.position:
                    state.position, state.gap_since = seq, time
                    self._ready.append(Step(session, message if isinstance(message, Message) else None, seq))
        if state.waiting:
            self._gap(session, state, time)
        elif self._gaps.pop(session, None) is not None:
            state.let_through = False

    def _gap(self, session: str, state: _Session, since: float) -> None:
        if session not in self._gaps:
            self._gaps[session] = state
            state.gap_since = since
            state.pull_after = since + GAP_SECONDS

    # ---- gaps

    @property
    def has_gaps(self) -> bool:
        """Whether something waits for what is before it."""
        return bool(self._gaps)

    def pulls(self, time: float) -> list[Pull]:
        """History that has to be fetched now; each is asked for once until `page` or `failed`."""
        found = []
        for session, state in list(self._gaps.items()):
            if time - state.gap_since > HOLE_SECONDS:
                self._let_through(session, state, time)
            if state.position != UNKNOWN and not state.pulling and time >= state.pull_after and state.waiting:
                state.pulling = True
                found.append(Pull(session, max(state.waiting), state.position))
        return found

    def page(self, pull: Pull, messages: list[Message], own: set[str], time: float) -> None:
        """All that history has between `pull.floor` and `pull.top`: nothing visible lies between them. `own`: packIds
        of messages that this connection has sent and whose ack is still to come."""
        state = self._sessions[pull.session]
        state.pulling = False
        for message in messages:
            if message.seq_id > state.position and state.waiting.get(message.seq_id, (0, None))[1] is None:
                found = _OWN if message.pack_id in own else message
                state.waiting[message.seq_id] = (0, self._changed(pull.session, message.seq_id, found, time))
        for seq in state.waiting:
            if seq <= pull.top:
                state.waiting[seq] = (0, state.waiting[seq][1])
        self._advance(pull.session, state, time)

    def failed(self, pull: Pull, time: float) -> None:
        """The history could not be fetched; it is asked for again."""
        state = self._sessions[pull.session]
        state.pulling = False
        state.pull_after = time + PULL_RETRY_SECONDS

    def _let_through(self, session: str, state: _Session, time: float) -> None:
        """Deliver what waits and go on waiting for what is before it."""
        if len(state.waiting) > LET_THROUGH_MAX:
            state.position = max(state.waiting)
            self._advance(session, state, time)
            return
        if state.let_through:
            return
        state.let_through = True
        for seq, (prev, message) in sorted(state.waiting.items()):
            if isinstance(message, Message):
                self._ready.append(Step(session, message, None))
                state.waiting[seq] = (prev, _OWN)
