"""Sensitive words: the table [words], and texts checked against it.

    checker = words.checker(topology, words.SINGLE)
    text = checker.check(content)        # the content, the content with words masked, or None: refused

Words are found anywhere in a text, whatever their case and width (NFKC, then casefold, characters that nobody sees left
out): "ＢＡＤ" is "bad", and so is "bad" with a zero-width space in it. An Aho-Corasick automaton makes it cost the same
for one word and for 100,000: about 1.3 µs for 64 bytes and 4 ms for 64 KB (`docs/performance.md`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate
from typing import Any, Final, Literal
from unicodedata import combining, is_normalized, normalize

import msgspec
from ahocorasick_rs import AhoCorasick

from mesh.errors import ConfigError
from mesh.topology import Topology
from packs.structs import NO_PUSH_INFO, MsgReq, PushInfo

Kind = Literal["single", "group"]
SINGLE: Final = "single"
GROUP: Final = "group"
ACTIONS = ("refuse", "mask")
MASK = "*"
MAX_WORD = 100
"""Characters of a word; a longer line of a file is no word but a mistake."""
MAX_MARKS = 30
"""Combining characters in a row that are looked at, as in Unicode's stream-safe text: sorting n of them takes n² steps
(0.8 s for a message full of them)."""
MARKS_END = 0x1E944
"""Behind the last combining character that letters in use have."""


class WordSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that messages may not contain."""

    single: tuple[str, ...] = ()
    """Words for single chats and notices."""
    single_file: str = ""
    """More of them: a UTF-8 file with one word per line; relative to the topology file."""
    single_action: str = "refuse"
    """"refuse": the message is not sent (code 10); "mask": each character of a word becomes `*`."""
    group: tuple[str, ...] = ()
    """Words for group chats."""
    group_file: str = ""
    """More of them, as above."""
    group_action: str = "refuse"
    """As above."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for kind in (SINGLE, GROUP):
            action = getattr(self, f"{kind}_action")
            if action not in ACTIONS:
                yield f"{kind}_action", f'must be "refuse" or "mask", not "{action}"'
            for number, word in enumerate(getattr(self, kind), 1):
                if text := _bad_word(word):
                    yield kind, f"word {number} {text}"

    @classmethod
    def check(cls, topology: Topology) -> Iterator[tuple[str, str, str]]:
        """For `imesh check`: what is wrong with the files."""
        settings: WordSettings = topology.section("words")
        for kind in (SINGLE, GROUP):
            key = f"{kind}_file"
            if name := getattr(settings, key):
                try:
                    _read(topology, name)
                except ValueError as error:
                    yield "words", key, str(error)


SECTIONS = {"words": WordSettings}
"""Topology tables of nodes that check words."""


def checker(topology: Topology, kind: Kind) -> Checker:
    """The checker of single or of group chats, as the topology says. Raises `ConfigError` for a file gone bad since."""
    settings: WordSettings = topology.section("words")
    words = list(getattr(settings, kind))
    if name := getattr(settings, f"{kind}_file"):
        try:
            words += _read(topology, name)
        except ValueError as error:
            raise ConfigError(f"[words] {kind}_file: {error}") from None
    return Checker(words, mask=getattr(settings, f"{kind}_action") == "mask")


def _read(topology: Topology, name: str) -> list[str]:
    """The words of a file; empty lines are none. Raises `ValueError`."""
    path = topology.path.parent / name
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 text") from None
    words = []
    for line, word in enumerate(text.splitlines(), 1):
        if not (word := word.strip()):
            continue
        if problem := _bad_word(word):
            raise ValueError(f"{path}:{line}: the word {problem}")
        words.append(word)
    return words


def _bad_word(word: str) -> str:
    if len(word) > MAX_WORD:
        return f"is longer than {MAX_WORD} characters"
    return "" if fold(word).strip() else "is empty"


# ---- folding


def _ranges(codes: Iterable[int]) -> str:
    """The inside of a character class."""
    spans: list[list[int]] = []
    for code in codes:
        if spans and code == spans[-1][1] + 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in spans)


_UNSEEN = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
                     "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+")  # fmt: skip
"""What Unicode calls default ignorable: soft hyphens, joiners, zero-width spaces, variation selectors …"""


@cache
def _too_many_marks() -> re.Pattern[str]:
    """More marks behind each other than `MAX_MARKS`. Made when first needed: it takes 25 ms, and most processes never
    look at a text."""
    marks = _ranges(c for c in range(0x300, MARKS_END) if combining(chr(c)))
    return re.compile(f"([{marks}]{{{MAX_MARKS}}})[{marks}]+")


def fold(text: str) -> str:
    """What is compared: two texts that look alike become the same."""
    if text.isascii():
        return text.lower()
    text = _UNSEEN.sub("", text)
    if len(text) > MAX_MARKS:
        text = _too_many_marks().sub(r"\1", text)
    return normalize("NFKC", text).casefold()


def _is_plain(text: str) -> bool:
    """Whether folding does nothing to the text but casefold it."""
    return not (_UNSEEN.search(text) or _too_many_marks().search(text)) and is_normalized("NFKC", text)


def _clusters(text: str) -> list[str]:
    """`text` in the smallest pieces that fold each by itself: a letter and what combines with it."""
    clusters: list[str] = []
    for char in text:
        if not clusters or _never_joins(char):
            clusters.append(char)
        elif combining(char) or _UNSEEN.match(char) or _joins(clusters[-1], char):
            clusters[-1] += char
        else:
            clusters.append(char)
    return clusters


def _never_joins(char: str) -> bool:
    """Whether a letter of Latin, Greek, Cyrillic or Han stands by itself: most do, and a look costs least."""
    return char < "\u0300" or "\u0370" <= char < "\u0483" or "\u3400" <= char <= "\u9fff"


def _joins(before: str, char: str) -> bool:
    """Whether a letter combines with what is before it, as those of Hangul do."""
    return fold(before + char) != fold(before) + fold(char)


# ---- checking


class Checker:
    """Checks texts against a list of words."""

    def __init__(self, words: Iterable[str], *, mask: bool) -> None:
        folded = sorted({fold(word) for word in words})
        self._find: Any = AhoCorasick(folded, store_patterns=False).find_matches_as_indexes if folded else None
        self._mask = mask

    def check(self, content: str) -> str | None:
        """`content` as it may be sent, words masked where they are to be; None when it may not be."""
        if self._find is None or not self._find(folded := fold(content)):
            return content
        return self._masked(content, folded) if self._mask else None

    def screen(self, message: MsgReq) -> bool:
        """Check what a message shows, masking in place; False when it may not be sent."""
        if self._find is None:
            return True
        content = self.check(message.content)
        if content is None:
            return False
        message.content = content
        shown = message.push_info
        if shown is not NO_PUSH_INFO:
            title, summary = self.check(shown.title), self.check(shown.summary)
            if title is None or summary is None:
                return False
            if (title, summary) != (shown.title, shown.summary):
                message.push_info = PushInfo(title=title, summary=summary, url=shown.url)
        return True

    def _masked(self, content: str, folded: str) -> str:
        spans = self._find(folded, overlapping=True)
        if len(folded) == len(content) and _is_plain(content):
            # Nothing was composed or left out, and casefolding shortens nothing: each character is where it was.
            chars = list(content)
            for _, first, end in spans:
                chars[first:end] = MASK * (end - first)
            return "".join(chars)
        clusters = _clusters(content)
        pieces = [fold(cluster) for cluster in clusters]
        if "".join(pieces) != folded:
            return MASK * len(content)  # not known to happen: a text whose pieces cannot be told apart
        ends = list(accumulate(map(len, pieces)))
        hit = bytearray(len(folded))
        for _, first, end in spans:
            hit[first:end] = b"\1" * (end - first)
        return "".join(
            MASK * len(cluster) if any(hit[end - len(piece) : end]) else cluster
            for cluster, piece, end in zip(clusters, pieces, ends, strict=True)
        )
