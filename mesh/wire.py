"""What processes say to each other: one ZeroMQ message is a msgpack array of items, packed per peer and loop turn.

A caller's messages begin with their number, 1 for the first one after HELLO. One of another number than the next is
dropped, and so is all that follows it until the next HELLO: what was sent on a connection that broke is lost, and
nothing may overtake it. The caller hears of the break, says HELLO and sends again.

    HELLO    [0, process, start, version, state, {method: fingerprint}]   first on every link, answered with the same
    REQUEST  [1, id, method, left_ms, again, run, args]   `again` 1: sent before, the answer was lost with its instance
    RESULT   [2, id, result]
    ERROR    [3, id, code, name, text, retry_after]    code > 0: AppError; else `name` is a CallError
    CAST     [4, method, args]                         no answer
    PING     [5]                                       answered by PONG [6, state]

`args` and `result` are msgpack of their own (bin), decoded by the types of the contract (`mesh/contract.py`).
`state` is "starting", "serving" or "draining". `id` is unique per caller process. `left_ms` is the time left, never
a time of day. `run` grows when a call of the lane failed (`mesh/fences.py`) and is 0 outside lanes. A message that
does not decode is counted and dropped whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import msgspec

from mesh.errors import WireError

VERSION = 2
"""Version of this wire; peers with another one are not called."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes in one ZeroMQ message, sent or accepted."""

SPLIT_AT = 1024 * 1024
"""Bytes after which a turn's output to one peer is cut into another ZeroMQ message."""

HELLO, REQUEST, RESULT, ERROR, CAST, PING, PONG = range(7)

_encode = msgspec.msgpack.Encoder().encode

encode = _encode
"""Encode one of the items above."""


def split(message: bytes) -> tuple[tuple[Any, ...], ...]:
    """The items of one message. Raises `WireError` when any of it does not decode; nothing is handled then."""
    try:
        items = msgpack.unpackb(message, use_list=False, raw=False, strict_map_key=True)
    except Exception as error:
        raise WireError(f"undecodable mesh message: {type(error).__name__}") from None
    if type(items) is not tuple:
        raise WireError("a mesh message that is no array")
    return items


def join(parts: list[bytes], number: int = 0) -> Iterator[tuple[int, bytes]]:
    """Pack encoded items into messages of about `SPLIT_AT` bytes; yields (number of items, message).

    `number` is that of the first message; 0: they are not numbered.
    """
    start = size = 0
    for i, part in enumerate(parts):
        size += len(part)
        if size >= SPLIT_AT:
            yield i + 1 - start, _message(parts[start : i + 1], number)
            start, size = i + 1, 0
            number += number > 0
    if start == 0:
        yield len(parts), _message(parts, number)
    elif start < len(parts):
        yield len(parts) - start, _message(parts[start:], number)


def _message(parts: list[bytes], number: int) -> bytes:
    if number:
        return _array(len(parts) + 1) + _encode(number) + b"".join(parts)
    return _array(len(parts)) + b"".join(parts)


_array: Callable[[int], bytes] = msgpack.Packer().pack_array_header

PING_ITEM = _encode((PING,))
