"""A terminal with a line being typed at the bottom and messages appearing above it; or a plain pipe.

On a terminal, keys are read one by one and the bottom is redrawn after whatever is shown: what is still under way, a
status, and below it the line being typed. A line that was shown under a key can be changed where it stands. Wide
characters (Chinese, emoji) count two columns. In a pipe, lines are read as they are and what is shown is printed.
Reading waits in `select`, never in a read: under gevent, all else goes on meanwhile.
"""

from __future__ import annotations

import codecs
import os
import select
import shutil
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TextIO
from zlib import crc32

from cli.editor import EOF, Editor, cut, rows, split_keys, width

COLOURS = (31, 32, 33, 34, 35, 36)
POLL_SECONDS = 0.2
READ_BYTES = 65_536
UNDER_WAY_SHOWN = 3
"""Lines under way that are shown at most."""
REMEMBERED = 300
"""Lines that can be changed where they stand, as long as they are on the terminal."""


class _Line:
    """A line on the terminal."""

    __slots__ = ("key", "text")

    def __init__(self, key: object, text: str) -> None:
        self.key = key
        self.text = text


class Screen:
    """Where a chat is shown and typed. `interactive`: both ends are a terminal."""

    def __init__(
        self, source: TextIO, target: TextIO, interactive: bool | None = None,
        complete: Callable[[str], list[str]] = lambda before: [], typed: Callable[[str], None] = lambda text: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`complete`: see `Editor`; `typed` is called with the line being typed when that has become longer; `tick`
        several times a second."""
        self.interactive = source.isatty() and target.isatty() if interactive is None else interactive
        self._source = source.fileno()
        self._target = target
        self._lock = threading.RLock()
        self._editor = Editor(complete)
        self._typed = typed
        self._tick = tick
        self._shown: deque[_Line] = deque(maxlen=REMEMBERED)
        self._status = ""
        self._prompt: Callable[[], str] = lambda: ""
        self._typing = False
        self._under_way: dict[object, str] = {}
        self._rows = 0  # drawn above the line being typed
        self._interrupted = threading.Event()
        self._saved: Any = termios.tcgetattr(self._source) if self.interactive else None

    # ---- showing

    def show(self, text: str, key: object = None) -> None:
        """A line (or several) above what is under way. `key`: what it is known by when it changes."""
        with self._lock:
            try:
                lines = text.split("\n")
                self._shown.extend(_Line(key if len(lines) == 1 else None, line) for line in lines)
                if self._typing:
                    self._write(self._erasure() + "".join(line + "\r\n" for line in lines))
                    self._draw()
                else:
                    self._write(text + "\n")
            except BrokenPipeError:
                self.interrupt()  # whoever read has gone

    def change(self, key: object, text: str) -> bool:
        """What stands in the line of that name now; False when it cannot be seen any more (or never was)."""
        with self._lock:
            if not self._typing:
                return False
            size = shutil.get_terminal_size()
            below: list[_Line] = []
            height = self._rows
            for line in reversed(self._shown):
                below.append(line)
                height += rows(line.text, size.columns)
                if height >= size.lines:
                    return False
                if key is not None and line.key == key:
                    break
            else:
                return False
            line.text = text
            again = "".join(each.text + "\r\n" for each in reversed(below))
            self._write(f"\x1b[{height}A\r\x1b[J" + again)
            self._draw()
            return True

    def status(self, text: str) -> None:
        """What is going on, dim above the line being typed; "" for nothing. On a terminal only."""
        with self._lock:
            if text != self._status:
                self._status = text
                self._redraw()

    def under_way(self, key: object, text: str) -> None:
        """A line that is shown at the bottom until `settle`. On a terminal only."""
        with self._lock:
            self._under_way[key] = text
            self._redraw()

    def settle(self, key: object, text: str, name: object = None) -> None:
        """What was under way is done: `text` stands among the other lines now, known by `name`."""
        with self._lock:
            self._under_way.pop(key, None)
            self.show(text, name)

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

    def refresh(self) -> None:
        """The prompt may be another one now."""
        with self._lock:
            self._redraw()

    def _redraw(self) -> None:
        if self._typing:
            self._write(self._erasure())
            self._draw()

    def _draw(self) -> None:
        """The bottom: what is under way, and the line being typed."""
        columns = shutil.get_terminal_size().columns
        above = [f"… {text}" for text in list(self._under_way.values())[:UNDER_WAY_SHOWN]]
        if len(self._under_way) > len(above):
            above.append(f"… and {len(self._under_way) - len(above)} more")
        if self._status:
            above.append(self._status)
        self._rows = len(above)
        prompt, editor = cut(self._prompt(), columns // 2), self._editor
        room = max(2, columns - width(prompt) - 1)
        start = 0
        while width(editor.text[start : editor.cursor]) > room:
            start += 1
        shown = cut(editor.text[start:], room)
        back = width(shown[editor.cursor - start :])
        bottom = "".join(self.dim(cut(text, columns - 1)) + "\r\n" for text in above)
        self._write(bottom + prompt + shown + (f"\x1b[{back}D" if back else ""))

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
                before = len(self._editor.text)
                line = self._editor.key(key)
                self._redraw()
            if len(self._editor.text) > before:
                self._typed(self._editor.text)
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
            ready = select.select([self._source], [], [], POLL_SECONDS)[0]
            self._tick()
            if not ready:
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
