"""What texts are found by: one tokenizer for messages and for searches.

    text -> folded (NFKC, casefold; `nodes/words.py`) -> words, and runs of scripts that put no spaces between words
         -> terms of [a-z0-9], which SQLite and MySQL both take for one token each

A word of ASCII is a term as it is, any other in hexadecimal UTF-16 behind an "x". Of a run (Chinese, Japanese, Korean,
Thai, …) each pair of characters is a term, and its last character: a single one is looked for as the beginning of such
a term. Two texts may have the same terms, so what is found is compared with what was looked for (`Query.matches`).
"""

from __future__ import annotations

import re
from base64 import b32encode
from functools import cache, lru_cache
from hashlib import blake2b
from typing import NamedTuple
from unicodedata import category

import msgspec

from nodes.words import fold
from packs.enums import ContentType
from packs.ids import business_members, is_group_id, single_members
from store.archive.search import SCOPE_LENGTH, Terms
from store.entries import DELETED, HIDDEN, OVERRIDDEN, REVOKED, Entry

TEXT_MAX = 10_000
"""Characters of a message that it is found by: those from its start."""
WORD_MAX = 64
"""Longest term of a word: what is behind does not tell it from others in the index. MySQL takes 84 with the scope."""
PARTS_MAX = 16
"""Words and runs of a search."""
SEARCHABLE = (ContentType.NONE, ContentType.TEXT)
"""Kinds of content that are text. What others hold is known to apps only."""
UNREADABLE = REVOKED | DELETED | HIDDEN
"""States in which a message is found by nothing."""
SCOPES = 65_536
"""Users and groups whose scopes a process remembers: 10 MB."""
UNIT = 4
"""Hexadecimal digits of a unit of UTF-16."""

_RUN = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17dd\u3005-\u3007\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Kana, Bopomofo, Han, Hangul."""
_ASCII_WORDS = re.compile("[a-z0-9]+")


class _Text(msgspec.Struct, rename="camel"):
    """What of a payload is looked at."""

    sender: str = msgspec.field(name="from", default="")
    content: str = ""
    content_type: int = 0


_text = msgspec.msgpack.Decoder(_Text).decode


class Parts(NamedTuple):
    """A folded text: its words, and its runs."""

    words: list[str]
    runs: list[str]


@cache
def _parts() -> re.Pattern[str]:
    """A run or a word. Made when first needed: it takes 30 ms, and few processes look for words."""
    marks = "".join(chr(c) for c in range(0x300, 0x1E944) if category(chr(c))[0] == "M")
    letter = f"[^\\W_{_RUN}]"
    return re.compile(f"([{_RUN}]+)|({letter}+(?:[{marks}]+{letter}*)*)")


def parts_of(text: str) -> Parts:
    """The words and runs of a text."""
    folded = fold(text[:TEXT_MAX])
    if folded.isascii():
        return Parts(_ASCII_WORDS.findall(folded), [])
    found = _parts().findall(folded)
    return Parts([word for _, word in found if word], [run for run, _ in found if run])


# ---- messages


def terms_of(session: str, state: int, payload: bytes, content: str) -> Terms:
    """What a message is found by as it is now: the terms of its text, and its sender."""
    sender, text = _read(state, payload, content)
    terms = terms_of_text(text)
    if terms:
        terms.add(sender_term(sender))
    return Terms(scopes_of(session), terms)


def text_of(entry: Entry) -> str:
    """The text of a message, "" when it has none, or none any more."""
    return _read(entry.state, entry.payload, entry.content)[1]


def _read(state: int, payload: bytes, content: str) -> tuple[str, str]:
    """Sender and text."""
    if state & UNREADABLE:
        return "", ""
    try:
        found = _text(payload)
    except msgspec.MsgspecError:
        return "", ""
    if found.content_type not in SEARCHABLE:
        return "", ""
    return found.sender, content if state & OVERRIDDEN else found.content


def terms_of_text(text: str) -> set[str]:
    """The terms of a text."""
    if len(text) <= WORD_MAX and text.isascii():
        return set(_ASCII_WORDS.findall(text.lower()))
    words, runs = parts_of(text)
    terms = set(map(_term, words))
    for run in runs:
        terms.update(_pairs(run))
        terms.add(_hex(run[-1]))
    return terms


def _term(word: str) -> str:
    return (word if word.isascii() else _hex(word))[:WORD_MAX]


def _pairs(run: str) -> list[str]:
    units = run.encode("utf-16-be").hex()
    return ["x" + units[i : i + 2 * UNIT] for i in range(0, len(units) - UNIT, UNIT)]


def _hex(text: str) -> str:
    return "x" + text.encode("utf-16-be").hex()


def user_scope(user: str) -> str:
    """The scope of a user's single chats and notices."""
    return _scope("u " + user)


def group_scope(group: str) -> str:
    """The scope of a group."""
    return _scope("g " + group)


@lru_cache(SCOPES)
def sender_term(sender: str) -> str:
    """The term of everything that somebody wrote."""
    return "0" + _scope("s " + sender)


@lru_cache(SCOPES)
def _scope(of: str) -> str:
    digest = blake2b(of.encode(), digest_size=SCOPE_LENGTH * 5 // 8).digest()
    return b32encode(digest).decode().lower()


@lru_cache(SCOPES)
def scopes_of(session: str) -> tuple[str, ...]:
    """In which scopes the messages of a session are found, each in all of them."""
    if is_group_id(session):
        return (group_scope(session),)
    if (members := single_members(session)) is not None:
        return tuple(user_scope(user) for user in dict.fromkeys(members))
    parties = business_members(session)
    return (user_scope(parties[1]),) if parties is not None else ()


# ---- searches


class Query:
    """What is looked for. Raises `ValueError` when the text has nothing that could be, or too much."""

    def __init__(self, text: str) -> None:
        words, runs = parts_of(text)
        self._words = list(dict.fromkeys(words))
        self._runs = list(dict.fromkeys(runs))
        if not self._words and not self._runs:
            raise ValueError("text has no word")
        if len(self._words) + len(self._runs) > PARTS_MAX:
            raise ValueError(f"text has more than {PARTS_MAX} words")

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms that a message must have. One that ends with "*": any that begins so."""
        terms = set(map(_term, self._words))
        for run in self._runs:
            terms.update(_pairs(run) if len(run) > 1 else (f"{_hex(run)}*",))
        return tuple(sorted(terms))

    def matches(self, text: str) -> bool:
        """Whether a text has all the words, and the runs as they stand."""
        words, runs = parts_of(text)
        return set(words).issuperset(self._words) and all(any(run in r for r in runs) for run in self._runs)
