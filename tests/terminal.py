"""`imesh chat` run by tests: in a pipe, and in a terminal that the test types into."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client.client import Client
from tests.system import System
from tests.waiting import wait_until

ROWS, COLUMNS = 24, 60


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mesh", "chat", *arguments]


def piped(system: System, *arguments: str, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    host, port = system.address()
    whole = command(*arguments, "--server", f"{host}:{port}")
    return subprocess.run(whole, input=stdin, capture_output=True, text=True, timeout=40, **options)


def client(system: System, user: str, **options: Any) -> Client:
    host, port = system.address()
    return Client(f"{host}:{port}", user, **options).connect()


def own_the_terminal() -> None:
    """In the child: Ctrl-C on its standard input is meant for it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A chat in a terminal; `text` is all that it wrote."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command(*arguments), stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_the_terminal
        )
        os.close(slave)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def saw(self, text: str) -> bool:
        while select.select([self._master], [], [], 0)[0]:
            try:
                self.text += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                break  # the other end is closed
        return text in self.text

    def expect(self, text: str, seconds: float = 10.0) -> None:
        """Wait until `text` was written since the last `expect`, and forget what stands before its end."""
        try:
            wait_until(lambda: self.saw(text), f"{text!r} on the terminal", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is {self.text!r}") from None
        self.text = self.text.partition(text)[2]

    def ended(self) -> int:
        wait_until(lambda: self.saw("") and self.process.poll() is not None, "the end of the chat", 20)
        return int(self.process.returncode)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._master)


@contextmanager
def terminal(system: System, *arguments: str) -> Iterator[Terminal]:
    host, port = system.address()
    found = Terminal(*arguments, "--server", f"{host}:{port}")
    try:
        yield found
    finally:
        found.close()
