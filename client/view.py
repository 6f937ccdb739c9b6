"""A view of one's conversations, made from events: what was said, what is unread, how far others have read.

For programs that show conversations. Feed it everything that `Client.events` gives, what `Client.sessions.hot` says,
and pages of history that are shown; no I/O. A message that was revoked or edited is shown as such, one that was deleted
is gone. Between two looks at the recent sessions the unread counts are exact, except that a change of a message which
the view does not hold may leave one too many.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from operator import attrgetter

from client.events import Changed, Event, Message, Read
from client.sessions import HotSession, peer_of
from packs.flags import COUNTER

KEPT = 500
"""Messages of a conversation that a view holds, unless told otherwise; then the oldest go."""
_seq = attrgetter("seq_id")


class Conversation:
    """One session. `messages` ascending, `read` and `peer_read` are numbers of messages."""

    def __init__(self, session_id: str, peer: str) -> None:
        self.session_id = session_id
        self.peer = peer
        """The other user, the group, or the app."""
        self.messages: list[Message] = []
        self.muted = False
        self.read = 0
        self.peer_read = 0
        """How far the peer of a single chat has read, as far as it was told."""
        self._earlier = 0  # unread ones that the recent sessions told of
        self._newest_then = 0  # up to where they were counted
        self._later: set[int] = set()  # unread ones since then

    @property
    def unread(self) -> int:
        return self._earlier + len(self._later)

    @property
    def newest(self) -> int:
        """The number of the newest message that is known of."""
        return max(self._newest_then, self.messages[-1].seq_id if self.messages else 0)

    def find(self, seq_id: int) -> Message | None:
        at = bisect_left(self.messages, seq_id, key=_seq)
        found = self.messages[at] if at < len(self.messages) else None
        return found if found is not None and found.seq_id == seq_id else None


class View:
    """All conversations of one user, by session id."""

    def __init__(self, user: str, kept: int = KEPT) -> None:
        self.user = user
        self.conversations: dict[str, Conversation] = {}
        self._kept = kept

    def of(self, session_id: str) -> Conversation:
        """The conversation, which may be an empty one."""
        found = self.conversations.get(session_id)
        if found is None:
            found = self.conversations[session_id] = Conversation(session_id, peer_of(self.user, session_id))
        return found

    def hot(self, session: HotSession) -> None:
        """What the server says of a session now."""
        it = self.of(session.session_id)
        it.muted = session.muted
        it.read = max(it.read, session.read_seq_id)
        it._earlier = session.unread
        it._newest_then = session.newest.seq_id if session.newest is not None else 0
        it._later = {seq for seq in it._later if seq > it._newest_then}

    def page(self, messages: Iterable[Message]) -> None:
        """Messages from history: they say nothing about what is unread."""
        for message in messages:
            self._add(message)

    def take(self, event: Event) -> None:
        """Anything that happened."""
        if isinstance(event, Message):
            self._message(event)
        elif isinstance(event, Changed):
            self._change(event)
        elif isinstance(event, Read):
            it = self.of(event.session_id)
            if event.user == self.user:
                self._read(it, event.seq_id)
            else:
                it.peer_read = max(it.peer_read, event.seq_id)

    def _message(self, message: Message) -> None:
        it = self._add(message)
        if message.sender == self.user:
            self._read(it, message.seq_id)
        elif _counts(message) and message.seq_id > max(it.read, it._newest_then):
            it._later.add(message.seq_id)

    def _add(self, message: Message) -> Conversation:
        it = self.of(message.session_id)
        if it.find(message.seq_id) is None:
            insort(it.messages, message, key=_seq)
            del it.messages[: -self._kept]
        return it

    def _change(self, change: Changed) -> None:
        it = self.of(change.session_id)
        at = bisect_left(it.messages, change.seq_id, key=_seq)
        before = it.find(change.seq_id)
        if before is None:
            it._later.discard(change.seq_id if change.how != "edited" else -1)
            return
        after = change.applied_to(before)
        if after is None:
            del it.messages[at]
        else:
            it.messages[at] = after
        if _counts(before) and (after is None or not _counts(after)):
            it._later.discard(before.seq_id)
            if it.read < before.seq_id <= it._newest_then and before.sender != self.user:
                it._earlier = max(0, it._earlier - 1)

    def _read(self, it: Conversation, seq_id: int) -> None:
        if seq_id <= it.read:
            return
        it._later = {seq for seq in it._later if seq > seq_id}
        if seq_id >= it._newest_then:
            it._earlier = 0
        else:
            held = [m for m in it.messages if it.read < m.seq_id <= seq_id and m.sender != self.user and _counts(m)]
            it._earlier = max(0, it._earlier - len(held))
        it.read = seq_id


def _counts(message: Message) -> bool:
    return bool(message.flags & COUNTER) and not message.revoked
