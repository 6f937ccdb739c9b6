"""What the generators of load speak: one dialect per protocol, so that every system gets the same load.

A text names its sender's number, the message's number from 1 and when it was sent (`perf_counter` seconds); that is
what receivers check loss, repeats and order by, whatever the protocol.
"""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple, Protocol

TEXT_BYTES = 64
RECV_BYTES = 262_144
ANSWER_SECONDS = 20.0
"""How long a blocking request waits for its answer."""
BATCH = 100
"""Logins under way at once, unless a load asks for more."""


class Took(NamedTuple):
    """What some received bytes held."""

    acked: int
    """Own messages that the server took."""
    refused: int
    texts: list[str]
    """Messages of others."""


class Peer:
    """One connection."""

    __slots__ = ("count", "expected", "number", "out", "partner", "position", "rest", "sock", "user")

    def __init__(self, user: str, sock: socket.socket) -> None:
        self.user = user
        self.sock = sock
        self.position = 0  # among the peers of a load
        self.partner: Peer = self
        self.rest = b""
        self.out: list[bytes] = []
        self.number = 0  # of the last message sent
        self.expected: dict[str, int] = {}  # sender -> the number of his next message
        self.count = 0  # protocol's own: acknowledged stanzas, packet ids

    def read(self) -> bytes:
        """What has come, without waiting. Raises `ConnectionError` at the end of the connection."""
        try:
            data = self.sock.recv(RECV_BYTES)
            while isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
                data += self.sock.recv(RECV_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        if not data:
            raise ConnectionError(f"{self.user}'s connection was closed")
        return data

    def flush(self) -> None:
        """Send what waits, in one piece."""
        if self.out:
            data, self.out = b"".join(self.out), []
            self.sock.sendall(data)


class Dialect(Protocol):
    """How to do the same things in one protocol. What blocks says so."""

    endpoint: str
    """What a system with several calls the one where this is spoken."""

    def register(self, address: tuple[str, int], users: list[str]) -> None:
        """Make accounts, where the system wants them; blocks."""

    def away(self, address: tuple[str, int], users: list[str]) -> None:
        """Make users for whom messages are kept while they are not connected; blocks."""

    def connect(self, address: tuple[str, int], users: list[str], at_once: int = BATCH) -> list[Peer]:
        """Log all of them in, `at_once` under way; ready to receive. Blocks, and the sockets come out blocking."""

    def acknowledge(self, peers: list[Peer]) -> None:
        """From now on the server acknowledges what these send; blocks."""

    def group(self, peers: list[Peer], name: str) -> str:
        """A group of all of them, by its id; blocks."""

    def single(self, peer: Peer, to: str, text: str) -> bytes:
        """A message to a user."""

    def to_group(self, peer: Peer, group: str, text: str) -> bytes:
        """A message to a group."""

    def take(self, peer: Peer, data: bytes) -> Took:
        """Read all whole messages in the bytes; may put answers into `peer.out`."""

    def counted(self, peer: Peer, data: bytes) -> int:
        """Only count the group's messages in the bytes; may put answers into `peer.out`."""

    def catch_up(self, address: tuple[str, int], users: list[str], messages: int) -> list[list[str]]:
        """Log users in who were away, all at once, and fetch their `messages`; each one's texts, in order. Blocks."""


def text_of(peer: Peer, now: float) -> str:
    """The next text of a sender; counts him up."""
    peer.number += 1
    return f"{peer.position} {peer.number} {now:.6f}".rjust(TEXT_BYTES)


def dial(address: tuple[str, int]) -> socket.socket:
    """A connection that does not wait for more bytes before it sends, and that gives up reading in the end."""
    sock = socket.create_connection(address, ANSWER_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def until(peer: Peer, *ends: bytes) -> bytes:
    """Read, blocking, until one of `ends` has come; all that came."""
    data = b""
    while not any(end in data for end in ends):
        more = peer.sock.recv(RECV_BYTES)
        if not more:
            raise ConnectionError(f"{peer.user}: closed after {data[-200:]!r}")
        data += more
    return data
