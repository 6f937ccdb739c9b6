"""SDK clients for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from client.client import Client
from client.errors import Refused
from client.events import Event, Message
from tests.system import System
from tests.waiting import wait_until

Connect = Callable[..., Client]


@contextmanager
def connecting(system: System) -> Iterator[Connect]:
    """A function that makes connected clients; they are closed at the end."""
    made: list[Client] = []

    def connect(name: str, **options: Any) -> Client:
        host, port = system.address()
        made.append(Client(f"{host}:{port}", name, **options).connect())
        return made[-1]

    try:
        yield connect
    finally:
        for each in made:
            each.close()


def take(client: Client, count: int, seconds: float = 10.0) -> list[Message]:
    """The next messages of a client."""
    found = []
    with gevent.Timeout(seconds):
        for message in client.messages():
            found.append(message)
            if len(found) == count:
                return found
    return found


def refusal(action: Callable[[], Any]) -> int:
    """The code that an action is refused with."""
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.code


class Heard(list[Event]):
    """Everything that a client tells, in order: give it as `on_message` and `on_event`."""

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]

    def wait(self, kind: type[Any], count: int = 1) -> list[Any]:
        """The events of a kind, once there are so many."""
        return wait_until(lambda: len(self.of(kind)) >= count and self.of(kind), f"{count} of {kind.__name__}")

    @property
    def both(self) -> dict[str, Callable[[Any], None]]:
        """The arguments for a client."""
        return {"on_message": self.append, "on_event": self.append}
