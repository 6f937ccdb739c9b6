"""What processes say to each other: one ZeroMQ message is a stream of msgpack arrays, packed per peer and loop turn.

    HELLO    [0, process, start, version, state, {method: fingerprint}]   first on every link, answered with the same
    REQUEST  [1, id, method, left_ms, again, args]     `again` 1: sent before, the answer was lost with its instance
    RESULT   [2, id, result]
    ERROR    [3, id, code, name, text]                 code > 0: AppError; else `name` is a CallError
    CAST     [4, method, args]                         no answer
    PING     [5]                                       answered by PONG [6, state]

`args` and `result` are msgpack of their own (bin), decoded by the types of the contract (`mesh/contract.py`).
`state` is "starting", "serving" or "draining". `id` is unique per caller process. `left_ms` is the time left, never
a time of day. A message that does not decode is counted and dropped whole; it never harms the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec

from mesh.errors import WireError

VERSION = 1
"""Version of this wire; peers with another one are not called."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes in one ZeroMQ message, sent or accepted."""

SPLIT_AT = 1024 * 1024
"""Bytes after which a turn's output to one peer is cut into another ZeroMQ message."""

HELLO, REQUEST, RESULT, ERROR, CAST, PING, PONG = range(7)

_encode = msgspec.msgpack.Encoder().encode

encode = _encode
"""Encode one of the arrays above."""

PING_MESSAGE = _encode((PING,))


def new_unpacker() -> Any:
    """An unpacker for streams of the arrays above."""
    return msgpack.Unpacker(max_buffer_size=MAX_MESSAGE, use_list=False, raw=False, strict_map_key=True)


class Splitter:
    """Splits ZeroMQ messages into their arrays; a broken message cannot poison the next."""

    __slots__ = ("_unpacker",)

    def __init__(self) -> None:
        self._unpacker = new_unpacker()

    def split(self, message: bytes) -> Iterator[Any]:
        """The arrays of one message. Raises `WireError` at the first that does not decode or is cut off."""
        unpacker = self._unpacker
        end = unpacker.tell() + len(message)
        try:
            unpacker.feed(message)
            yield from unpacker
        except Exception as error:
            self._unpacker = new_unpacker()
            raise WireError(f"undecodable mesh message: {type(error).__name__}") from None
        if unpacker.tell() != end:
            self._unpacker = new_unpacker()
            raise WireError("a mesh message ends in the middle of an item")


def join(parts: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Pack encoded arrays into messages of about `SPLIT_AT` bytes; yields (number of arrays, message)."""
    if len(parts) == 1:
        yield 1, parts[0]
        return
    start = size = 0
    for i, part in enumerate(parts):
        size += len(part)
        if size >= SPLIT_AT:
            yield i + 1 - start, b"".join(parts[start : i + 1])
            start, size = i + 1, 0
    if start < len(parts):
        yield len(parts) - start, b"".join(parts[start:])
