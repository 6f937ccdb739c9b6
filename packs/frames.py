"""Bytes of a TCP connection to bodies: `uint32` big endian length, including its own 4 bytes, then the body.

A length is judged as soon as its 4 bytes are there, before anything of the body is kept. Bytes of an unfinished frame
are the only state, held in one bytearray: a sender that drips one byte at a time costs linear time and no more memory
than it sent.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

MAX_FRAME: Final = 640_000
"""Bytes in the largest frame, its length included."""

MAX_FRAME_BEFORE_LOGIN: Final = 16 * 1024
"""Bytes in the largest frame of a peer that has not said who it is."""

MIN_FRAME: Final = 5
"""Bytes in the smallest frame: the length and one byte of body."""

_PREFIX: Final = 4
_length_at = Struct(">I").unpack_from


class FrameError(Exception):
    """A length outside the limits; the stream cannot be read any further. `bodies` came before it, complete.
    `reason`: that of `packs.connection.CloseReason`."""

    reason = "bad_length"

    def __init__(self, length: int, bodies: list[bytes]) -> None:
        self.length = length
        self.bodies = bodies
        super().__init__(f"frame of {length} bytes")


class FrameReader:
    """Splits what one connection sends. `limit` (bytes, inclusive) may be changed between calls."""

    __slots__ = ("_need", "_rest", "limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._rest: bytearray | None = None
        self._need = 0  # length of the frame that `_rest` begins; 0: not known yet

    @property
    def pending(self) -> int:
        """Bytes held of an unfinished frame; 0 when the last frame is complete."""
        return len(self._rest) if self._rest else 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the bodies that they complete. Raises `FrameError` once and for all."""
        rest = self._rest
        if rest is not None:
            rest += data
            if len(rest) < self._need:
                return []
            data = bytes(rest)
            self._rest = None
        return self._split(data)

    def _split(self, data: bytes) -> list[bytes]:
        """The bodies in the bytes so far; keeps what is left."""
        bodies: list[bytes] = []
        limit, end = self.limit, len(data)
        start, stop = 0, 0
        while end - start >= _PREFIX:
            (length,) = _length_at(data, start)
            if not MIN_FRAME <= length <= limit:
                raise FrameError(length, bodies)
            stop = start + length
            if stop > end:
                break
            bodies.append(data[start + _PREFIX : stop])
            start = stop
        if start < end:
            self._rest = bytearray(memoryview(data)[start:])
            self._need = stop - start
        return bodies
