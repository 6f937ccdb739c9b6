"""The commands of `imesh` on a real system, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw import code
from tests.system import ROOT, System, running, topology_text

OK, FAILED, WRONG = 0, 1, 2


@pytest.fixture(scope="module")
def accounts() -> Iterator[System]:
    with running(topology_text(tables={"auth": {"mode": "password"}})) as found, found.unharmed():
        yield found


def imesh(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command, on nothing but its arguments."""
    command = [sys.executable, "-m", "mesh", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, env=environment)


# ---- check

TOPOLOGIES = sorted(f"topologies/{path.name}" for path in ROOT.glob("topologies/*.toml"))


@pytest.mark.parametrize("name", ["topology.toml", *TOPOLOGIES])
def test_the_topologies_of_the_repository_are_right(name: str, tmp_path: Path) -> None:
    done = imesh("check", name, "--data", str(tmp_path))
    assert done.returncode == OK, done.stderr
    assert "is right" in done.stdout


def test_check_tells_every_mistake_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        '[process.edge]\nnodes = ["broker", "usr", "user"]\n\n[node.broker]\nlisten = "nowhere"\nheartbeat = 0\n'
        'tls_listen = "127.0.0.1:0"\n\n[auth]\nmode = "opne"\n\n[store]\nshard = 0\n'
    )
    done = imesh("check", str(path))
    assert done.returncode == WRONG and not done.stdout
    for line in (2, 5, 6, 7, 10, 13):
        assert f"{path}:{line}: " in done.stderr, done.stderr
    assert 'did you mean "user"' in done.stderr and "6 problems, nothing was started" in done.stderr


def test_an_unknown_key_hides_no_other_mistake(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(topology_text(tables={"node.broker": {"listen": "nowhere", "max_frames": 1}}))
    done = imesh("check", str(path))
    assert done.returncode == WRONG
    assert 'did you mean "max_frame"' in done.stderr and "expected host:port" in done.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:7100", "[::]:7100", "192.0.2.1:7100", "example.org:7100"])
@pytest.mark.parametrize("command", ["check", "up"])
def test_open_mode_is_for_loopback_only(command: str, listen: str, tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_text(topology_text(tables={"node.broker": {"listen": listen}}))
    done = imesh(command, str(path), "--data", str(tmp_path / "data"))
    assert done.returncode == WRONG
    assert 'mode = "open"' in done.stderr and listen in done.stderr
    path.write_text(topology_text(tables={"node.broker": {"listen": listen}, "auth": {"mode": "token"}}))
    assert imesh("check", str(path)).returncode == OK


# ---- up


def test_up_without_a_topology(tmp_path: Path) -> None:
    done = imesh("up", cwd=tmp_path)
    assert done.returncode == WRONG
    assert "no topology.toml in" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_up_names_the_first(accounts: System) -> None:
    assert accounts.launcher is not None
    done = imesh("up", str(accounts.topology), "--data", str(accounts.data))
    assert done.returncode == FAILED
    assert f"pid {accounts.launcher.pid} " in done.stderr and str(accounts.data) in done.stderr
    assert accounts.run("status").returncode == OK


# ---- status, stacks, call


def test_status(accounts: System) -> None:
    done = accounts.run("status")
    assert done.returncode == OK
    for words in ("main-1", "cold-1", "serving", "broker.tcp: 127.0.0.1:"):
        assert words in done.stdout


def test_status_for_programs(accounts: System) -> None:
    done = accounts.run("status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == OK and set(found) == {"main-1", "cold-1"}
    for process in found.values():
        assert process["state"] == "serving" and process["pid"] > 0 and process["rss_bytes"] > 0
        assert all(link["up"] for link in process["links"].values())


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "--json"), ("call", "user.accounts", "0", "1"), ("stacks", "main-1")]
)
def test_nothing_runs(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_text(topology_text())
    place = ["--data", str(tmp_path / "data")]
    done = imesh(*arguments, *([str(path)] if arguments[0] == "status" else ["--topology", str(path)]), *place)
    assert done.returncode == FAILED
    assert "imesh up" in done.stderr and "Traceback" not in done.stderr


def test_stacks(accounts: System) -> None:
    done = accounts.run("stacks", "main-1")
    assert done.returncode == OK and "Greenlet" in done.stdout
    done = accounts.run("stacks", "main-9")
    assert done.returncode == WRONG and "main-1" in done.stderr


@pytest.mark.parametrize(
    "arguments, expected, words",
    [
        (("user.accounts", "0", "1"), OK, ""),
        (("user.token", "somebody", "60"), OK, ""),
        (("user.nothing",), FAILED, "no method user.nothing"),
        (("nobody.accounts",), FAILED, "nobody"),
        (("user.accounts",), FAILED, "user.accounts"),
        (("user.accounts", "one", "2"), FAILED, "user.accounts"),
        (("user.token", "not a name", "60"), FAILED, "user id"),
        (("user.token", "somebody", "0"), FAILED, "seconds"),
        (("accounts",), WRONG, "SERVICE.METHOD"),
    ],
)
def test_call(accounts: System, arguments: tuple[str, ...], expected: int, words: str) -> None:
    done = accounts.run("call", *arguments)
    assert done.returncode == expected, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    if expected == OK:
        json.loads(done.stdout)


# ---- user


def test_accounts(accounts: System) -> None:
    added = accounts.run("user", "add", "zoe", stdin="first secret\n")
    assert added.returncode == OK and "zoe" in added.stdout
    assert code(accounts.connect().login("zoe", password="first secret")) == 0

    again = accounts.run("user", "add", "zoe", stdin="second secret\n")
    assert again.returncode == FAILED and "--replace" in again.stderr
    assert accounts.run("user", "add", "zoe", "--replace", stdin="second secret\n").returncode == OK
    assert code(accounts.connect().login("zoe", password="first secret")) == 21
    assert code(accounts.connect().login("zoe", password="second secret")) == 0

    assert accounts.run("user", "add", "yan", stdin="x\n").returncode == OK
    listed = accounts.run("user", "list")
    assert listed.returncode == OK
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["zoe", "yan"]
    found = json.loads(accounts.run("user", "list", "--json").stdout)
    assert [account["user"] for account in found] == ["zoe", "yan"]
    assert all(account["created"] > 1_600_000_000_000 for account in found)
    assert "secret" not in accounts.log


@pytest.mark.parametrize(
    "arguments", [("add", "not a name"), ("add", ""), ("token", "not a name"), ("token", "x", "--seconds", "0")]
)
def test_what_is_refused(accounts: System, arguments: tuple[str, ...]) -> None:
    done = accounts.run("user", *arguments, stdin="secret\n")
    assert done.returncode == FAILED
    assert done.stderr and "Traceback" not in done.stderr


def test_an_empty_password(accounts: System) -> None:
    done = accounts.run("user", "add", "wim", stdin="\n")
    assert done.returncode == FAILED and "empty" in done.stderr


def test_a_token_logs_in() -> None:
    with running(topology_text(tables={"auth": {"mode": "token"}})) as system:
        done = system.run("user", "token", "alice", "--seconds", "60")
        assert done.returncode == OK
        assert code(system.connect().login("alice", password=done.stdout.strip())) == 0
        assert system.stop() == OK
