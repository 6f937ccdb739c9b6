"""What the loads run against: imesh and its peers, started by the benchmark itself and pinned to the servers' core."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.dialects import Dialect
from bench.measure import SERVER_CORES, Clock, descendants, pin, rss_bytes

START_SECONDS = 60.0
STOP_SECONDS = 20.0
HOST = "127.0.0.1"
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""Before a command: the kernel ends it when the benchmark is killed."""


class System:
    """A running system: a context. What its processes are called is its own matter."""

    name: str
    dialect: Dialect
    store = ""
    """The group of processes that is the store, "" when it is a part of the others."""

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        raise NotImplementedError

    def groups(self) -> dict[str, list[int]]:
        """Pids of all its processes, by what they do."""
        raise NotImplementedError

    def is_behind(self) -> bool:
        """Whether it still works on what it has acknowledged and delivered."""
        return False

    def clock(self, **others: int) -> Clock:
        """Starts a clock of all processes, and of `others` by name."""
        return Clock({**self.groups(), **{name: [pid] for name, pid in others.items()}})

    def memory(self) -> dict[str, int]:
        """Resident bytes by group of processes."""
        return {name: sum(map(rss_bytes, pids)) for name, pids in self.groups().items()}


class Private(System):
    """A peer: private processes on free loopback ports with everything they write in a temporary directory."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"imesh-bench-{self.name.split()[0]}-"))
        self.port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all processes and wait until they serve."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def groups(self) -> dict[str, list[int]]:
        return {name: descendants(process.pid) for name, process in self._processes.items()}

    def run(self, group: str, command: list[str], ready: Callable[[], bool], **environment: str) -> None:
        """Start a process, pinned, and wait until it is `ready`. Raises `RuntimeError` with what it wrote."""
        log = self.directory / f"{group}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*_ENDS_WITH_US, *command], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env={**os.environ, **environment},
            )  # fmt: skip
        self._processes[group] = process
        pin(process.pid, SERVER_CORES)
        wait_for(lambda: process.poll() is not None or ready(), f"{command[0]} to serve", log)
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{log.read_text(errors='replace')}")
        for pid in descendants(process.pid):
            pin(pid, SERVER_CORES)

    def close(self) -> None:
        """Stop everything, the last started first, and remove the directory."""
        for process in reversed(self._processes.values()):
            below = descendants(process.pid)
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pid in below[1:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self._processes.clear()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((HOST, port), 0.5).close()
    except OSError:
        return False
    return True


def wait_for(done: Callable[[], bool], what: str, log: Path | None = None) -> None:
    """Raises `RuntimeError` when it takes too long."""
    limit = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > limit:
            said = log.read_text(errors="replace") if log is not None else ""
            raise RuntimeError(f"waited {START_SECONDS:g} s for {what}\n{said}")
        time.sleep(0.05)


def version(*command: str) -> str:
    """The first line that a command says of itself."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().splitlines()[0]


def package_version(name: str) -> str:
    """Of a Debian package, with its name; only the name where there is no dpkg."""
    command = ["dpkg-query", "-W", "-f", "${Version}", name]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{name} {found.stdout}".strip()
