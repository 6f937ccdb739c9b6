"""Messages on their way in: each exactly once and in order per session; no I/O, the clock is an argument.

A message whose `prev` is above what is there contiguously waits while the missing ones are pulled from history. Numbers
of messages that this connection sent itself come from their acks, so they leave no gap.
"""

from __future__ import annotations

from dataclasses import dataclass

GAP_SECONDS = 0.05
"""How long a gap may be before it is pulled: an ack and a push of one session can overtake each other."""
HOLE_SECONDS = 10.0
"""After this long, what waits behind a gap is delivered without it."""
CATCH_UP = 1000
"""Messages that are fetched of one session, at most, after being away."""


@dataclass(frozen=True)
class Message:
    """A received message. `via` is "live" or "history"."""

    session_id: str
    seq_id: int
    prev_seq_id: int
    timestamp: int
    sender: str
    to: str
    content: str
    content_type: int
    flags: int
    pack_id: str
    via: str


@dataclass(frozen=True)
class Pull:
    """History to fetch: from `top` (inclusive) down to `floor` (exclusive)."""

    session: str
    top: int
    floor: int


class _Own:
    """Stands for a message of ours: it has its place in the chain and is not delivered."""


_OWN = _Own()
_Waiting = tuple[int, "Message | _Own | None"]
"""(prev, what is there); None: it is known to exist, and the page that closes the gap brings it."""


UNKNOWN = -1


class _Session:
    __slots__ = ("gap_since", "position", "pulling", "waiting")

    def __init__(self, position: int) -> None:
        self.position = position  # everything up to here was delivered; UNKNOWN until the first sync has told
        self.waiting: dict[int, _Waiting] = {}  # by seq: what is above a gap
        self.gap_since: float | None = None
        self.pulling = False


class Inbox:
    """All sessions of one user."""

    def __init__(self, catch_up: bool = True) -> None:
        """`catch_up`: of sessions that were never seen here, deliver what the user has not read; else only what comes
        from now on."""
        self._catch_up = catch_up
        self._sessions: dict[str, _Session] = {}
        self._synced = False
        self._ready: list[Message] = []

    def positions(self) -> dict[str, int]:
        return {name: s.position for name, s in self._sessions.items() if s.position != UNKNOWN}

    def restore(self, session: str, position: int) -> None:
        """What a former run had received of a session."""
        self._sessions[session] = _Session(position)

    def take(self) -> list[Message]:
        """What can be delivered, in order."""
        ready, self._ready = self._ready, []
        return ready

    def offer(self, message: Message, time: float) -> None:
        """A pushed message."""
        self._insert(message.session_id, message.seq_id, message.prev_seq_id, message, time)

    def own(self, session: str, seq: int, prev: int, time: float) -> None:
        """An acknowledged message of ours: it closes the chain and is not delivered."""
        self._insert(session, seq, prev, _OWN, time)

    def hot(self, session: str, newest: int, read: int, time: float) -> None:
        """A session of the recent ones: what is newer than we have is to be fetched."""
        state = self._sessions.get(session)
        if state is None:
            state = self._sessions[session] = _Session(UNKNOWN)
        if state.position == UNKNOWN:
            # Later syncs can meet new sessions only. Their read position says nothing: sending moves it.
            state.position = (0 if self._synced else read) if self._catch_up else newest
            self._advance(state, time)
        if newest > state.position and newest not in state.waiting and not state.pulling:
            state.waiting[newest] = (newest, None)  # a gap below it; the page brings the message itself
            state.gap_since = time - GAP_SECONDS

    def synced(self, time: float) -> None:
        """A sync is complete: sessions that it did not name are new, all of theirs is to be delivered."""
        self._synced = True
        for state in self._sessions.values():
            if state.position == UNKNOWN:
                state.position = 0
                self._advance(state, time)

    def _insert(self, session: str, seq: int, prev: int, message: Message | _Own, time: float) -> None:
        state = self._sessions.get(session)
        if state is None:
            position = (0 if self._synced else UNKNOWN) if self._catch_up else prev
            state = self._sessions[session] = _Session(position)
        if seq <= state.position:
            return
        known = state.waiting.get(seq)
        if known is None or known[1] is None:
            state.waiting[seq] = (prev, message)
        self._advance(state, time)

    def _advance(self, state: _Session, time: float) -> None:
        if state.position == UNKNOWN:
            return
        for seq in sorted(state.waiting):
            prev, message = state.waiting[seq]
            if prev > state.position:
                break
            del state.waiting[seq]
            if seq > state.position:
                state.position = seq
                if isinstance(message, Message):
                    self._ready.append(message)
        if not state.waiting:
            state.gap_since = None
        elif state.gap_since is None:
            state.gap_since = time

    # ---- gaps

    @property
    def has_gaps(self) -> bool:
        return any(s.waiting and s.position != UNKNOWN for s in self._sessions.values())

    def pulls(self, time: float) -> list[Pull]:
        """History that has to be fetched now; each is asked for once until `page` or `failed`."""
        found = []
        for name, state in self._sessions.items():
            if not state.waiting or state.pulling or state.gap_since is None:
                continue
            if time - state.gap_since > HOLE_SECONDS:
                self._give_up(state, time)
            elif time - state.gap_since >= GAP_SECONDS:
                state.pulling = True
                found.append(Pull(name, max(state.waiting), state.position))
        return found

    def page(self, pull: Pull, messages: list[Message], own: set[str], time: float) -> None:
        """All that history has between `pull.floor` and `pull.top`: nothing visible lies between them. `own`: packIds
        of messages that this connection has sent and whose ack is still to come."""
        state = self._sessions[pull.session]
        state.pulling = False
        for message in messages:
            if message.seq_id > state.position and state.waiting.get(message.seq_id, (0, None))[1] is None:
                state.waiting[message.seq_id] = (0, _OWN if message.pack_id in own else message)
        covered = [seq for seq in state.waiting if seq <= pull.top]
        for seq in covered:
            state.waiting[seq] = (0, state.waiting[seq][1])
        self._advance(state, time)
        if state.position < pull.top:
            state.position = pull.top  # the newest was deleted meanwhile
            self._advance(state, time)

    def failed(self, pull: Pull, time: float) -> None:
        """The history could not be fetched; it is asked for again."""
        self._sessions[pull.session].pulling = False

    def _give_up(self, state: _Session, time: float) -> None:
        lowest = min(state.waiting)
        state.position = max(state.position, lowest - 1)
        state.waiting[lowest] = (0, state.waiting[lowest][1])
        state.gap_since = None
        self._advance(state, time)
