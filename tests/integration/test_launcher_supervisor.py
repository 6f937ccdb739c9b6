"""Supervision of small real processes."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from mesh.supervisor import DAEMON_TRIES, Child, Supervisor
from tests.integration.launching import PYTHON, SERVER, children_of, is_running, open_descriptors, pid_in, read
from tests.waiting import wait_until

READY = "import os, signal, sys, time\nos.write(int(sys.argv[-1]), b'ready\\n')\n"
NODE = (
    READY
    + """
def end(*_):
    with open(sys.argv[1], "a") as book:
        book.write("node stops\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with open(sys.argv[1], "a") as book:
    book.write(f"node {os.getpid()}\\n")
while True:
    signal.pause()
"""
)
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "signal.pause()"


def node(script: str, *arguments: object, name: str = "node-1", stop_seconds: float = 5.0) -> Child:
    return Child(name, [*PYTHON, script, *map(str, arguments)], stop_seconds=stop_seconds)


def daemon(script: str, *arguments: object, ready: Callable[[], bool]) -> Child:
    return Child("server", [*PYTHON, script, *map(str, arguments)], ready=ready, stop_seconds=5.0)


class Run:
    """A supervisor at work."""

    def __init__(self, *children: Child) -> None:
        self.lines: list[str] = []
        self.ready: list[float] = []
        self.before = open_descriptors()
        self.others = set(children_of(os.getpid()))  # systems that other tests share
        self.supervisor = Supervisor(children, self.lines.append, self.ready.append)
        self.greenlet = gevent.spawn(self.supervisor.run)

    def until_ready(self) -> None:
        wait_until(lambda: self.ready, "all are ready")

    def end(self) -> Any:
        """Its exit code; no child and no descriptor may be left."""
        code = self.greenlet.get(timeout=20)
        assert not [pid for pid in children_of(os.getpid()) if is_running(pid) and pid not in self.others]
        assert not [child for child in self.supervisor.children if child.running]
        wait_until(lambda: open_descriptors() <= self.before, "all descriptors are closed")
        return code


def test_ready_and_stopped_in_order(tmp_path: Path) -> None:
    book = tmp_path / "book"
    run = Run(daemon(SERVER, book, ready=lambda: any("daemon" in line for line in read(book))), node(NODE, book))
    run.until_ready()
    wait_until(lambda: len(read(book)) == 2, "both have started")
    run.supervisor.stop()
    assert run.end() == 0
    assert read(book)[2:] == ["node stops", "daemon stops"]
    assert len(run.ready) == 1
    assert sorted(line.split()[0] for line in run.lines) == ["node-1", "server"]


def test_not_ready_before_all_are(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    book = tmp_path / "book"
    run = Run(daemon(SERVER, book, ready=gate.exists), node(NODE, book))
    wait_until(lambda: run.supervisor.children[1].ready, "the node is ready")
    assert run.ready == []
    gate.touch()
    run.until_ready()
    run.supervisor.stop()
    assert run.end() == 0


def test_a_child_that_ends_is_started_again(tmp_path: Path) -> None:
    book = tmp_path / "book"
    run = Run(node(NODE, book))
    first = wait_until(lambda: pid_in(book), "it starts")
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: pid_in(book) not in (0, first) and pid_in(book), "it starts again")
    assert is_running(second)
    wait_until(lambda: run.supervisor.children[0].ready, "it is ready again")
    run.supervisor.stop()
    assert run.end() == 0
    assert len(run.ready) == 1


def test_restarts_take_longer_each_time(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = "import sys, time\nprint(time.monotonic(), file=open(sys.argv[1], 'a'))\nsys.exit(1)"
    run = Run(node(script, book))
    wait_until(lambda: len(read(book)) == 4, "four starts")
    run.supervisor.stop()
    assert run.end() == 0
    times = [float(line) for line in read(book)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] >= 0.1
    assert pauses[1] >= 0.2
    assert pauses[2] >= 0.4


def test_a_topology_that_cannot_work_stops_everything(tmp_path: Path) -> None:
    book = tmp_path / "book"
    run = Run(node(NODE, book), node("raise SystemExit(2)", name="core-1"))
    assert run.end() == 2
    assert run.lines[-1] == "core-1 cannot run with this topology (see above); everything stops"


def test_once_all_were_ready_a_wrong_topology_stops_nobody(tmp_path: Path) -> None:
    # Somebody edits the file while the system runs, and a process happens to end.
    book = tmp_path / "book"
    script = (
        READY
        + "print(file=open(sys.argv[1], 'a'))\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.01)\nsys.exit(2)"
    )
    run = Run(node(script, book, tmp_path / "go"))
    run.until_ready()
    (tmp_path / "go").touch()
    wait_until(lambda: len(read(book)) >= 3, "it is started again")
    run.supervisor.stop()
    assert run.end() == 0


def test_a_daemon_that_never_starts(tmp_path: Path) -> None:
    book = tmp_path / "book"
    run = Run(daemon("raise SystemExit(9)", ready=lambda: False), node(NODE, book))
    assert run.end() == 1
    assert run.supervisor.children[0].starts == DAEMON_TRIES
    assert run.lines[-1] == "server did not start, 3 times (exit: 9); everything stops"


def test_a_program_that_is_not_there() -> None:
    run = Run(Child("server", ["/no/such/server"], ready=lambda: False, stop_seconds=1.0))
    assert run.end() == 1
    assert run.lines == ["server did not start, 3 times (exit: 127); everything stops"]


def test_a_child_that_does_not_listen_is_killed() -> None:
    run = Run(node(DEAF, stop_seconds=0.0))  # only the margin is left
    run.until_ready()
    run.supervisor.stop()
    assert run.end() == 0


def test_the_second_stop_is_at_once(tmp_path: Path) -> None:
    book = tmp_path / "book"
    run = Run(node(DEAF, stop_seconds=60.0), daemon(SERVER, book, ready=lambda: bool(read(book))))
    run.until_ready()
    run.supervisor.stop()
    gevent.idle()
    started = time.monotonic()
    run.supervisor.stop()
    assert run.end() == 0
    assert time.monotonic() - started < 5.0


def test_children_inherit_nothing_but_their_own(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = (
        READY
        + "fds = [fd for fd in range(3, 99) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        + "print(fds == [int(sys.argv[-1])], os.getsid(0) == os.getpid(), file=open(sys.argv[1], 'w'))\nsignal.pause()"
    )
    run = Run(*(node(script, f"{book}{i}", name=f"node-{i}") for i in range(4)))
    run.until_ready()
    wait_until(lambda: all(read(Path(f"{book}{i}")) for i in range(4)), "all have looked")
    assert [read(Path(f"{book}{i}")) for i in range(4)] == [["True True"]] * 4
    run.supervisor.stop()
    assert run.end() == 0


@pytest.mark.parametrize("after", ["spawn", "start"])
def test_a_stop_in_the_middle_of_the_start(after: str, tmp_path: Path) -> None:
    run = Run(*(node(NODE, tmp_path / "book", name=f"node-{i}") for i in range(3)))
    if after == "start":
        wait_until(lambda: any(child.starts for child in run.supervisor.children), "one is being started")
    else:
        gevent.idle()
    run.supervisor.stop()
    assert run.end() == 0
