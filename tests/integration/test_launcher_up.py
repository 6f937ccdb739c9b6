"""`imesh up` as users run it, with a small mesh of its own and a daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.launching import SERVER, children_of, is_running, pid_in, read
from tests.waiting import wait_until

TOPOLOGY = """
[mesh]
package = "launched_nodes"
stats = "127.0.0.1:0"
heartbeat = 0.02
lost_after = 1.0
[process.front]
nodes = ["front"]
[process.back]
nodes = ["back"]
count = 2
[database]
fail = false
"""
BACK = """
import sys
from pathlib import Path
from typing import Protocol
import msgspec
from mesh.contract import call, contract
from mesh.daemon import Daemon
from mesh.node import Node

@contract
class Adder(Protocol):
    @call(timeout=2.0, idempotent=True)
    def add(self, a: int, b: int) -> int: ...

class Database(msgspec.Struct, frozen=True):
    fail: bool = False
    @classmethod
    def daemons(cls, settings, data_dir, run_dir):
        book = data_dir / "book"
        script = (Path(__file__).parent / "server.py").read_text()
        command = [sys.executable, "-I", "-S", "-c", "raise SystemExit(4)" if settings.fail else script, str(book)]
        return [Daemon("database", command, ready=book.exists)]

class Back(Node, Adder):
    sections = {"database": Database}
    def add(self, a: int, b: int) -> int:
        return a + b
"""
FRONT = """
import msgspec
from mesh.errors import ConfigError
from mesh.node import Node
from launched_nodes.back import Adder

class Settings(msgspec.Struct, frozen=True):
    broken: bool = False

class Front(Node):
    Settings = Settings
    back: Adder
    def start(self) -> None:
        if self.settings.broken:
            raise ConfigError("the front is broken")
    @classmethod
    def banner(cls, settings):
        return ["the front is open"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a topology and its nodes."""
    package = tmp_path / "launched_nodes"
    package.mkdir()
    for name, text in (("__init__", ""), ("back", BACK), ("front", FRONT), ("server", SERVER)):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "topology.toml").write_text(TOPOLOGY)
    return tmp_path


class Up:
    """A running `imesh up`, its output in a file."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.home = home
        self.output = home / f"output-{len(list(home.glob('output-*')))}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "up", *arguments], cwd=home, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, env={**os.environ, **environment},
            )  # fmt: skip
        self.left: list[int] = []

    def until_ready(self) -> None:
        wait_until(lambda: "ready after" in self.text() or self.process.poll() is not None, "ready", 20)
        assert self.process.poll() is None, self.text()
        self.left = children_of(self.process.pid)

    def text(self) -> str:
        return self.output.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal; nobody may be left."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert not [pid for pid in self.left if is_running(pid)], self.text()
        return code


@pytest.fixture
def ups(home: Path) -> Iterator[list[Up]]:
    running: list[Up] = []
    yield running
    for up in running:
        left = children_of(up.process.pid)
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
        wait_until(lambda left=left + up.left: not any(map(is_running, left)), "all have ended", 20)  # type: ignore[misc]


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh", *arguments], cwd=home, capture_output=True, text=True, timeout=30
    )


def test_a_mesh_comes_up_answers_and_stops(home: Path, ups: list[Up]) -> None:
    up = Up(home)
    ups.append(up)
    up.until_ready()
    assert len(up.left) == 4
    text = up.text()
    for words in ("front-1    pid", "back-2     pid", "database   pid", "the front is open", "imesh status"):
        assert words in text
    called = command(home, "call", "back.add", "1", "2")
    assert (called.stdout, called.returncode) == ("3\n", 0), called.stderr
    status = command(home, "status", "--json")
    assert status.returncode == 0
    assert {name: about["state"] for name, about in json.loads(status.stdout).items()} == dict.fromkeys(
        ("front-1", "back-1", "back-2"), "serving"
    )
    assert up.end() == 0
    assert read(home / "data" / "book")[-1] == "daemon stops"
    assert command(home, "status").returncode == 1


def test_a_process_serves_when_its_nodes_do(home: Path, ups: list[Up]) -> None:
    """A broker that does not listen yet is no broker."""
    front = home / "launched_nodes" / "front.py"
    waiting = """
    def serve(self):
        import time
        from pathlib import Path
        while not Path("may-serve").exists():
            time.sleep(0.01)
"""
    front.write_text(FRONT + waiting)
    up = Up(home)
    ups.append(up)

    def states() -> dict[str, str]:
        found = json.loads(command(home, "status", "--json").stdout or "{}")  # nothing before there is a mesh
        return {name: about["state"] for name, about in found.items()}

    rest = dict.fromkeys(("back-1", "back-2"), "serving")
    wait_until(lambda: states() == {"front-1": "starting", **rest}, "the front is starting", 20)
    assert command(home, "status").returncode == 1
    (home / "may-serve").touch()
    up.until_ready()
    assert states() == {"front-1": "serving", **rest}
    assert up.end() == 0


