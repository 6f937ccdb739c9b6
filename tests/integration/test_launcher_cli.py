"""The command line: help, exit codes, and commands of other packages."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

COMMANDS = ("up", "check", "run", "keys", "status", "call", "stacks")


def imesh(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh", *arguments], cwd=directory, capture_output=True, text=True, timeout=30
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a topology of one node that does nothing."""
    (tmp_path / "idle_nodes").mkdir()
    (tmp_path / "idle_nodes" / "__init__.py").touch()
    (tmp_path / "idle_nodes" / "idle.py").write_text("from mesh.node import Node\nclass Idle(Node): pass\n")
    (tmp_path / "topology.toml").write_text(
        '[mesh]\npackage = "idle_nodes"\nstats = ""\n[process.a]\nnodes = ["idle"]\ncount = 2\n'
    )
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str, tmp_path: Path) -> None:
    found = imesh(tmp_path, name, "--help")
    assert found.returncode == 0
    assert f"usage: imesh {name}" in found.stdout
    assert "examples:\n  imesh " in found.stdout


def test_the_help_names_commands_and_exit_codes(tmp_path: Path) -> None:
    found = imesh(tmp_path, "--help")
    assert found.returncode == 0
    for words in (*COMMANDS, "exit codes: 0 done, 1 failed, 2 wrong usage", "IMESH_DATA"):
        assert words in found.stdout


def test_version(tmp_path: Path) -> None:
    found = imesh(tmp_path, "--version")
    assert found.returncode == 0
    assert found.stdout.startswith("imesh 0.")


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("call",), ("run",), ("keys",)])
def test_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    found = imesh(tmp_path, *arguments)
    assert found.returncode == 2
    assert "usage: imesh" in found.stderr


@pytest.mark.parametrize("name", ["up", "check", "status"])
def test_no_topology(name: str, tmp_path: Path) -> None:
    found = imesh(tmp_path, name)
    assert found.returncode == 2
    assert found.stderr == f"no topology.toml in {tmp_path}: name a topology file, or change the directory\n"
    found = imesh(tmp_path, name, "other.toml")
    assert found.returncode == 2
    assert found.stderr == ("other.toml: cannot be read: No such file or directory\n1 problem, nothing was started.\n")


def test_check(home: Path) -> None:
    found = imesh(home, "check")
    assert found.returncode == 0
    assert (
        found.stdout
        == "topology.toml is right: 2 processes\n  a-1        on local: idle\n  a-2        on local: idle\n"
    )
    assert not (home / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("call", "idle"), "expected SERVICE.METHOD, got idle\n"),
        (("stacks", "b-1"), 'no process "b-1"; there are: a-1, a-2\n'),
        (("up", "--host", "x"), 'no host "x" in topology.toml; there are: local\n'),
        (("run", "b-1"), None),
    ],
)
def test_names_that_are_not_there(arguments: tuple[str, ...], text: str | None, home: Path) -> None:
    found = imesh(home, *arguments)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert text is None or found.stderr == text


@pytest.mark.parametrize("arguments", [("status",), ("call", "idle.x"), ("stacks", "a-1")])
def test_nothing_runs(arguments: tuple[str, ...], home: Path) -> None:
    found = imesh(home, *arguments)
    assert found.returncode == 1
    text = f"imesh: nothing runs with data in {home / 'data'}: start it with `imesh up`, or see --data\n"
    assert found.stderr == text


def test_keys(tmp_path: Path) -> None:
    found = imesh(tmp_path, "keys", "a", "b", "--dir", "secret")
    assert found.returncode == 0
    assert sorted(path.name for path in (tmp_path / "secret").iterdir()) == ["a.key", "b.key"]
    assert found.stdout.splitlines()[0] == "[host.a]"
    for path in (tmp_path / "secret").iterdir():
        assert path.read_text().strip() not in found.stdout
    assert imesh(tmp_path, "keys", "a", "--dir", "secret").returncode == 2


def test_a_reader_that_goes_away(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mesh", "check"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_a_process_in_the_foreground_ends_without_a_traceback(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mesh", "run", "a-1"], cwd=home, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        wait_until((home / "data" / "run" / "a-1.rpc").exists, "it listens", 20)
        head = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        written = head + process.stderr.read()
        assert process.wait(20) == 0
    assert b"serving" in written
    assert b"Traceback" not in written


def test_commands_of_other_packages(tmp_path: Path) -> None:
    about = tmp_path / "extra-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[mesh.commands]\ngreet = extra_command:register\nlost = extra_command_lost:register\n"
    )
    (tmp_path / "extra_command.py").write_text(
        "from mesh.cli import add_command\n"
        "def register(subparsers):\n"
        "    parser = add_command(subparsers, 'greet', 'say hello', '  imesh greet you')\n"
        "    parser.add_argument('who')\n"
        "    parser.set_defaults(run=lambda options: print('hello', options.who) or 3)\n"
    )
    found = imesh(tmp_path, "greet", "world")
    assert (found.returncode, found.stdout) == (3, "hello world\n")
    assert "the command lost is not available: No module named 'extra_command_lost'" in found.stderr
