"""A stored message: what lies in history and in the log.

    bytes 0-7    seqId, big endian: µs since the epoch in size, strictly increasing in the session
    bytes 8-15   prevSeqId: the seqId of the message before it when it was stored
    bytes 16-23  n: countable messages of the session up to and including this one
    bytes 24-    tail: msgpack array [type, flags, packId, payload], made by whoever stored it
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

_HEAD = struct.Struct(">QQQ")
_new = tuple.__new__
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, str, bytes]).decode


class Entry(NamedTuple):
    """A message as it is stored. `payload` lacks the numbers: they are here."""

    seq: int
    prev: int
    n: int
    type: int
    flags: int
    pack_id: str
    payload: bytes


def tail(pack_type: int, flags: int, pack_id: str, payload: bytes) -> bytes:
    """The part of an entry that is known before it is stored."""
    return _encode((pack_type, flags, pack_id, payload))


def parse(entry: bytes) -> Entry:
    """Read an entry."""
    return _new(Entry, (*_HEAD.unpack_from(entry), *_decode(entry[24:])))  # half of what Entry(...) costs
