"""Stored messages: numbering one without decoding it.

A stored payload is a msgpack fixmap of `MsgReq`, made by our own encoder without the three fields that the server sets.
Numbers are spliced in as three more entries, so a message is encoded once when it comes and never again.

    stored    0x80+n  n entries
    numbered  0x80+n+3  n entries  seqId int64  timestamp int64  prevSeqId int64
"""

from __future__ import annotations

import struct

import msgspec

from packs.codec import encode_payload
from packs.structs import MsgReq

_NUMBERS = struct.Struct(">7sq11sq11sq").pack
_SEQ_ID, _TIMESTAMP, _PREV_SEQ_ID = b"\xa5seqId\xd3", b"\xa9timestamp\xd3", b"\xa9prevSeqId\xd3"

_US_PER_MS = 1000

_HEADS = {0x80 + n: bytes((0x80 + n + 3,)) for n in range(16 - 3)}
"""First byte of a stored payload to that of the numbered one; a fixmap holds 15 entries, `MsgReq` has 11 fields."""


def stored_payload(msg: MsgReq) -> bytes:
    """The payload of `msg` as it is stored: without seqId, timestamp and prevSeqId, whatever the client wrote there."""
    if msg.seq_id or msg.timestamp or msg.prev_seq_id:
        msg = msgspec.structs.replace(msg, seq_id=0, timestamp=0, prev_seq_id=0)
    return encode_payload(msg)


def with_numbers(payload: bytes, seq_id: int, prev_seq_id: int) -> bytes:
    """A stored payload with its numbers: seqId (µs), prevSeqId (0 for the first), and timestamp = seqId in ms.

    Raises KeyError when `payload` does not come from `stored_payload` (it is no fixmap of at most 12 entries).
    """
    numbers = _NUMBERS(_SEQ_ID, seq_id, _TIMESTAMP, seq_id // _US_PER_MS, _PREV_SEQ_ID, prev_seq_id)
    return _HEADS[payload[0]] + payload[1:] + numbers
