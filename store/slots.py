"""In which slot of a Redis Cluster a key lies."""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache

SLOTS = 16_384


@lru_cache(maxsize=16_384)
def key_slot(key: str) -> int:
    """The slot of a key: of what stands in its first braces, when there is something, else of all of it."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS  # CRC-16/XMODEM


def tag_of(key: str) -> str:
    """The braces of a key with what stands in them; a key without any is its own."""
    return key[: key.find("}") + 1] or key
