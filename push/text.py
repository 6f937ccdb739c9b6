"""Texts within the vendors' limits, and short ids."""

from __future__ import annotations

import hashlib
import re
import unicodedata

ELLIPSIS = "…"
EMOJI_PARTS = re.compile("[\ufe00-\ufe0f\U000e0000-\U000e007f]")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def clip(text: str, most: int) -> str:
    """At most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + ELLIPSIS


def clip_bytes(text: str, most: int) -> str:
    """At most `most` bytes in UTF-8, whole characters."""
    raw = text.encode()
    if len(raw) <= most:
        return text
    return raw[: max(0, most - len(ELLIPSIS.encode()))].decode(errors="ignore") + ELLIPSIS


def plain(text: str) -> str:
    """Without emoji and other symbols, which some templates refuse; blanks where nothing is left between words."""
    return " ".join("".join(c for c in text if not _is_symbol(c)).split())


def _is_symbol(c: str) -> bool:
    """Also what only emoji are made with: shades of skin, joiners, selectors, tags. Marks of letters are none."""
    if c <= "\x7f":
        return False
    return unicodedata.category(c) in ("So", "Cs", "Sk") or c in "\u200d\u20e3" or bool(EMOJI_PARTS.match(c))


def number_of(name: str) -> int:
    """A positive number of 31 bits for a name, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") & 0x7FFFFFFF or 1


def key_of(name: str, length: int) -> str:
    """`length` letters and digits for a name, the same everywhere."""
    value = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=length).digest(), "big")
    digits = []
    for _ in range(length):
        value, digit = divmod(value, 62)
        digits.append(BASE62[digit])
    return "".join(digits)
