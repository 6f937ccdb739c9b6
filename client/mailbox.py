"""Messages that wait for the program, and what may be kept of them.

A position is kept only when the program has gone through the messages below it: what it had not seen when it ended
comes again at its next start.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from client.inbox import Message


class _Item:
    __slots__ = ("message", "position")

    def __init__(self, message: Message, position: int | None) -> None:
        self.message = message
        self.position = position  # to be kept of its session when the program is through with it


class Mailbox:
    """In the order in which they came. May be used from any thread."""

    def __init__(self, keep: Callable[[str, int], None]) -> None:
        """`keep(session, position)` keeps a position."""
        self._keep = keep
        self._items: deque[_Item] = deque()
        self._newest: dict[str, _Item] = {}  # by session, until the program is through with it
        self._changed = threading.Condition()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether the program has gone through all that came."""
        return not self._newest

    def put(self, message: Message, position: int | None) -> None:
        """`position`: up to where all of its session has come, this message included; None: something is missing."""
        item = _Item(message, position)
        with self._changed:
            self._items.append(item)
            self._newest[message.session_id] = item
            self._changed.notify()

    def advance(self, session: str, position: int) -> None:
        """All of `session` up to `position` was put."""
        with self._changed:
            item = self._newest.get(session)
            if item is not None:
                item.position = position
        if item is None:
            self._keep(session, position)

    def messages(self, timeout: float | None) -> Iterator[Message]:
        """One after the other; ends when closed and empty, or after `timeout` seconds without one."""
        while (item := self._take(timeout)) is not None:
            try:
                yield item.message
            finally:
                self._through_with(item)

    def _take(self, timeout: float | None) -> _Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            return self._items.popleft() if self._items else None

    def _through_with(self, item: _Item) -> None:
        session = item.message.session_id
        with self._changed:
            if self._newest.get(session) is item:
                del self._newest[session]
            position = item.position
        if position is not None:
            self._keep(session, position)

    def open(self) -> None:
        """Undo `close`."""
        with self._changed:
            self._closed = False

    def close(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
