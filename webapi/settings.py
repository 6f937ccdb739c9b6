"""Limits of a server."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Sizes in bytes, times in seconds."""

    head: int = 16_384
    """Request line and headers."""
    headers: int = 64
    """Header fields."""
    body: int = 4_194_304
    buffered: int = 268_435_456
    """Bodies of all connections that are not complete, together."""
    head_timeout: float = 10.0
    """From the first byte of a request (or the connection) to the end of its head."""
    body_timeout: float = 60.0
    """From the end of the head to the end of the body."""
    idle_timeout: float = 75.0
    """Between requests."""
    connections: int = 20_000
    write_buffer: int = 8_388_608
    """What may wait for one client; a slower reader is cut."""
