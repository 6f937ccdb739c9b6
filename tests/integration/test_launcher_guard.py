"""The guard of a daemon: exit codes, orphans, and a guard that is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh import directories, guard
from tests.integration.launching import PYTHON, SERVER, STUBBORN, is_running, pid_in, read
from tests.waiting import wait_until


@contextmanager
def guarded(run_dir: Path, command: list[str], stop_timeout: float = 5.0) -> Iterator[subprocess.Popen[bytes]]:
    shim = [sys.executable, "-I", "-S", guard.__file__, str(run_dir), str(stop_timeout)]
    with subprocess.Popen([*shim, *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def started(book: Path) -> int:
    return wait_until(lambda: pid_in(book), "the daemon notes its pid")


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(7)", 7), ("pass", 0), ("import os; os.kill(os.getpid(), 9)", 128 + 9)],
)
def test_the_exit_code_is_the_daemons(script: str, code: int, tmp_path: Path) -> None:
    with guarded(tmp_path, [*PYTHON, script]) as process:
        assert process.wait(10) == code


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with guarded(tmp_path, ["/no/such/server"]) as process:
        assert process.wait(10) == guard.NOT_STARTED
        assert process.stderr is not None
        assert process.stderr.read() == b"/no/such/server: No such file or directory\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_gently(number: int, tmp_path: Path) -> None:
    book = tmp_path / "book"
    with guarded(tmp_path, [*PYTHON, SERVER, str(book)]) as process:
        pid = started(book)
        process.send_signal(number)
        assert process.wait(10) == 3
    assert read(book)[-1] == "daemon stops"
    assert not is_running(pid)


def test_a_daemon_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    book = tmp_path / "book"
    with guarded(tmp_path, [*PYTHON, STUBBORN, str(book)], stop_timeout=0.2) as process:
        started(book)
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGKILL


def test_an_orphan_outlives_the_node_processes_only(tmp_path: Path) -> None:
    book = tmp_path / "book"
    node = os.open(tmp_path / "alive", os.O_RDWR | os.O_CREAT)
    fcntl.flock(node, fcntl.LOCK_SH)
    with guarded(tmp_path, [*PYTHON, SERVER, str(book)]) as process:
        pid = started(book)
        assert process.stdin is not None
        process.stdin.close()  # the launcher is dead
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert is_running(pid)
        assert directories.still_running(tmp_path)
        os.close(node)
        assert process.wait(2) == 3
    assert not directories.still_running(tmp_path)


def test_an_orphan_without_node_processes_ends_at_once(tmp_path: Path) -> None:
    book = tmp_path / "book"
    with guarded(tmp_path, [*PYTHON, SERVER, str(book)]) as process:
        started(book)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(2) == 3


def test_an_orphan_does_not_wait_for_ever(tmp_path: Path) -> None:
    book = tmp_path / "book"
    node = os.open(tmp_path / "alive", os.O_RDWR | os.O_CREAT)
    fcntl.flock(node, fcntl.LOCK_SH)
    with guarded(tmp_path, [*PYTHON, SERVER, str(book)]) as process:
        started(book)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(guard.ORPHAN_SECONDS + 2) == 3
    os.close(node)


def test_the_daemon_dies_with_its_guard(tmp_path: Path) -> None:
    book = tmp_path / "book"
    with guarded(tmp_path, [*PYTHON, STUBBORN, str(book)]) as process:
        pid = started(book)
        process.kill()
        wait_until(lambda: not is_running(pid), "the daemon is gone")


def test_the_daemon_inherits_nothing(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = (
        "import os, signal, sys\n"
        "fds = [fd for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "ignored = [n for n in (signal.SIGPIPE, signal.SIGTERM) if signal.getsignal(n) is signal.SIG_IGN]\n"
        "print(fds, os.readlink('/proc/self/fd/0'), file=open(sys.argv[1], 'w'))"
    )
    with guarded(tmp_path, [*PYTHON, script, str(book)]) as process:
        assert process.wait(10) == 0
    assert read(book) == ["[] /dev/null"]
