"""A generator of group load: one group, many connections of its members, some of whom write without pause.

Senders keep `window` messages each unanswered. What comes to everybody is counted, connection by connection; a few
watch, and check that each message comes once and in order, and how long it took.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from bench.dialects import Dialect, Peer, text_of
from bench.pairs import EVENTS, PATIENCE_SECONDS, Result, received

WATCHERS = 8
QUIET_SECONDS = 0.5
"""Without a byte for so long, everything has come."""


class Crowd:
    """One group and its members' connections."""

    def __init__(self, dialect: Dialect, address: tuple[str, int], name: str, online: int) -> None:
        users = [f"{name}m{n}" for n in range(online)]
        dialect.register(address, users)
        self.peers = dialect.connect(address, users)
        self.group = dialect.group(self.peers, name)
        self._dialect = dialect
        self._epoll = select.epoll()
        self._by_fd = {peer.sock.fileno(): peer for peer in self.peers}
        self._counts = dict.fromkeys(self._by_fd, 0)
        self._result = Result()
        self._more = False
        self._senders: Sequence[Peer] = ()
        self._read = self._by_fd
        """Connections whose messages are read; those of the others are counted."""
        for position, peer in enumerate(self.peers):
            peer.position = position
            peer.sock.setblocking(False)
            self._epoll.register(peer.sock.fileno(), select.EPOLLIN)
        self.drain()
        self._read = {p.sock.fileno(): p for p in self.peers[-WATCHERS:]}

    def closed_loop(self, senders: int, window: int, seconds: float) -> Result:
        """`senders` members keep `window` messages each unanswered for `seconds`."""
        self._start(senders)
        started = time.perf_counter()
        for peer in self._senders:
            for _ in range(window):
                self._send(peer)
            peer.flush()
        self._more = True
        while (now := time.perf_counter()) < started + seconds:
            self._poll(started + seconds - now)
        return self._finish(started)

    def open_loop(self, rate: float, seconds: float) -> Result:
        """One member sends `rate` messages a second for `seconds`."""
        self._start(1)
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            while self._result.sent < (now - started) * rate:
                self._send(self._senders[0])
            self._senders[0].flush()
            self._poll(min(0.001, 1 / rate))
        return self._finish(started)

    def _start(self, senders: int) -> None:
        self._result = Result()
        self._senders = self.peers[:senders]
        self._read = {p.sock.fileno(): p for p in (*self._senders, *self.peers[-WATCHERS:])}
        self._counts = dict.fromkeys(self._by_fd, 0)
        self._sent = {p.sock.fileno(): p.number for p in self._senders}

    def _finish(self, started: float) -> Result:
        result = self._result
        result.seconds = time.perf_counter() - started
        self._more = False
        self._complete()
        self.drain()
        result.wrong += abs(result.sent - result.acked)
        result.delivered = sum(self._counts.values())
        for fd, count in self._counts.items():
            own = self._by_fd[fd].number - self._sent[fd] if fd in self._sent else 0
            result.wrong += abs(result.sent - own - count)
        return result

    def _send(self, peer: Peer) -> None:
        peer.out.append(self._dialect.to_group(peer, self.group, text_of(peer, time.perf_counter())))
        self._result.sent += 1

    def _poll(self, seconds: float) -> bool:
        events = self._epoll.poll(seconds, EVENTS)
        for fd, _ in events:
            peer = self._by_fd[fd]
            data = peer.read()
            if fd in self._read:
                self._take(fd, peer, data)
            else:
                self._counts[fd] += self._dialect.counted(peer, data)
            peer.flush()
        return bool(events)

    def _take(self, fd: int, peer: Peer, data: bytes) -> None:
        took = self._dialect.take(peer, data)
        self._counts[fd] += len(took.texts)
        self._result.acked += took.acked
        self._result.wrong += took.refused
        if took.texts:
            received(self._result, peer, took.texts)
        if self._more:
            for _ in range(took.acked):
                self._send(peer)

    def _complete(self) -> None:
        """Read until everything that was sent is acknowledged and delivered, or nothing has come for long."""
        result, idle = self._result, time.perf_counter()
        own = sum(self._by_fd[fd].number - before for fd, before in self._sent.items())
        while result.acked < result.sent or sum(self._counts.values()) < result.sent * len(self.peers) - own:
            if self._poll(0.1):
                idle = time.perf_counter()
            elif time.perf_counter() > idle + PATIENCE_SECONDS:
                break

    def drain(self) -> None:
        """Read until nothing has come for a while."""
        quiet = time.perf_counter() + QUIET_SECONDS
        while time.perf_counter() < quiet:
            if self._poll(0.05):
                quiet = time.perf_counter() + QUIET_SECONDS

    def close(self) -> None:
        self._epoll.close()
        for peer in self.peers:
            peer.sock.close()
