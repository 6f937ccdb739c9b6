"""On which line each table and key of a TOML text stands; `tomllib` does not tell.

Rules: the text was accepted by `tomllib` before, so this only has to find its way, not to judge. Keys inside inline
tables and arrays of tables have no line of their own: `Positions.line` answers with the innermost thing around them
that has one, never with a guess.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_VALUE = re.compile(
    r"""
    \"\"\"(?:[^"\\]|\\.|"{1,2}(?!"))*\"{3,5}  # multi-line string; up to two quotes may stand before the closing three
    | '''(?:[^']|'{1,2}(?!'))*'{3,5}
    | "(?:[^"\\\n]|\\.)*"
    | '[^'\n]*'
    | \#[^\n]*
    | [\[\]{}\n]
    | [^"'\#\[\]{}\n]+
    """,
    re.VERBOSE | re.DOTALL,
)


class Positions:
    """Lines of tables and keys, by path: `("process", "edge", "count")`."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._text = text.replace("\r\n", "\n")
        self._scan()
        self._text = ""

    def line(self, path: Path) -> int | None:
        """The line of `path`, else of what encloses it; None when nothing of it stands in the text."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._lines:
                return self._lines[path[:end]]
        return None

    def _scan(self) -> None:
        table: Path = ()
        at = self._skip(_BLANK, 0)
        line, counted = 1, 0
        while at < len(self._text):
            line += self._text.count("\n", counted, at)
            counted = at
            if self._text[at] == "[":
                table, at = self._header(at)
                self._note(table, line)
            else:
                key, at = self._key(at)
                self._note(table + key, line)
                at = self._value(at + 1)
            at = self._skip(_BLANK, at)

    def _note(self, path: Path, line: int) -> None:
        """The first mention counts, for the path and for the tables that it opens on its way."""
        for end in range(1, len(path) + 1):
            self._lines.setdefault(path[:end], line)

    def _skip(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self._text, at)
        return found.end() if found else at

    def _header(self, at: int) -> tuple[Path, int]:
        brackets = 2 if self._text.startswith("[[", at) else 1
        path, at = self._key(at + brackets)
        return path, at + brackets

    def _key(self, at: int) -> tuple[Path, int]:
        """A dotted key from `at` on; ends at the `=` or `]` behind it."""
        parts: list[str] = []
        while True:
            at = self._skip(_SPACE, at)
            found = _KEY.match(self._text, at)
            if found is None:
                raise ValueError(f"no key at offset {at}")  # tomllib would have refused the text
            word = found.group()
            parts.append(str(tomllib.loads(f"key = {word}")["key"]) if word[0] in "\"'" else word)
            at = self._skip(_SPACE, found.end())
            if self._text[at] != ".":
                return tuple(parts), at
            at += 1

    def _value(self, at: int) -> int:
        """The end of a value: the first newline outside of strings and brackets."""
        depth = 0
        while found := _VALUE.match(self._text, at):
            token = found.group()
            if token == "\n" and depth == 0:
                return at
            depth += (token in "[{") - (token in "]}")
            at = found.end()
        return len(self._text)
