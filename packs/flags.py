"""Bits of the header's `flags`. Plain ints, not an enum: the hot path tests them per pack, and an IntFlag costs 1 µs.

Compression and crypto are 3-bit numbers inside the field; bits from 12 up are reserved and passed on untouched.
"""

from __future__ import annotations

from typing import Final

ACK: Final = 1 << 0
"""A response, or a client's acknowledgement of a push; never a request."""

DUP: Final = 1 << 1
"""A retransmission: the same packId may have been sent before."""

COUNTER: Final = 1 << 2
"""Counts as unread for its recipients."""

OVERRIDE: Final = 1 << 3
"""The content of this stored message was replaced."""

REVOKE: Final = 1 << 4
"""This stored message was revoked by its sender or the group's owner."""

HIGH_PRIORITY: Final = 1 << 5
"""Also kept in the recipients' high-priority queues."""

COMPRESS_MASK: Final = 7 << 6
"""How the payload is compressed: 0 not at all."""

COMPRESS_ZLIB: Final = 1 << 6
"""Value of the `COMPRESS_MASK` bits: zlib (RFC 1950)."""

CRYPTO_MASK: Final = 7 << 9
"""How the payload is encrypted: 0 not at all; everything else is refused (TLS does this better)."""
