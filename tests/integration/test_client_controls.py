"""Revoking, editing, deleting and reading over the SDK, on several devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.events import Changed, Message, Read
from client.sessions import session_of
from client.store import FileStore
from client.view import View
from packs.codec import JSON
from packs.codes import Code
from packs.flags import COUNTER, HIGH_PRIORITY
from tests.clients import Connect, Heard, connecting, refusal, take
from tests.system import System
from tests.waiting import wait_until

User = Callable[[], str]


@pytest.fixture
def connect(system: System) -> Iterator[Connect]:
    with connecting(system) as found:
        yield found


@pytest.mark.parametrize("in_group", [False, True], ids=["single", "group"])
def test_changes_reach_everybody_on_every_device_once(connect: Connect, user: User, in_group: bool) -> None:
    alice, bob = user(), user()
    heard = {name: Heard() for name in ("phone", "desk", "b")}
    a = connect(alice, device_type=1, **heard["phone"].both)
    connect(alice, device_type=2, codec=JSON, **heard["desk"].both)
    b = connect(bob, codec=JSON, **heard["b"].both)
    to = a.groups.create("team", [bob]) if in_group else bob
    sent = [a.send(to, str(n)) for n in range(4)]
    assert all(sent)
    a.edit(sent[0], "zero")  # type: ignore[arg-type]
    a.revoke(sent[1])  # type: ignore[arg-type]
    a.delete(sent[2])  # type: ignore[arg-type]
    for name in ("desk", "b"):
        changes = heard[name].wait(Changed, 3)
        assert [(c.seq_id, c.how, c.content, c.operator) for c in changes] == [
            (sent[0].seq_id, "edited", "zero", alice),  # type: ignore[union-attr]
            (sent[1].seq_id, "revoked", "", alice),  # type: ignore[union-attr]
            (sent[2].seq_id, "deleted", "", alice),  # type: ignore[union-attr]
        ]
        view = View(alice if name == "desk" else bob)
        for event in heard[name]:
            view.take(event)
        session = to if in_group else session_of(alice, bob)
        shown = [(m.content, m.revoked, m.edited) for m in view.of(session).messages]
        assert shown == [("zero", False, True), ("", True, False), ("3", False, False)]
        stored = [(m.content, m.revoked, m.edited) for m in reversed(b.history(to if in_group else alice))]
        assert stored == shown
    assert heard["phone"].of(Changed) == []  # who did it knows
    assert refusal(lambda: b.revoke(sent[3])) == Code.GROUP_NO_PRIVILEGE  # type: ignore[arg-type]


def test_an_offline_user_learns_of_changes_at_his_next_start(connect: Connect, user: User, tmp_path: Path) -> None:
    alice, bob = user(), user()
    a = connect(alice)
    store = FileStore(tmp_path / "bob")
    b = connect(bob, store=store)
    group = a.groups.create("team", [bob])
    sent = [a.send(to, "typo") for to in (bob, group)]
    assert len(take(b, 2)) == 2
    b.close()
    for each in sent:
        assert each is not None
        a.edit(each, "fixed")
    a.send(bob, "after")
    heard = Heard()
    again = connect(bob, store=store, **heard.both)
    assert sorted(c.session_id for c in heard.wait(Changed, 2)) == sorted([session_of(alice, bob), group])
    assert {c.content for c in heard.of(Changed)} == {"fixed"}
    assert [m.content for m in heard.wait(Message)] == ["after"]
    again.close()
    store.close()


def test_high_priority_messages_come_once(connect: Connect, user: User, tmp_path: Path) -> None:
    alice, bob = user(), user()
    a = connect(alice)
    store = FileStore(tmp_path / "bob")
    b = connect(bob, store=store)
    a.send(bob, "0", flags=COUNTER | HIGH_PRIORITY)
    take(b, 1)
    b.close()
    for n in range(1, 5):
        a.send(bob, str(n), flags=COUNTER | (HIGH_PRIORITY if n % 2 else 0))
    b = connect(bob, store=store)
    assert [m.content for m in take(b, 4)] == ["1", "2", "3", "4"]
    assert list(b.messages(timeout=0.5)) == []
    b.close()
    store.close()


def test_reading_is_told_to_the_peer_and_to_ones_other_devices(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    heard = {name: Heard() for name in ("alice", "phone", "desk")}
    a = connect(alice, **heard["alice"].both)
    phone = connect(bob, device_type=1, codec=JSON, **heard["phone"].both)
    connect(bob, device_type=2, **heard["desk"].both)
    sent = [a.send(bob, str(n)) for n in range(3)]
    session = session_of(alice, bob)
    heard["phone"].wait(Message, 3)
    phone.mark_read(alice, sent[1].seq_id)  # type: ignore[union-attr]
    for name in ("alice", "desk"):
        assert heard[name].wait(Read) == [Read(session, sent[1].seq_id, bob)]  # type: ignore[union-attr]
    (hot,) = phone.hot_sessions()
    assert (hot.unread, hot.read_seq_id) == (1, sent[1].seq_id)  # type: ignore[union-attr]
    phone.mark_read(alice)
    wait_until(lambda: len(heard["alice"].of(Read)) == 2, "the second receipt")
    assert phone.hot_sessions()[0].unread == 0
    assert heard["phone"].of(Read) == []


def test_a_groups_owner_may_change_what_others_wrote(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    a, heard = connect(alice), Heard()
    b = connect(bob, **heard.both)
    group = a.groups.create("team", [bob])
    b.send(group, "rude")
    (rude,) = take(a, 1)
    a.revoke(rude)
    (change,) = heard.wait(Changed)
    assert (change.how, change.operator) == ("revoked", alice)


def test_what_a_view_counts_is_what_the_server_counts(connect: Connect, user: User) -> None:
    alice, bob = user(), user()
    heard, view = Heard(), View(bob)
    a, b = connect(alice), connect(bob, **heard.both)
    group = a.groups.create("team", [bob])
    sent = [a.send(to, str(n)) for n in range(6) for to in (bob, group)]
    heard.wait(Message, 12)
    for each in (sent[0], sent[3]):
        assert each is not None
        a.revoke(each)
    heard.wait(Changed, 2)
    b.mark_read(alice, sent[4].seq_id)  # type: ignore[union-attr]
    for event in heard:
        view.take(event)
    view.take(Read(session_of(alice, bob), sent[4].seq_id, bob))  # type: ignore[union-attr]
    counted = {hot.session_id: hot.unread for hot in b.hot_sessions()}
    assert {session: c.unread for session, c in view.conversations.items()} == counted
