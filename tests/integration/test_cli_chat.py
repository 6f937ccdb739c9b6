"""`imesh chat` as people and scripts use it: in a terminal, and in a pipe."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system import System, running, topology_text
from tests.terminal import Terminal, client, command, piped, terminal

User = Callable[[], str]


# ---- in a pipe


def test_a_pipe_is_sent_line_by_line_and_all_is_stored_at_its_end(system: System, user: User) -> None:
    alice, bob = user(), user()
    lines = [f"line {n}" for n in range(300)] + ["/usr/bin: as it is", "@nobody: as it is", "last, no newline 你好"]
    done = piped(system, alice, "--to", bob, stdin="\n".join(lines))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with client(system, bob) as b:
        found = b.history(alice, count=200)
        found += b.history(alice, before=found[-1].seq_id - 1, count=200)
    assert [m.content for m in reversed(found)] == lines


def test_a_file_can_be_sent_and_without_a_peer_lines_name_theirs(system: System, user: User, tmp_path: Path) -> None:
    alice, bob = user(), user()
    file = tmp_path / "lines"
    file.write_text(f"@{bob} hello\nto nobody\n")
    host, port = system.address()
    with file.open() as source:
        done = subprocess.run(
            command(alice, "--server", f"{host}:{port}"), stdin=source, capture_output=True, text=True, timeout=40
        )
    assert done.returncode == 1
    assert "to whom? to nobody" in done.stderr
    with client(system, bob) as b:
        assert [m.content for m in b.history(alice)] == ["hello"]


def test_what_others_write_meanwhile_is_printed(system: System, user: User) -> None:
    alice, bob = user(), user()
    host, port = system.address()
    process = subprocess.Popen(
        command(alice, "--to", bob, "--json", "--server", f"{host}:{port}"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with process, client(system, bob) as b:
        assert json.loads(process.stdout.readline())["event"] == "connected"
        b.send(alice, "a\nb")
        event = json.loads(process.stdout.readline())
        assert (event["event"], event["sender"], event["content"]) == ("message", bob, "a\nb")
        process.stdin.write("hi\n")
        process.stdin.flush()
        event = json.loads(process.stdout.readline())
        assert (event["event"], event["content"], event["to"]) == ("sent", "hi", bob)
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_refused_line_is_named_and_makes_the_exit_code_1(system: System, user: User) -> None:
    done = piped(system, user(), "--to", user(), stdin="x" * 70_000 + "\nfine\n")
    assert done.returncode == 1
    assert done.stderr.startswith("imesh: not sent (message is too long): xxx"), done.stderr[:200]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["alice", "--server", "127.0.0.1:1"], 1, "no imesh on 127.0.0.1:1"),
        (["alice", "--server", "nonsense"], 2, "'nonsense' is no HOST:PORT"),
        (["al ice"], 2, "'al ice' is no user id"),
        (["alice", "--to", "b b"], 2, "'b b' is no user or group id"),
        (["alice", "--ca", "/nonexistent"], 2, "No such file"),
        (["alice", "--data", "/proc/x"], 2, "/proc/x"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], code: int, text: str) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL)
    assert (done.returncode, text in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


# ---- in a terminal


def test_two_people_talk(system: System, user: User) -> None:
    alice, bob = user(), user()
    piped(system, bob, "--to", alice, stdin="were you away?\n")
    with terminal(system, alice, "--to", bob) as a, terminal(system, bob, "--to", alice) as b:
        for each in (a, b):
            each.expect("were you away?")
            each.expect("> ")
        a.type("你号\x7f好!\x1b[D\x7f\r")  # with two corrections
        a.expect("你!")
        a.expect("✓")
        b.expect("你!")
        b.type("/sessions\r")
        b.expect("你!")
        b.type("/nonsense\r")
        b.expect("no command /nonsense")
        b.type("//usr\r")
        a.expect("/usr")
        b.type("\x04")
        assert b.ended() == 0
        a.type("/quit\r")
        assert a.ended() == 0


def test_what_is_typed_survives_what_is_shown(system: System, user: User) -> None:
    alice, bob = user(), user()
    with terminal(system, alice, "--to", bob) as a, client(system, bob) as b:
        a.expect("> ")
        a.type("half a ")
        a.expect("half a ")
        b.send(alice, "interrupting \x1b[2J")
        a.expect("interrupting")
        a.expect("half a ")
        a.type("line\r")
        assert next(b.messages(10)).content == "half a line"


def test_a_dead_server_and_a_second_login_are_said(user: User) -> None:
    alice, bob = user(), user()
    with running(topology_text("split")) as system:
        with terminal(system, alice, "--to", bob) as a, client(system, bob) as b:
            a.expect("> ")
            system.kill("chat-1")
            a.type("into the dark\r")
            a.expect("… you: into the dark")
            a.expect("✓", 20)
            assert next(b.messages(10)).content == "into the dark"
            with client(system, alice, device_id="another"):
                a.expect("logged in elsewhere")
                assert a.ended() == 1
        with terminal(system, alice, "--to", bob) as a:
            a.expect("> ")
            system.kill("broker-1")
            a.expect("the connection is lost; reconnecting")
            a.type("later\r")
            a.expect("… you: later")
            a.type("\x03")
            a.expect("not sent")
            assert a.ended() == 0


def test_a_terminal_waits_for_a_server() -> None:
    found = Terminal("alice", "--server", "127.0.0.1:1")
    found.expect("no imesh on 127.0.0.1:1")
    found.type("\x03")
    assert found.ended() == 0
    found.close()
