"""A terminal with a line being typed at the bottom and messages appearing above it; or a plain pipe.

On a terminal, keys are read one by one and the bottom is redrawn after whatever is shown: what is still under way, and
below it the line being typed. Wide characters (Chinese, emoji) count two columns. In a pipe, lines are read as they
are and what is shown is printed. Reading waits in `select`, never in a read: under gevent, all else goes on meanwhile.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import shutil
import termios
import threading
import tty
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, TextIO
from zlib import crc32

COLOURS = (31, 32, 33, 34, 35, 36)
POLL_SECONDS = 0.2
READ_BYTES = 65_536
UNDER_WAY_SHOWN = 3
"""Lines under way that are shown at most."""
ENTER, BACKSPACE, DELETE_WORD, DELETE_LINE, HOME, END, EOF = "\r\n", "\x7f\b", "\x17", "\x15", "\x01", "\x05", "\x04"
KEYS = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end",
    "1~": "home", "7~": "home", "4~": "end", "8~": "end", "3~": "delete",
}  # fmt: skip
"""What terminals send after ESC [ or ESC O."""
_KEY = re.compile(r"\x1b(?:[\[O]([0-9;?]*[@-~])|[^\[O])|([^\x1b])", re.DOTALL)


class Editor:
    """The line being typed, without any terminal: keys in, text and cursor out."""

    def __init__(self) -> None:
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
        elif key in ("up", "down"):
            self._recall(-1 if key == "up" else 1)
        elif len(key) == 1 and (key.isprintable() or unicodedata.category(key) == "Cf"):
            self.text = self.text[: self.cursor] + key + self.text[self.cursor :]
            self.cursor += 1
        return None

    def _cut(self, start: int) -> None:
        self.text = self.text[:start] + self.text[self.cursor :]
        self.cursor = start

    def _recall(self, step: int) -> None:
        if self._at == len(self._past):
            self._draft = self.text
        self._at = min(max(self._at + step, 0), len(self._past))
        self.text = self._past[self._at] if self._at < len(self._past) else self._draft
        self.cursor = len(self.text)


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


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


class Screen:
    """Where a chat is shown and typed. `interactive`: both ends are a terminal."""

    def __init__(self, source: TextIO, target: TextIO, interactive: bool | None = None) -> None:
        self.interactive = source.isatty() and target.isatty() if interactive is None else interactive
        self._source = source.fileno()
        self._target = target
        self._lock = threading.RLock()
        self._editor = Editor()
        self._prompt: Callable[[], str] = lambda: ""
        self._typing = False
        self._under_way: dict[object, str] = {}
        self._rows = 0  # drawn above the line being typed
        self._interrupted = threading.Event()
        self._saved: Any = termios.tcgetattr(self._source) if self.interactive else None

    # ---- showing

    def show(self, text: str) -> None:
        """A line above what is under way."""
        with self._lock:
            try:
                if self._typing:
                    self._write(self._erasure() + text + "\r\n")
                    self._draw()
                else:
                    self._write(text + "\n")
            except BrokenPipeError:
                self.interrupt()  # whoever read has gone

    def under_way(self, key: object, text: str) -> None:
        """A line that is shown at the bottom until `settle`. On a terminal only."""
        with self._lock:
            self._under_way[key] = text
            self._redraw()

    def settle(self, key: object, text: str) -> None:
        """What was under way is done: `text` stands among the other lines now."""
        with self._lock:
            self._under_way.pop(key, None)
            self.show(text)

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.interactive else text

    def colour(self, name: str) -> str:
        """A name in its own colour."""
        return f"\x1b[{COLOURS[crc32(name.encode()) % len(COLOURS)]}m{name}\x1b[0m" if self.interactive else name

    @staticmethod
    def harmless(text: str) -> str:
        """Somebody else's text, unable to command the terminal. Joiners inside emoji may stay."""
        return "".join(c if c.isprintable() or c == "\u200d" else " " for c in text)

    def _write(self, text: str) -> None:
        self._target.write(text)
        self._target.flush()

    def _erasure(self) -> str:
        """What takes the bottom away."""
        return (f"\x1b[{self._rows}A" if self._rows else "") + "\r\x1b[J"

    def _redraw(self) -> None:
        if self._typing:
            self._write(self._erasure())
            self._draw()

    def _draw(self) -> None:
        """The bottom: what is under way, and the line being typed."""
        columns = shutil.get_terminal_size().columns
        rows = [cut(f"… {text}", columns - 1) for text in list(self._under_way.values())[:UNDER_WAY_SHOWN]]
        if len(self._under_way) > len(rows):
            rows.append(cut(f"… and {len(self._under_way) - len(rows)} more", columns - 1))
        self._rows = len(rows)
        above = "".join(self.dim(row) + "\r\n" for row in rows)
        prompt, editor = cut(self._prompt(), columns // 2), self._editor
        room = max(2, columns - width(prompt) - 1)
        start = 0
        while width(editor.text[start : editor.cursor]) > room:
            start += 1
        shown = cut(editor.text[start:], room)
        back = width(shown[editor.cursor - start :])
        self._write(above + prompt + shown + (f"\x1b[{back}D" if back else ""))

    # ---- typing

    def lines(self, prompt: Callable[[], str]) -> Iterator[str]:
        """Lines as they are typed, until end of file, Ctrl-D on an empty line, or `interrupt`."""
        if not self.interactive:
            yield from self._piped_lines()
            return
        self._prompt = prompt
        tty.setcbreak(self._source)
        with self._lock:
            self._typing = True
            self._draw()
        for key in self._keys():
            with self._lock:
                if key == EOF and not self._editor.text:
                    return
                line = self._editor.key(key)
                self._redraw()
            if line is not None:
                yield line
                with self._lock:
                    self._redraw()  # the prompt may be another one now

    def _keys(self) -> Iterator[str]:
        rest = ""
        for text in self._texts():
            keys, rest = split_keys(rest + text)
            yield from keys

    def _piped_lines(self) -> Iterator[str]:
        rest = ""
        for text in self._texts():
            *lines, rest = (rest + text).split("\n")
            yield from (line.removesuffix("\r") for line in lines)
        if rest:
            yield rest

    def _texts(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while not self._interrupted.is_set():
            if not select.select([self._source], [], [], POLL_SECONDS)[0]:
                continue
            data = os.read(self._source, READ_BYTES)
            if not data:
                return
            yield decoder.decode(data)

    def interrupt(self) -> None:
        """End `lines`, from any thread."""
        self._interrupted.set()

    def close(self) -> None:
        """Give the terminal back as it was."""
        with self._lock:
            if self._typing:
                self._write(self._erasure())
                self._typing = False
            if self._saved is not None:
                termios.tcsetattr(self._source, termios.TCSADRAIN, self._saved)
