"""The answering side of a link: who may ask, and that nothing overtakes what a broken connection lost."""

from __future__ import annotations

from typing import Any

import gevent

from mesh.calls import Calls
from mesh.dispatch import Dispatcher
from mesh.log import get_log
from mesh.server import Server
from mesh.stats import Stats
from mesh.wire import CAST, HELLO, VERSION, encode, join, split


class Socket:
    """The ROUTER's end, in memory."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def router(self, binds: list[str], receive: Any) -> Socket:
        return self

    def send(self, peer: bytes, message: bytes) -> None:
        self.sent.append((peer, split(message)))

    def check(self) -> None: ...


class World(Dispatcher):
    def __init__(self) -> None:
        super().__init__(get_log("test"), Calls(Stats("test")))
        self.casts: list[Any] = []
        self.socket = Socket()
        self.stats = Stats("test")
        hello = encode((HELLO, "me", "1", VERSION, "serving", {}))
        self.server = Server(
            self.socket, [], self, lambda: hello, lambda: "serving", lambda p: None, self.stats, get_log("test")  # type: ignore[arg-type]
        )  # fmt: skip

    def remote_cast(self, item: tuple[Any, ...]) -> None:
        self.casts.append(item[1])

    def hello(self, peer: bytes = b"p") -> None:
        self._say(peer, 0, (HELLO, peer.decode(), "1", VERSION, "serving", {}))

    def say(self, number: int, what: str, peer: bytes = b"p") -> None:
        self._say(peer, number, (CAST, what, b""))

    def _say(self, peer: bytes, number: int, item: Any) -> None:
        for _, message in join([encode(item)], number):
            self.server._receive(peer, message, "")


def test_hello_comes_first_and_is_answered() -> None:
    w = World()
    w.say(1, "too early")
    w.hello()
    gevent.sleep(0)
    assert [(peer, items[0][0]) for peer, items in w.socket.sent] == [(b"p", HELLO)]
    w.say(1, "a")
    w.say(1, "of somebody else", b"q")
    assert w.casts == ["a"] and w.stats.counts["drops.link.out_of_order"] == 2


def test_after_a_lost_message_nothing_passes_until_hello() -> None:
    w = World()
    w.hello()
    w.hello(b"q")
    for number, what in [(1, "a"), (2, "b"), (4, "d"), (5, "e")]:
        w.say(number, what)
    w.say(1, "of q", b"q")
    assert w.casts == ["a", "b", "of q"]
    w.hello()
    for number, what in [(1, "c"), (2, "d")]:
        w.say(number, what)
    assert w.casts == ["a", "b", "of q", "c", "d"]


def test_what_is_not_numbered_is_a_hello_or_nothing() -> None:
    w = World()
    w.hello()
    w.say(0, "x")
    w.server._receive(b"p", b"\x90", "")
    w.server._receive(b"p", b"\xc1", "")
    w.say(1, "a")
    assert w.casts == ["a"] and w.stats.counts["drops.link.undecodable"] == 2
