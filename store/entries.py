"""A stored message: what lies in history and in the log.

    bytes 0-7    seqId, big endian: µs since the epoch in size, strictly increasing in the session
    bytes 8-15   prevSeqId: the seqId of the message before it when it was stored
    bytes 16-23  n: countable messages of the session up to and including this one
    bytes 24-    tail: msgpack array [type, flags, packId, payload], made by whoever stored it

When a message is revoked, overridden or deleted (control.lua), what is said of it stands before the tail, which stays
what the sender wrote. A seqId is below 2^53, so byte 0 tells the two forms apart.

    byte 0       1
    bytes 1-23   as above
    byte 24      state: bits REVOKED, OVERRIDDEN, DELETED, HIDDEN
    bytes 25-28  revision: how often it was changed; of two rows in the log the higher one is right
    bytes 29-36  when it was changed last, ms since the epoch, strictly increasing with the revision
    bytes 37-40  length of the content
    bytes 41-    content of the last override, UTF-8; then the tail

A deleted message is a tombstone: the payload of its tail has only `from` and `to`.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec

REVOKED, OVERRIDDEN, DELETED, HIDDEN = 1, 2, 4, 8
"""Bits of `Entry.state`. HIDDEN: whoever is not a monitor reads it without content."""

_HEAD = struct.Struct(">QQQ")
_CHANGE = struct.Struct(">BIQI")
_SEQ_MASK = (1 << 56) - 1
_UNCHANGED = (0, 0, 0, "")
_numbers = _HEAD.unpack_from
_new = tuple.__new__
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, str, bytes]).decode


class Entry(NamedTuple):
    """A message as it is stored. `payload` lacks the numbers: they are here. `flags`, `payload` are the sender's, also
    when the message was changed since; `state` and the rest say how."""

    seq: int
    prev: int
    n: int
    type: int
    flags: int
    pack_id: str
    payload: bytes
    state: int = 0
    revision: int = 0
    changed: int = 0
    content: str = ""


def tail(pack_type: int, flags: int, pack_id: str, payload: bytes) -> bytes:
    """The part of an entry that is known before it is stored."""
    return _encode((pack_type, flags, pack_id, payload))


def parse(entry: bytes) -> Entry:
    """Read an entry."""
    if entry[0]:
        seq, prev, n = _numbers(entry)
        return Entry(seq & _SEQ_MASK, prev, n, *_changed(entry))
    return _new(Entry, _numbers(entry) + _decode(entry[24:]) + _UNCHANGED)  # a third of what Entry(...) costs


def build(entry: Entry) -> bytes:
    """The opposite of `parse`."""
    rest = _encode((entry.type, entry.flags, entry.pack_id, entry.payload))
    head = _HEAD.pack(entry.seq, entry.prev, entry.n)
    if not entry.state:
        return head + rest
    content = entry.content.encode()
    change = _CHANGE.pack(entry.state, entry.revision, entry.changed, len(content))
    return b"\1" + head[1:] + change + content + rest


def _changed(entry: bytes) -> tuple[Any, ...]:
    state, revision, changed, length = _CHANGE.unpack_from(entry, _HEAD.size)
    start = _HEAD.size + _CHANGE.size
    content = entry[start : start + length].decode()
    return (*_decode(entry[start + length :]), state, revision, changed, content)
