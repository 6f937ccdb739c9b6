"""Typing a line, and how wide text is on a terminal: no terminal here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

TAB = "\t"
ENTER, BACKSPACE, DELETE_WORD, DELETE_LINE, HOME, END, EOF = "\r\n", "\x7f\b", "\x17", "\x15", "\x01", "\x05", "\x04"
KEYS = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end",
    "1~": "home", "7~": "home", "4~": "end", "8~": "end", "3~": "delete",
}  # fmt: skip
"""What terminals send after ESC [ or ESC O."""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_KEY = re.compile(r"\x1b(?:[\[O]([0-9;?]*[@-~])|[^\[O])|([^\x1b])", re.DOTALL)


class Editor:
    """The line being typed: keys in, text and cursor out. `complete`, given what stands before the cursor, says what
    its last word may become when Tab is typed."""

    def __init__(self, complete: Callable[[str], list[str]] = lambda before: []) -> None:
        self._complete = complete
        self.text = ""
        self.cursor = 0
        self._past: list[str] = []
        self._at = 0
        self._draft = ""  # what was being typed before looking at the past

    def key(self, key: str) -> str | None:
        """Take a key (a character, or the name of an escape sequence); the line when it was Enter."""
        if key in ENTER:
            line, self.text, self.cursor, self._draft = self.text, "", 0, ""
            if line and self._past[-1:] != [line]:
                self._past.append(line)
            self._at = len(self._past)
            return line
        if key in BACKSPACE and self.cursor:
            self._cut(self.cursor - 1)
        elif key == DELETE_WORD:
            before, space, _ = self.text[: self.cursor].rstrip().rpartition(" ")
            self._cut(len(before + space))
        elif key == DELETE_LINE:
            self._cut(0)
        elif key in (HOME, "home"):
            self.cursor = 0
        elif key in (END, "end"):
            self.cursor = len(self.text)
        elif key == "left":
            self.cursor = max(0, self.cursor - 1)
        elif key == "right":
            self.cursor = min(len(self.text), self.cursor + 1)
        elif key == "delete":
            self.text = self.text[: self.cursor] + self.text[self.cursor + 1 :]
        elif key == TAB:
            self._expand()
        elif key in ("up", "down"):
            self._recall(-1 if key == "up" else 1)
        elif len(key) == 1 and (key.isprintable() or unicodedata.category(key) == "Cf"):
            self.text = self.text[: self.cursor] + key + self.text[self.cursor :]
            self.cursor += 1
        return None

    def _cut(self, start: int) -> None:
        self.text = self.text[:start] + self.text[self.cursor :]
        self.cursor = start

    def _expand(self) -> None:
        """Put in as much of the last word as is certain."""
        before = self.text[: self.cursor]
        found = self._complete(before)
        word = before.rpartition(" ")[2]
        whole = found[0] + " " if len(found) == 1 else _common(found)
        if len(whole) > len(word):
            self.text = before[: len(before) - len(word)] + whole + self.text[self.cursor :]
            self.cursor += len(whole) - len(word)

    def _recall(self, step: int) -> None:
        if self._at == len(self._past):
            self._draft = self.text
        self._at = min(max(self._at + step, 0), len(self._past))
        self.text = self._past[self._at] if self._at < len(self._past) else self._draft
        self.cursor = len(self.text)


def _common(words: list[str]) -> str:
    """What all begin with."""
    if not words:
        return ""
    first, last = min(words), max(words)
    end = next((n for n, character in enumerate(first) if last[n : n + 1] != character), len(first))
    return first[:end]


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def rows(text: str, columns: int) -> int:
    """Lines that a text takes on a terminal of that width; colours take no room."""
    count, at = 1, 0
    for character in _STYLE.sub("", text):
        wide = _columns(character)
        if at + wide > columns:
            count, at = count + 1, 0
        at += wide
    return count


def cut(text: str, columns: int) -> str:
    """As much of the beginning of a text as fits."""
    for end, character in enumerate(text):
        columns -= _columns(character)
        if columns < 0:
            return text[:end]
    return text


def split_keys(text: str) -> tuple[list[str], str]:
    """Characters, and escape sequences as their names (unknown ones are left out); and an unfinished sequence."""
    keys, at = [], 0
    while (match := _KEY.match(text, at)) is not None:
        at = match.end()
        sequence, character = match.groups()
        if character is not None:
            keys.append(character)
        elif sequence in KEYS:
            keys.append(KEYS[sequence])
    rest = text[at:]
    return keys, rest if rest != "\x1b" else ""  # that one is the key Escape
