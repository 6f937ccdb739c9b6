"""The answering side of links: the ROUTER of this process, who is connected, and what is sent back in this turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from mesh.dispatch import Dispatcher
from mesh.errors import WireError
from mesh.link import Refused, Sockets
from mesh.log import Log
from mesh.loop import Tick
from mesh.stats import Stats
from mesh.wire import CAST, HELLO, PING, PONG, REQUEST, encode, join, split


class Server:
    """Takes requests, casts and pings of peers that have said HELLO; with CURVE, from their own host."""

    def __init__(
        self, sockets: Sockets, binds: list[str], dispatcher: Dispatcher, hello: Callable[[], bytes],
        state: Callable[[], str], host_of: Callable[[str], str | None], stats: Stats, log: Log,
    ) -> None:  # fmt: skip
        self._dispatcher = dispatcher
        self._hello = hello
        self._state = state
        self._host_of = host_of
        self._stats = stats
        self._log = log
        self._out: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._tick = Tick(self._flush)
        self.peers: dict[bytes, str] = {}  # routing identity -> process name
        self._numbers: dict[bytes, int] = {}  # of the last message of each, since its HELLO
        self._router = sockets.router(binds, self._receive)

    def send(self, peer: bytes, item: bytes) -> None:
        """Queue an encoded item for a peer; dropped and counted if it is gone by the end of the turn."""
        self._out[peer].append(item)
        self._tick.arm()

    def announce(self) -> None:
        """Tell all connected peers the new state at once, instead of with their next ping."""
        pong = encode((PONG, self._state()))
        for peer in self.peers:
            self.send(peer, pong)

    def _flush(self) -> None:
        out, self._out = self._out, defaultdict(list)
        for peer, items in out.items():
            sent = 0
            for count, message in join(items):
                try:
                    self._router.send(peer, message)
                except Refused:
                    self._stats.counts["drops.answers.peer_gone"] += len(items) - sent
                    self.peers.pop(peer, None)
                    break
                sent += count
        self._router.check()

    def _receive(self, peer: bytes, message: bytes, host: str) -> None:
        try:
            items = split(message)
            number: Any = items[0]
            if type(number) is not int:
                for item in items:
                    if item[0] == HELLO:
                        self._greet(peer, item[1], host)
            elif self._numbers.get(peer, 0) == number - 1 and peer in self.peers:
                self._numbers[peer] = number
                for i in range(1, len(items)):
                    self._handle(peer, items[i])
            else:  # what came before it is lost, or it is of a process that has not seen this one start
                self._stats.counts["drops.link.out_of_order"] += 1
        except (WireError, IndexError, TypeError, ValueError) as error:
            self._stats.counts["drops.link.undecodable"] += 1
            self._log.limited("wire", 60, "bad message", peer=self.peers.get(peer, "unknown"), error=error)

    def _handle(self, peer: bytes, item: Any) -> None:
        kind = item[0]
        if kind == REQUEST:
            self._dispatcher.remote_request(item, self.send, peer)
        elif kind == PING:
            self.send(peer, encode((PONG, self._state())))
        elif kind == CAST:
            self._dispatcher.remote_cast(item)

    def _greet(self, peer: bytes, process: str, host: str) -> None:
        expected = self._host_of(process)
        if host and expected is not None and expected != host:
            self._log.warning("a host claims a process of another", process=process, host=host, expected=expected)
            return
        self.peers = {i: p for i, p in self.peers.items() if p != process or i == peer}
        self.peers[peer] = process
        self._numbers = {i: n for i, n in self._numbers.items() if i in self.peers}
        self._numbers[peer] = 0
        self.send(peer, self._hello())

    def close(self) -> None:
        self._flush()
        self._router.close()
