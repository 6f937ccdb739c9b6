"""Small real children for tests of the launcher: scripts, processes, and who is left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PYTHON = [sys.executable, "-I", "-S", "-c"]
"""Starts in 10 ms."""

SERVER = """
import os, signal, sys
book = sys.argv[1]
def note(word):
    with open(book, "a") as file:
        file.write(word + "\\n")
def end(*_):
    note("daemon stops")
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
note(f"daemon {os.getpid()}")
while True:
    signal.pause()
"""
"""A daemon: notes its pid and its end in a file, and exits with 3 on SIGTERM."""

STUBBORN = SERVER.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
"""A daemon that does not listen."""


def read(path: Path) -> list[str]:
    """Lines of a file that may not be there yet."""
    return path.read_text().splitlines() if path.exists() else []


def pid_in(path: Path) -> int:
    """The pid that `SERVER` noted last; 0 before."""
    return next((int(line.split()[1]) for line in reversed(read(path)) if line.split()[1].isdigit()), 0)


def is_running(pid: int) -> bool:
    """Whether a process lives: a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def children_of(pid: int) -> list[int]:
    """Pids of the children of a process, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except FileNotFoundError:
                continue
            if int(parent) == pid:
                found.append(int(entry.name))
    return found


def open_descriptors() -> set[str]:
    """Descriptors of this process."""
    return set(os.listdir("/proc/self/fd"))
