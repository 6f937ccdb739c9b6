"""Short slices of a core for threads that somebody waits for.

Where more threads can run than there are cores, Linux lets each run for a slice, and whoever wakes up may wait for what
is left of another's. A thread with shorter slices than the one that runs need not: it cuts in. It gets no more of the
core for that, so nobody starves. (Linux 6.12 or later; before that the wish is without effect.)

    python -I -S mesh/slices.py COMMAND…     becomes COMMAND, with short slices
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from typing import NamedTuple

SHORT_NS = 100_000
"""The shortest slice that Linux gives."""
NOT_STARTED = 127
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""Numbers of sched_setattr and sched_getattr, which not every C library knows."""
_ATTRIBUTES = struct.Struct("IIQiIQQQII")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime (here: the slice), deadline, period, 2 clamps."""
_RESET_ON_FORK = 1


class Slices(NamedTuple):
    """How a thread is scheduled. `ns` is 0 where the system does not tell; `reset`: what it starts has it not."""

    ns: int
    reset: bool


def shorten() -> bool:
    """Ask for short slices for this thread; whether the system takes that. Neither threads that it starts nor processes
    have them: those work on their own. Left alone is who has another policy than usual, or a niceness below 0, which
    would not be inherited any more."""
    attributes = bytearray(_ATTRIBUTES.size)
    if not _call(1, 0, attributes):
        return False
    size, policy, flags, nice, priority, ns, *rest = _ATTRIBUTES.unpack(attributes)
    if not ns or nice < 0 or policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return False
    _ATTRIBUTES.pack_into(attributes, 0, size, policy, flags | _RESET_ON_FORK, nice, priority, SHORT_NS, *rest)
    return _call(0, 0, attributes)


def slices_of(thread: int) -> Slices:
    """Of a thread, or of the first one of a process."""
    attributes = bytearray(_ATTRIBUTES.size)
    if not _call(1, thread, attributes):
        return Slices(0, False)
    _, _, flags, _, _, ns, *_ = _ATTRIBUTES.unpack(attributes)
    return Slices(ns, bool(flags & _RESET_ON_FORK))


def _call(which: int, thread: int, attributes: bytearray) -> bool:
    """sched_setattr (0) or sched_getattr (1); False where it fails or is not there."""
    numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if numbers is None:
        return False
    struct.pack_into("I", attributes, 0, len(attributes))
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    rest = (len(attributes), 0) if which else (0,)
    return bool(ctypes.CDLL(None).syscall(numbers[which], thread, buffer, *rest) == 0)


def become(command: list[str]) -> int:
    """Run a command in the place of this process; returns only when it cannot be."""
    shorten()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    return NOT_STARTED


if __name__ == "__main__":
    sys.exit(become(sys.argv[1:]))
