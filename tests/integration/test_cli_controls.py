"""Changing and reading messages in `imesh chat`."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.system import System
from tests.terminal import client, piped, terminal

User = Callable[[], str]


def test_messages_change_where_they_stand(system: System, user: User) -> None:
    alice, bob = user(), user()
    with terminal(system, alice, "--to", bob) as a, terminal(system, bob, "--to", alice) as b:
        for each in (a, b):
            each.expect("> ")
        for text in ("first", "typo 你好", "third"):
            a.type(f"{text}\r")
            b.expect(text)
        a.type("/edit -2 fixed 您好\r")
        for each in (a, b):
            each.expect("fixed 您好")
            each.expect("(edited)")
            each.expect("third")  # what stands below is drawn again
        a.type("/revoke\r")
        for each in (a, b):
            each.expect("(revoked)")
        a.type("/delete -3\r")
        for each in (a, b):
            each.expect("(deleted)")
            each.expect("fixed 您好")
        b.type("/history\r")
        b.expect("fixed 您好")
        assert "first" not in b.text
        b.type("/revoke -2\r")
        b.expect("not done: ")


def test_a_read_message_is_marked(system: System, user: User) -> None:
    alice, bob = user(), user()
    with terminal(system, alice, "--to", bob) as a:
        a.expect("> ")
        a.type("are you there?\r")
        a.expect("✓")
        with client(system, bob) as b:
            assert next(b.messages(10)).content == "are you there?"
            b.mark_read(alice)
        a.expect("✓ read")
        with terminal(system, bob) as other:
            other.expect("> ")
            a.type("and now?\r")
            other.expect("and now?")
            other.expect("[1 elsewhere]> ")
            other.type(f"/to {alice}\r")  # looking at it is reading it
            other.expect(f"{alice}> ")
            a.expect("✓ read")


def test_changes_in_a_pipe(system: System, user: User) -> None:
    alice, bob = user(), user()
    with client(system, bob) as b:
        script = "one\ntwo\nthree\n/edit -3 1\n/revoke -2\n/delete\n/read\n"
        done = piped(system, alice, "--commands", "--to", bob, "--json", stdin=script)
        assert done.returncode == 0, done.stderr
        events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
        assert events == ["connected", "sent", "sent", "sent", "edited", "revoked", "deleted"]
        stored = [(m.content, m.edited, m.revoked) for m in b.history(alice)]
        assert stored == [("", False, True), ("1", True, False)]
        done = piped(system, alice, "--commands", "--to", bob, stdin="/history\n/edit -9 x\n")
        assert [line.partition(": ")[2] for line in done.stdout.splitlines()] == ["1 (edited) ✓", "(revoked) ✓"]
        assert (done.returncode, done.stderr) == (1, "imesh: there are not so many messages\n")
