"""Runs one daemon for the launcher and outlives the launcher only to end it:

    python -I -S mesh/guard.py RUN_DIR STOP_TIMEOUT COMMAND…      (stdin: a pipe that the launcher holds)

- SIGTERM or SIGINT: SIGTERM to the daemon, SIGKILL after STOP_TIMEOUT seconds. The exit code is the daemon's, 128 + n
  for signal n.
- End of stdin: the launcher is dead. The daemon goes on until the node processes have ended (they hold a shared lock
  on RUN_DIR/alive), `ORPHAN_SECONDS` at most, and is then stopped as above.
- The daemon dies with the guard (PR_SET_PDEATHSIG). The guard holds a shared lock on RUN_DIR/daemons meanwhile, so that
  the next launcher can wait for it.

Started as a file and without site packages, because it stays in memory: only light modules of the standard library.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

ALIVE, DAEMONS = "alive", "daemons"
"""Lock files in the run directory: held by node processes, held by guards."""
ORPHAN_SECONDS = 5.0
"""How long a daemon goes on without a launcher."""
POLL_SECONDS = 0.05
"""Between looks at the node processes' lock, once the launcher is dead."""
NOT_STARTED = 127
PR_SET_PDEATHSIG = 1


class Guard:
    """A running daemon."""

    def __init__(self, run_dir: str, stop_timeout: float, command: list[str]) -> None:
        self._alive = os.path.join(run_dir, ALIVE)
        self._stop_timeout = stop_timeout
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._stop_asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake `_wait`
        self._pid = _start(command)
        self._code: int | None = None

    def _ask_stop(self, *_: object) -> None:
        self._stop_asked = True

    def run(self) -> int:
        """Until the daemon has ended; its exit code."""
        orphan_limit = None
        while not self._ended() and not self._stop_asked:
            if orphan_limit is None:
                if self._wait(None, launcher=True):
                    orphan_limit = time.monotonic() + ORPHAN_SECONDS
            elif time.monotonic() > orphan_limit or self._nodes_ended():
                break
            else:
                self._wait(POLL_SECONDS)
        return self._stop()

    def _stop(self) -> int:
        """SIGTERM, patience, SIGKILL; the exit code."""
        if not self._ended():
            os.kill(self._pid, signal.SIGTERM)
            limit = time.monotonic() + self._stop_timeout
            while not self._ended() and time.monotonic() < limit:
                self._wait(limit - time.monotonic())
            if not self._ended():
                os.kill(self._pid, signal.SIGKILL)
            while not self._ended():
                self._wait(None)
        return self._code if self._code is not None else NOT_STARTED

    def _ended(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code
        return self._code is not None

    def _wait(self, seconds: float | None, launcher: bool = False) -> bool:
        """Until a signal, or with `launcher` the launcher's death; whether it is that."""
        waited_for = [self._wake, 0] if launcher else [self._wake]
        readable, _, _ = select.select(waited_for, [], [], None if seconds is None else max(seconds, 0.0))
        if self._wake in readable:
            os.read(self._wake, 512)
        return 0 in readable

    def _nodes_ended(self) -> bool:
        lock = os.open(self._alive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True


def _start(command: list[str]) -> int:
    """Fork and exec; the pid."""
    guard = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it died before the call
            os._exit(NOT_STARTED)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def main(arguments: Sequence[str]) -> NoReturn:
    """See the head of this file."""
    run_dir, stop_timeout, *command = arguments
    lock = os.open(os.path.join(run_dir, DAEMONS), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    sys.exit(Guard(run_dir, float(stop_timeout), command).run())


if __name__ == "__main__":
    main(sys.argv[1:])
