"""Lines that change where they stand, on a terminal that is only as real as this needs."""

from __future__ import annotations

import os
import pty
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.editor import width
from cli.screen import Screen
from tests.waiting import wait_until

COLUMNS, LINES = 20, 8
TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|(.)", re.DOTALL)


class Glass:
    """What is seen: lines wrap at the edge, and the top scrolls away."""

    def __init__(self) -> None:
        self.rows = [""]
        self.row = self.column = 0

    def write(self, text: str) -> int:
        for count, command, character in TOKEN.findall(text):
            if command == "A":
                self.row = max(self.row - int(count or 1), 0, len(self.rows) - LINES)
            elif command == "D":
                self.column -= int(count or 1)
            elif command == "J":
                self.rows = [*self.rows[: self.row], self._left()]
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self._down()
            elif character:
                self._put(character)
        return len(text)

    def _left(self) -> str:
        text = self.rows[self.row]
        while width(text) > self.column:
            text = text[:-1]
        return text

    def _put(self, character: str) -> None:
        if self.column + width(character) > COLUMNS:
            self.column = 0
            self._down()
        self.rows[self.row] = self._left() + character
        self.column += width(character)

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return "".join(self.rows)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Screen, Glass]]:
    """A screen that is being typed on, with "> " as its prompt."""
    monkeypatch.setattr("cli.screen.shutil.get_terminal_size", lambda: os.terminal_size((COLUMNS, LINES)))
    master, slave = pty.openpty()
    glass = Glass()
    with os.fdopen(slave, "r") as source:
        screen = Screen(source, glass, True)  # type: ignore[arg-type]

        def enter() -> None:
            wait_until(lambda: "> " in glass.text, "the prompt")  # what is typed before it is thrown away
            os.write(master, b"\r")

        gevent.spawn(enter)
        assert next(screen.lines(lambda: "> ")) == ""
        try:
            yield screen, glass
        finally:
            screen.close()
            os.close(master)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[\d*m", "", text)


def test_a_line_is_changed_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as (screen, glass):
        for n in range(3):
            screen.show(f"line {n}", n)
        screen.status("somebody is typing")
        assert screen.change(1, "你好" * 6)  # takes two rows
        assert glass.rows == ["line 0", "你好" * 5, "你好", "line 2", "somebody is typing"[:19], "> "]
        assert screen.change(1, "short")
        screen.status("")
        assert glass.rows == ["line 0", "short", "line 2", "> "]
        assert not screen.change(7, "never shown")


def test_what_has_scrolled_away_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as (screen, glass):
        for n in range(10):
            screen.show(f"line {n}", n)
        assert not screen.change(2, "gone")
        assert screen.change(3, "top")
        assert glass.rows[-LINES:] == ["top", *(f"line {n}" for n in range(4, 10)), "> "]


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_whatever_changes_the_terminal_shows_what_is_so(seed: int) -> None:
    rng = random.Random(seed)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch, terminal(monkeypatch) as (screen, glass):
        status = ""
        for _ in range(25):
            text = "".join(rng.choices(["a", "b", " ", "你", "e\u0301"], k=rng.randrange(1, 45)))
            match rng.randrange(4):
                case 0 | 1:
                    screen.show(screen.dim(text), len(lines))
                    lines.append(text)
                case 2 if lines:
                    which = rng.randrange(len(lines))
                    if screen.change(which, text):
                        lines[which] = text
                case 3:
                    status = rng.choice(["", "typing"])
                    screen.status(status)
        whole = "".join(lines) + status + "> "
        visible = "".join(glass.rows[-LINES:])
        assert whole.endswith(visible)
