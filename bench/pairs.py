"""A generator of chat load: many connections in pairs, one epoll loop, and a check of what comes.

Each connection keeps `window` messages to its partner unanswered. Receivers check that every message comes once and in
order. The generator's own CPU share is part of the result, because it must not be the limit.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field

import msgspec

from packs import structs as s
from packs import table as t
from packs.codec import encode_payload
from packs.connection import ClientConnection
from packs.flags import ACK, COUNTER

TEXT_BYTES = 64
RECV_BYTES = 262_144
_length = struct.Struct(">I").pack
_encode = msgspec.msgpack.Encoder().encode
_runs = itertools.count(1)


class _Header(msgspec.Struct, array_like=True, gc=False):
    type: int
    version: int
    flags: int
    pack_id: str
    payload: bytes


class _Ack(msgspec.Struct, rename="camel", gc=False):
    error_code: dict[str, object] = {}


_header = msgspec.msgpack.Decoder(_Header).decode
_ack = msgspec.msgpack.Decoder(_Ack).decode


@dataclass
class Result:
    """What one run saw."""

    sent: int = 0
    acked: int = 0
    delivered: int = 0
    wrong: int = 0  # refused, doubled, out of order
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # from sending to the partner's receipt


class Peer:
    """One connection."""

    __slots__ = ("expected", "number", "out", "partner", "rest", "sent_at", "sock", "user")

    def __init__(self, user: str, sock: socket.socket) -> None:
        self.user = user
        self.sock = sock
        self.partner: Peer = self
        self.rest = b""
        self.out: list[bytes] = []
        self.number = 0
        self.expected = 1
        self.sent_at: deque[float] = deque()


def connect(address: tuple[str, int], users: list[str]) -> list[Peer]:
    """Log all of them in; they come out blocking."""
    peers = []
    login = ClientConnection()
    for i in range(0, len(users), 200):
        fresh = []
        for user in users[i : i + 200]:
            sock = socket.create_connection(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = s.LoginReq(client_id=user, device_type=5, device_id="bench")
            sock.sendall(login.request(t.LOGIN, request, "login"))
            fresh.append(Peer(user, sock))
        for peer in fresh:
            answer = peer.sock.recv(4096)
            if b"\xa4code\x00" not in answer:
                raise RuntimeError(f"login of {peer.user} failed")
        peers += fresh
    return peers


class Pairs:
    """Connections in pairs."""

    def __init__(self, address: tuple[str, int], pairs: int) -> None:
        run = next(_runs)
        users = [f"{side}{run}x{n}" for n in range(pairs) for side in "ab"]
        self.peers = connect(address, users)
        for a, b in zip(self.peers[::2], self.peers[1::2], strict=True):
            a.partner, b.partner = b, a
        self._epoll = select.epoll()
        self._by_fd = {peer.sock.fileno(): peer for peer in self.peers}
        for peer in self.peers:
            peer.sock.setblocking(False)
            self._epoll.register(peer.sock.fileno(), select.EPOLLIN)
        self._result = Result()
        self._more = True

    def _send(self, peer: Peer) -> None:
        peer.number += 1
        text = f"{peer.number:>{TEXT_BYTES}}"
        payload = encode_payload(s.MsgReq(to=peer.partner.user, content=text, content_type=1))
        body = _encode((t.MSG_SINGLE_CHAT, 1, COUNTER, f"{peer.user}-{peer.number}", payload))
        peer.out.append(_length(len(body) + 4) + body)
        peer.sent_at.append(time.perf_counter())
        self._result.sent += 1

    def _flush(self, peer: Peer) -> None:
        if peer.out:
            data, peer.out = b"".join(peer.out), []
            peer.sock.sendall(data)

    def closed_loop(self, window: int, seconds: float) -> Result:
        """Keep `window` messages per sender unanswered (one side of each pair sends) for `seconds`."""
        result = self._result = Result()
        started = time.perf_counter()
        for peer in self.peers[::2]:
            for _ in range(window):
                self._send(peer)
            self._flush(peer)
        self._more = True
        while (now := time.perf_counter()) < started + seconds:
            self._poll(started + seconds - now)
        result.seconds = time.perf_counter() - started
        self._drain()
        return result

    def open_loop(self, rate: float, seconds: float) -> Result:
        """Send `rate` messages a second, whatever comes back, for `seconds`."""
        result = self._result = Result()
        self._more = False
        started = time.perf_counter()
        senders = itertools.cycle(self.peers)
        while (now := time.perf_counter()) < started + seconds:
            while result.sent < (now - started) * rate:
                peer = next(senders)
                self._send(peer)
                self._flush(peer)
            self._poll(max(0.0, result.sent / rate - (time.perf_counter() - started)))
        result.seconds = time.perf_counter() - started
        self._drain()
        return result

    def _drain(self) -> None:
        """Wait until everything sent is acknowledged and delivered, or has not come for two seconds."""
        self._more = False
        result = self._result
        seen, idle = -1, time.perf_counter()
        while result.acked < result.sent or result.delivered < result.sent:
            self._poll(0.1)
            if result.acked + result.delivered != seen:
                seen, idle = result.acked + result.delivered, time.perf_counter()
            elif time.perf_counter() > idle + 2:
                result.wrong += 2 * result.sent - seen
                return

    def _poll(self, seconds: float) -> None:
        for fd, _ in self._epoll.poll(seconds):
            peer = self._by_fd[fd]
            data = peer.rest + peer.sock.recv(RECV_BYTES)
            start, end = 0, len(data)
            while end - start >= 4:
                stop = start + int.from_bytes(data[start : start + 4], "big")
                if stop > end:
                    break
                self._take(peer, _header(data[start + 4 : stop]))
                start = stop
            peer.rest = data[start:]
            self._flush(peer)

    def _take(self, peer: Peer, pack: _Header) -> None:
        result = self._result
        if pack.type != t.MSG_SINGLE_CHAT:
            return
        if pack.flags & ACK:
            result.acked += 1
            if _ack(pack.payload).error_code.get("code") != 0:
                result.wrong += 1
            if self._more:
                self._send(peer)
            return
        result.delivered += 1
        sender = peer.partner
        if int(pack.pack_id.rpartition("-")[2]) != peer.expected:
            result.wrong += 1
        peer.expected += 1
        if sender.sent_at:
            result.latencies.append(time.perf_counter() - sender.sent_at.popleft())

    def close(self) -> None:
        self._epoll.close()
        for peer in self.peers:
            peer.sock.close()
