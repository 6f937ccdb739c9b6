"""Commands of `imesh chat`: groups, people, messages; in a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Callable

from tests.system import System
from tests.terminal import client, piped, terminal
from tests.waiting import wait_until

User = Callable[[], str]


def test_a_group_in_a_terminal(system: System, user: User) -> None:
    alice, bob = user(), user()
    with terminal(system, alice) as a, terminal(system, bob) as b:
        for each in (a, b):
            each.expect("> ")
        a.type(f"/group create team-{alice} {bob}\r")
        a.expect(f"team-{alice} is GC_")
        a.expect(f"team-{alice}> ")
        a.type("hello 你好\r")
        b.expect(f" in team-{alice}")
        b.expect("hello 你好")
        b.expect("[1 elsewhere]> ")
        b.type(f"/to team-{alice[:-1]}\t\r")  # its name is completed
        b.expect("hello 你好")
        b.expect(f"team-{alice}> ")
        b.type("hi\r")
        a.expect("hi")
        b.type("/members\r")
        b.expect(alice)
        b.type("/rename mine\r")
        b.expect("not done: the group's owner has to do this")
        a.type(f"/handover {bob}\r")
        a.type("/group info\r")
        a.expect(f"owned by {bob}, 2 of ")
        b.type("/rename ours\r")
        a.expect("ours> ")
        b.type(f"/kick {alice}\r")
        b.type("/group info\r")
        b.expect("1 of ")
        a.type("still here?\r")
        a.expect("not sent (not a member of the group)")
        b.type("/dismiss\r")
        b.expect("nobody> ")
        b.type("/group info\r")
        b.expect("this is no group; /to GROUP first")


def test_what_is_wrong_in_a_command_is_said(system: System, user: User) -> None:
    with terminal(system, user(), "--to", user()) as a:
        a.expect("> ")
        for line, answer in (
            ("/invite", "/invite USER …"), ("/invite x", "this is no group"), ("/to a b c", "'a b c' is no user"),
            ("/search", "/search TEXT"), ("/search zzyzx", "nothing found"), ("/history x", "/history [N]"),
            ("/revoke", "you have said nothing here"), ("/nonsense", "no command"),
            ("/group create", "/group [create NAME"), ("/revoke -9", "there are not so many messages"),
            ("/to GC_nowhere", "no history: no right to read this history"),
        ):  # fmt: skip
            a.type(f"{line}\r")
            a.expect(answer)


def test_commands_in_a_pipe(system: System, user: User) -> None:
    alice, bob = user(), user()
    script = f"/group create crew {bob}\nhello\n//as it is\n@{bob} for you\n/members\n/group info\n/leave\n"
    done = piped(system, alice, "--commands", stdin=script)
    assert "not done: the group's owner" in done.stderr
    assert done.returncode == 1
    assert f"crew (GC_{done.stdout.split(' is GC_')[1].split()[0]})" in done.stdout
    with client(system, bob) as b:
        (group,) = b.groups.list()
        assert [m.content for m in b.history(group.group_id)] == ["/as it is", "hello"]
        assert [m.content for m in b.history(alice)] == ["for you"]
        wait_until(lambda: [m.content for m in b.search("you")] == ["for you"], "it can be found")
    done = piped(system, bob, "--commands", stdin="/search you FOR\n")
    assert done.stdout.endswith(f"{alice}: for you\n") and done.stdout.count("\n") == 1
    done = piped(system, alice, "--commands", "--to", group.group_id, stdin=f"/handover {bob}\n/leave\n/group\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_help_names_every_command(system: System, user: User) -> None:
    done = piped(system, user(), "--commands", stdin="/help\n/quit\nnot reached\n")
    assert done.returncode == 0
    for name in (
        "help", "to", "history", "search", "group", "invite", "kick", "leave", "dismiss", "handover", "rename",
        "members", "revoke", "edit", "delete", "read", "friends", "add", "accept", "decline", "unfriend", "block",
        "unblock", "who", "me", "mute", "devices", "quit",
    ):  # fmt: skip
        assert f"  /{name}" in done.stdout
