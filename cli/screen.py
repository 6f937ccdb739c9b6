"""A terminal with a line being typed at the bottom and messages appearing above it; or a plain pipe.

On a terminal, keys are read one by one and the line is redrawn after whatever is shown. Wide characters (Chinese,
emoji) count two columns. In a pipe, lines are read as they are and what is shown is printed.
"""

from __future__ import annotations

import codecs
import os
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
ENTER, BACKSPACE, DELETE_WORD, DELETE_LINE, HOME, END, EOF = "\r\n", "\x7f\b", "\x17", "\x15", "\x01", "\x05", "\x04"
ESCAPES = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "[H": "home", "[F": "end", "[3~": "delete"}


class Editor:
    """The line being typed, without any terminal: keys in, text and cursor out."""

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._past: list[str] = []
        self._at = 0

    def key(self, key: str) -> str | None:
        """Take a key (a character, or the name of an escape sequence); the line when it was Enter."""
        if key in ENTER:
            line, self.text, self.cursor = self.text, "", 0
            if line:
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
        elif len(key) == 1 and key.isprintable():
            self.text = self.text[: self.cursor] + key + self.text[self.cursor :]
            self.cursor += 1
        return None

    def _cut(self, start: int) -> None:
        self.text = self.text[:start] + self.text[self.cursor :]
        self.cursor = start

    def _recall(self, step: int) -> None:
        self._at = min(max(self._at + step, 0), len(self._past))
        self.text = self._past[self._at] if self._at < len(self._past) else ""
        self.cursor = len(self.text)


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


class Screen:
    """Where a chat is shown and typed."""

    def __init__(self, source: TextIO, target: TextIO) -> None:
        self.interactive = source.isatty() and target.isatty()
        self._source = source
        self._target = target
        self._lock = threading.RLock()
        self._editor = Editor()
        self._prompt: Callable[[], str] = lambda: ""
        self._typing = False
        self._interrupted = threading.Event()
        self._saved: Any = termios.tcgetattr(source.fileno()) if self.interactive else None

    # ---- showing

    def show(self, text: str) -> None:
        """A line above the one being typed."""
        with self._lock:
            if self._typing:
                self._write("\r\x1b[J" + text + "\r\n")
                self._draw()
            else:
                self._write(text + "\n")

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.interactive else text

    def colour(self, name: str) -> str:
        """A name in its own colour."""
        return f"\x1b[{COLOURS[crc32(name.encode()) % len(COLOURS)]}m{name}\x1b[0m" if self.interactive else name

    @staticmethod
    def harmless(text: str) -> str:
        """Somebody else's text, unable to command the terminal."""
        return "".join(c if c.isprintable() else " " for c in text)

    def _write(self, text: str) -> None:
        self._target.write(text)
        self._target.flush()

    def _draw(self) -> None:
        prompt, editor = self._prompt(), self._editor
        columns = shutil.get_terminal_size().columns
        room = max(10, columns - width(prompt) - 1)
        start = 0
        while width(editor.text[start : editor.cursor]) > room:
            start += 1
        end = len(editor.text)
        while width(editor.text[start:end]) > room:
            end -= 1
        back = width(editor.text[editor.cursor : end])
        self._write("\r\x1b[J" + prompt + editor.text[start:end] + (f"\x1b[{back}D" if back else ""))

    # ---- typing

    def lines(self, prompt: Callable[[], str]) -> Iterator[str]:
        """Lines as they are typed, until end of file, Ctrl-D on an empty line, or `interrupt`."""
        if not self.interactive:
            yield from self._source
            return
        self._prompt = prompt
        tty.setcbreak(self._source.fileno())
        with self._lock:
            self._typing = True
            self._draw()
        for key in self._keys():
            with self._lock:
                if key == EOF and not self._editor.text:
                    return
                line = self._editor.key(key)
                if line is not None:
                    self._write("\r\x1b[J")
                self._draw()
            if line is not None:
                yield line

    def _keys(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        descriptor = self._source.fileno()
        while not self._interrupted.is_set():
            if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
                continue
            data = os.read(descriptor, 1024)
            if not data:
                return
            yield from split_keys(decoder.decode(data))

    def interrupt(self) -> None:
        """End `lines`, from any thread."""
        self._interrupted.set()

    def close(self) -> None:
        """Give the terminal back as it was."""
        with self._lock:
            if self._typing:
                self._typing = False
                self._write("\r\x1b[J")
            if self._saved is not None:
                termios.tcsetattr(self._source.fileno(), termios.TCSADRAIN, self._saved)


def split_keys(text: str) -> Iterator[str]:
    """Characters, and escape sequences as their names; unknown sequences are left out."""
    i = 0
    while i < len(text):
        if text[i] != "\x1b":
            yield text[i]
            i += 1
            continue
        for sequence, name in ESCAPES.items():
            if text.startswith(sequence, i + 1):
                yield name
                i += 1 + len(sequence)
                break
        else:
            i += 2

