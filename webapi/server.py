"""The HTTP server: listens, bounds what connections may cost, and hands requests to an application."""

from __future__ import annotations

import itertools
import os
import ssl
from collections.abc import Callable, MutableMapping
from typing import Any

import gevent

from mesh.loop import Every, now
from mesh.streams import Streams
from webapi.connection import Connection, http_date
from webapi.exchange import Admit, Answer, ApiError, Handle, Head, Request
from webapi.settings import Limits

SWEEP_SECONDS = 1.0
STANDING = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nDate: {date}\r\n\r\n"
"""What ends the head of every answer."""


class Server:
    """Connections and their limits. `counts` takes counters (requests.…, connections.…)."""

    def __init__(
        self, limits: Limits, counts: MutableMapping[str, int], admit: Admit, handle: Handle,
        refused: Callable[[Head, ApiError], Answer],
    ) -> None:  # fmt: skip
        self.limits = limits
        self.counts = counts
        self.admit = admit
        self.refused = refused
        self.streams = Streams(limits.write_buffer, limits.connections)
        self.draining = False
        self.buffered = 0
        """Bytes of bodies that are not complete."""
        self._handle = handle
        self._start = os.urandom(4).hex()
        self._ids = itertools.count(1)
        self._standing = ""
        self._tick()
        self._timer = Every(SWEEP_SECONDS, self._tick)

    def listen(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Accept connections; port 0 takes a free one. Returns where. Raises `ConfigError`."""
        return self.streams.listen(address, self._connected, tls)

    def _connected(self, streams: Streams, sock: Any, peer: str) -> Connection | None:
        self.counts["connections.accepted"] += 1
        return Connection(self, streams, sock, peer)

    def lost(self, reason: str) -> None:
        """A connection is over."""
        self.counts[f"connections.closed.{reason}"] += 1

    def handle(self, request: Request, done: Callable[[Answer], None]) -> None:
        self._handle(request, done)

    def buffer(self, size: int) -> bool:
        """Count bytes of a body; False when there are too many of all connections."""
        self.buffered += size
        return self.buffered <= self.limits.buffered

    def new_id(self) -> str:
        """An id for a request, unique for ever."""
        return f"{self._start}{next(self._ids):08x}"

    def standing_headers(self) -> str:
        """The last headers of every answer and the blank line."""
        return self._standing

    def _tick(self) -> None:
        self._standing = STANDING.format(date=http_date())
        at = now()
        for connection in list(self.streams.open.values()):
            assert isinstance(connection, Connection)
            connection.sweep(at)

    def drain(self) -> None:
        """Take no new connections, and close those that wait for nothing; the others after their answer."""
        self.draining = True
        self.streams.stop_listening()
        for connection in list(self.streams.open.values()):
            assert isinstance(connection, Connection)
            connection.drain()
        while self.streams.open:
            gevent.sleep(0.02)

    def close(self) -> None:
        self._timer.stop()
        self.streams.close()
