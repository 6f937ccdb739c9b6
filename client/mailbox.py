"""What waits for the program, and what may be kept of it.

A position is kept only when the program has gone through the messages below it: what it had not seen when it ended
comes again at its next start. The box is bounded: while it is full, messages stay on the server and are fetched when
there is room again; other events are dropped, and the program is told how many.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from client.events import Event, Message, Missed

MAILBOX = 10_000
"""Messages and other events that wait for the program at most, unless told otherwise."""


class _Item:
    __slots__ = ("event", "position")

    def __init__(self, event: Event, position: int | None) -> None:
        self.event = event
        self.position = position  # to be kept of its session when the program is through with it


class Mailbox:
    """In the order in which they came. May be used from any thread."""

    def __init__(self, keep: Callable[[str, int], None], limit: int = MAILBOX) -> None:
        """`keep(session, position)` keeps a position."""
        self._keep = keep
        self._limit = limit
        self._items: deque[_Item] = deque()
        self._newest: dict[str, _Item] = {}  # by session, until the program is through with it
        self._in_hand = 0  # what the program has taken and is not through with
        self._dropped = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether the program has gone through all that came."""
        return not self._items and not self._in_hand

    @property
    def full(self) -> bool:
        """Whether messages are to be left on the server for now."""
        return len(self._items) >= self._limit

    @property
    def roomy(self) -> bool:
        """Whether it is worth while to fetch what was left there."""
        return len(self._items) <= self._limit // 2

    def put(self, message: Message, position: int | None) -> None:
        """`position`: up to where all of its session has come, this message included; None: something is missing.
        Taken also when the box is full."""
        item = _Item(message, position)
        with self._changed:
            self._items.append(item)
            self._newest[message.session_id] = item
            self._changed.notify()

    def tell(self, event: Event) -> None:
        """Anything but a message. Dropped when the box is full."""
        with self._changed:
            if len(self._items) >= self._limit:
                self._dropped += 1
                return
            if self._dropped:
                self._items.append(_Item(Missed(self._dropped), None))
                self._dropped = 0
            self._items.append(_Item(event, None))
            self._changed.notify()

    def advance(self, session: str, position: int) -> None:
        """All of `session` up to `position` was put."""
        with self._changed:
            item = self._newest.get(session)
            if item is not None:
                item.position = position
        if item is None:
            self._keep(session, position)

    def events(self, timeout: float | None) -> Iterator[Event]:
        """One after the other; ends when closed and empty, or after `timeout` seconds without one."""
        while (item := self._take(timeout)) is not None:
            try:
                yield item.event
            finally:
                self._through_with(item)

    def messages(self, timeout: float | None) -> Iterator[Message]:
        """As `events`, the messages only; the others are dropped."""
        limit = None if timeout is None else time.monotonic() + timeout
        while (item := self._take(None if limit is None else max(0.0, limit - time.monotonic()))) is not None:
            try:
                if isinstance(item.event, Message):
                    yield item.event
                    limit = None if timeout is None else time.monotonic() + timeout
            finally:
                self._through_with(item)

    def _take(self, timeout: float | None) -> _Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._dropped or self._closed, timeout)
            if self._items:
                self._in_hand += 1
                return self._items.popleft()
            if self._dropped:
                self._in_hand += 1
                dropped, self._dropped = self._dropped, 0
                return _Item(Missed(dropped), None)
            return None

    def _through_with(self, item: _Item) -> None:
        event, position = item.event, None
        with self._changed:
            self._in_hand -= 1
            if isinstance(event, Message):
                if self._newest.get(event.session_id) is item:
                    del self._newest[event.session_id]
                position = item.position
        if position is not None and isinstance(event, Message):
            self._keep(event.session_id, position)

    def open(self) -> None:
        """Undo `close`."""
        with self._changed:
            self._closed = False

    def close(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