@pytest.mark.parametrize("when", ["start", "serve"])
def test_what_does_not_come_up_can_be_stopped(home: Path, ups: list[Up], when: str) -> None:
    """A node that waits for ever, for a store that is down perhaps."""
    waiting = f"""
    def {when}(self):
        import time
        from pathlib import Path
        Path("waits").touch()
        time.sleep(1e6)
"""
    (home / "launched_nodes" / "front.py").write_text(FRONT + waiting)
    up = Up(home)
    ups.append(up)
    wait_until((home / "waits").exists, "the front to wait", 20)
    up.left = children_of(up.process.pid)
    assert up.end() == 0
    assert "killed" not in up.text() and "Traceback" not in up.text()


def test_ctrl_c_stops_in_order(home: Path, ups: list[Up]) -> None:
    up = Up(home)
    ups.append(up)
    up.until_ready()
    assert up.end(signal.SIGINT) == 0
    assert "Traceback" not in up.text()
    assert "killed" not in up.text()


def test_a_second_launcher_is_refused(home: Path, ups: list[Up]) -> None:
    up = Up(home)
    ups.append(up)
    up.until_ready()
    second = command(home, "up")
    assert second.returncode == 1
    assert f"pid {up.process.pid} already runs on {home / 'data'}" in second.stderr
    assert up.end() == 0


def test_a_killed_launcher_leaves_nobody_and_another_follows(home: Path, ups: list[Up]) -> None:
    up = Up(home)
    ups.append(up)
    up.until_ready()
    database = pid_in(home / "data" / "book")
    up.process.kill()
    up.process.wait()
    other = Up(home)  # at once: it has to wait for what drains
    ups.append(other)
    other.until_ready()
    assert not any(map(is_running, [database, *up.left]))
    assert pid_in(home / "data" / "book") not in (0, database)
    book = read(home / "data" / "book")
    assert [line.split()[1].isdigit() for line in book] == [True, False, True]  # one after the other
    assert other.end() == 0


def test_a_killed_process_and_a_killed_daemon_come_again(home: Path, ups: list[Up]) -> None:
    up = Up(home)
    ups.append(up)
    up.until_ready()
    database = pid_in(home / "data" / "book")
    os.kill(database, signal.SIGKILL)
    front = next(int(line.split()[2]) for line in up.text().splitlines() if line.startswith("  front-1"))
    os.kill(front, signal.SIGKILL)
    wait_until(lambda: pid_in(home / "data" / "book") != database, "the database runs again")
    wait_until(lambda: command(home, "status").returncode == 0, "all serve again")
    up.left = children_of(up.process.pid)
    assert up.end() == 0
    assert "process=front-1" in up.text()
    assert "exit=SIGKILL" in up.text()


def test_a_node_that_cannot_work_stops_everything(home: Path, ups: list[Up]) -> None:
    up = Up(home, IMESH_NODE_FRONT_BROKEN="true")
    ups.append(up)
    assert up.process.wait(20) == 2
    assert "the front is broken" in up.text()
    assert "front-1 cannot run with this topology (see above); everything stops" in up.text()
    assert not children_of(up.process.pid)


def test_a_daemon_that_cannot_work_stops_everything(home: Path, ups: list[Up]) -> None:
    up = Up(home, IMESH_DATABASE_FAIL="true")
    ups.append(up)
    assert up.process.wait(20) == 1
    assert "database did not start, 3 times (exit: 4); everything stops" in up.text()


def test_a_wrong_topology_starts_nothing(home: Path) -> None:
    (home / "topology.toml").write_text(TOPOLOGY.replace("count", "cuont"))
    for name in ("up", "check", "status"):
        refused = command(home, name)
        assert refused.returncode == 2
        assert refused.stderr == (
            'topology.toml:11: [process.back] unknown key "cuont"; did you mean "count"?\n'
            "1 problem, nothing was started.\n"
        )
    assert not (home / "data").exists()


def test_a_data_directory_that_cannot_be(home: Path) -> None:
    (home / "data").touch()
    refused = command(home, "up")
    assert refused.returncode == 2
    assert refused.stderr == f"{home / 'data'} cannot be a directory: a file is in the way\n"
