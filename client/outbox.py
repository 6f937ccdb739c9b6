"""Messages on their way out, in order per session; no I/O, the clock is an argument.

At most `window` messages of a session are under way at once. When the connection is lost, or one is answered with an
unknown outcome, the session goes back to its oldest unacknowledged message and sends again from there, with the same
packIds and DUP, so that order holds and nothing is stored twice. The box is bounded in messages and in bytes: over that
`check_room` raises `OutboxFull`: whoever sends has to wait.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from client.errors import OutboxFull

OUTBOX = 10_000
"""Messages that may wait for their acknowledgement at most, unless told otherwise."""
OUTBOX_BYTES = 64 << 20
"""Bytes of their payloads."""
RETRY_SECONDS = 0.2
RETRY_SECONDS_MAX = 5.0
"""Pause after an unknown outcome, doubled each time, with full jitter."""


@dataclass
class Outgoing:
    """One message. `done(sent or None, error or None)` is called once."""

    pack_id: str
    pack_type: int
    session: str
    payload: bytes
    flags: int
    done: Callable[[Any, Exception | None], None]
    under_way: bool = False
    tried: bool = False


@dataclass
class _Queue:
    waiting: deque[Outgoing] = field(default_factory=deque)
    paused_until: float = 0.0
    failures: int = 0


class Outbox:
    """All messages that are not acknowledged."""

    def __init__(self, window: int = 16, seed: int | None = None, limit: int = OUTBOX) -> None:
        self.window = window
        self.limit = limit
        self._bytes = 0
        self._queues: dict[str, _Queue] = {}
        self._by_id: dict[str, Outgoing] = {}
        self._random = random.Random(seed)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(list(self._by_id.values()))

    def check_room(self) -> None:
        """Raise `OutboxFull` when no more may be added."""
        if len(self._by_id) >= self.limit or self._bytes >= OUTBOX_BYTES:
            raise OutboxFull(f"{len(self._by_id)} messages wait for their acknowledgement already")

    def add(self, message: Outgoing) -> None:
        """Taken whether or not there is room: `check_room` is for what is new, not for what a former run left."""
        self._bytes += len(message.payload)
        self._by_id[message.pack_id] = message
        self._queues.setdefault(message.session, _Queue()).waiting.append(message)

    def due(self, time: float) -> list[Outgoing]:
        """What is to be sent now, in order; they count as under way from here on."""
        found = []
        for queue in self._queues.values():
            if time < queue.paused_until:
                continue
            for message in islice(queue.waiting, self.window):
                if not message.under_way:
                    message.under_way = True
                    found.append(message)
        return found

    def take(self, pack_id: str) -> Outgoing | None:
        """Remove a message whose fate is known."""
        message = self._by_id.pop(pack_id, None)
        if message is not None:
            self._bytes -= len(message.payload)
            queue = self._queues[message.session]
            queue.waiting.remove(message)
            queue.failures = 0
            if not queue.waiting:
                del self._queues[message.session]
        return message

    def unknown(self, pack_id: str, time: float, retry_after: float = 0.0) -> None:
        """The outcome of a message is unknown, or it was refused for now: send its session again from the oldest on."""
        message = self._by_id.get(pack_id)
        if message is None or not message.under_way:
            return  # it is going to be sent again already
        queue = self._queues[message.session]
        for other in queue.waiting:
            other.tried = other.tried or other.under_way
            other.under_way = False
        limit = min(RETRY_SECONDS * 2**queue.failures, RETRY_SECONDS_MAX)
        queue.failures += 1
        queue.paused_until = time + max(retry_after, self._random.uniform(0.05, limit))

    def lost(self) -> None:
        """The connection broke: everything under way is to be sent again."""
        for queue in self._queues.values():
            queue.paused_until = 0.0
            for message in queue.waiting:
                message.tried = message.tried or message.under_way
                message.under_way = False
