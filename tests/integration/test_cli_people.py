"""Friends, blocked users, presence, typing and devices in `imesh chat`."""

from __future__ import annotations

from collections.abc import Callable

from tests.system import System
from tests.terminal import client, piped, terminal

User = Callable[[], str]


def test_people_in_a_pipe(system: System, user: User) -> None:
    alice, bob, carl = user(), user(), user()
    script = (
        f"/friends\n/add {bob} Bobby Tables\n/add {carl}\n/unfriend {carl}\n/friends\n"
        f"/block\n/block {carl}\n/block\n/unblock {carl}\n/me Alice 爱丽丝\n/me\nhello\n/mute\n/sessions\n"
    )
    done = piped(system, alice, "--commands", "--to", bob, stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        "no friends yet; /add USER", f"{bob}  Bobby Tables", "you have blocked nobody", carl, f"{alice}  Alice 爱丽丝",
        "muted",
    ]  # fmt: skip
    assert lines[6].startswith(f"{bob} (muted)")
    with client(system, carl) as c:
        c.friends.block([alice])
        done = piped(system, alice, "--to", carl, stdin="hello?\n")
        assert (done.returncode, done.stderr) == (1, "imesh: not sent (blocked by the recipient): hello?\n")


def test_people_in_a_terminal(system: System, user: User) -> None:
    alice, bob = user(), user()
    with terminal(system, alice, "--to", bob) as a:
        a.expect("> ")
        a.type("/who\r")
        a.expect("none of your friends is online")
        a.type(f"/add {bob}\r")
        a.type(f"/who {bob}\r")
        a.expect(f"{bob}")
        a.expect("is not online")
        with terminal(system, bob, "--to", alice) as b:
            b.expect("> ")
            a.type("/who\r")
            a.expect("is online (Linux)")
            b.type("hm")
            a.expect(f"{bob} is typing …")
            b.type("\r")
            a.expect("hm")
            a.type("/devices\r")
            a.expect("5  Linux  terminal, online")
            a.type("/devices kick 9\r")
            a.expect("no device 9")
            with client(system, bob, device_type=1) as phone:
                b.type("/devices kick 1\r")
                assert list(phone.messages(10)) == []
