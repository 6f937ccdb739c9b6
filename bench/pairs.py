"""A generator of chat load: many connections in pairs, one epoll loop, and a check of what comes.

One of each pair sends; he keeps `window` messages to his partner unacknowledged. Receivers check that every message
comes once and in order. The generator's own CPU share is part of the result, because it must not be the limit.
"""

from __future__ import annotations

import itertools
import select
import time
from dataclasses import dataclass, field

from bench.dialects import Dialect, Peer, text_of

PATIENCE_SECONDS = 5.0
"""What has not come for so long will not come."""
EVENTS = 1024
"""Connections handled per look, at most."""
_runs = itertools.count(1)


@dataclass
class Result:
    """What one run saw."""

    sent: int = 0
    acked: int = 0
    delivered: int = 0
    wrong: int = 0  # refused, lost, doubled, out of order
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # from sending to a receiver


class Pairs:
    """Connections in pairs."""

    def __init__(self, dialect: Dialect, address: tuple[str, int], pairs: int) -> None:
        run = next(_runs)
        users = [f"{side}{run}x{n}" for n in range(pairs) for side in "ab"]
        dialect.register(address, users)
        self.peers = dialect.connect(address, users)
        self.senders = self.peers[::2]
        dialect.acknowledge(self.senders)
        for position, (a, b) in enumerate(zip(self.senders, self.peers[1::2], strict=True)):
            a.position, a.partner, b.partner = position, b, a
        self._dialect = dialect
        self._epoll = select.epoll()
        self._by_fd = {peer.sock.fileno(): peer for peer in self.peers}
        for peer in self.peers:
            peer.sock.setblocking(False)
            self._epoll.register(peer.sock.fileno(), select.EPOLLIN)
        self._result = Result()
        self._more = True

    def _send(self, peer: Peer) -> None:
        text = text_of(peer, time.perf_counter())
        peer.out.append(self._dialect.single(peer, peer.partner.user, text))
        self._result.sent += 1

    def closed_loop(self, window: int, seconds: float) -> Result:
        """Keep `window` messages per sender unanswered for `seconds`."""
        result = self._result = Result()
        started = time.perf_counter()
        for peer in self.senders:
            for _ in range(window):
                self._send(peer)
            peer.flush()
        self._more = True
        while (now := time.perf_counter()) < started + seconds:
            self._poll(started + seconds - now)
        result.seconds = time.perf_counter() - started
        self._drain()
        return result

    def open_loop(self, rate: float, seconds: float) -> Result:
        """Send `rate` messages a second, whatever comes back, for `seconds`; the senders take turns."""
        result = self._result = Result()
        self._more = False
        started = time.perf_counter()
        senders = itertools.cycle(self.senders)
        while (now := time.perf_counter()) < started + seconds:
            while result.sent < (now - started) * rate:
                peer = next(senders)
                self._send(peer)
                peer.flush()
            self._poll(max(0.0, result.sent / rate - (time.perf_counter() - started)))
        result.seconds = time.perf_counter() - started
        self._drain()
        return result

    def _drain(self) -> None:
        """Wait until everything sent is acknowledged and delivered, or nothing has come for a while."""
        self._more = False
        result = self._result
        seen, idle = -1, time.perf_counter()
        while result.acked < result.sent or result.delivered < result.sent:
            self._poll(0.1)
            if result.acked + result.delivered != seen:
                seen, idle = result.acked + result.delivered, time.perf_counter()
            elif time.perf_counter() > idle + PATIENCE_SECONDS:
                break
        result.wrong += abs(result.sent - result.acked) + abs(result.sent - result.delivered)

    def _poll(self, seconds: float) -> None:
        result = self._result
        for fd, _ in self._epoll.poll(seconds, EVENTS):
            peer = self._by_fd[fd]
            took = self._dialect.take(peer, peer.read())
            result.acked += took.acked
            result.wrong += took.refused
            if self._more:
                for _ in range(took.acked):
                    self._send(peer)
            if took.texts:
                received(result, peer, took.texts)
            peer.flush()

    def close(self) -> None:
        self._epoll.close()
        for peer in self.peers:
            peer.sock.close()


def received(result: Result, peer: Peer, texts: list[str]) -> None:
    """Check and note what came to a peer: each sender's numbers must follow each other."""
    now = time.perf_counter()
    result.delivered += len(texts)
    for text in texts:
        sender, number, sent = text.split()
        expected = peer.expected.get(sender, 1)
        result.wrong += int(number) != expected
        peer.expected[sender] = max(expected, int(number)) + (int(number) >= expected)
        result.latencies.append(now - float(sent))
