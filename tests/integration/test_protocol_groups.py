"""Groups: who may do what, what it changes, and who is told (40 to 47)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.groups import create, dismiss, heard, join, leave, members, mine, say, syncs
from tests.raw import code
from tests.system import System

pytestmark = pytest.mark.usefixtures("unharmed")


def test_a_group_from_its_creation_to_its_end(system: System, user: Callable[[], str]) -> None:
    alice, bob, carol = user(), user(), user()
    a, b, c = (system.client(name) for name in (alice, bob, carol))
    group = create(a, bob, name="friends")
    assert members(a, group) == sorted([alice, bob])
    assert syncs([b.pack()]) == [(2, group)]
    ack = say(a, group, "hello")
    assert (code(ack), ack.session_id, ack.prev_seq_id) == (0, group, 0)
    got = heard(b, "hello")
    assert got == ["hello"]
    assert code(say(c, group)) == 30
    assert join(b, group, carol) == 0
    assert syncs([a.pack()]) == [(4, group)]
    assert syncs([c.pack()]) == [(2, group)]
    say(b, group, "welcome")
    assert heard(a, "welcome") == heard(c, "welcome") == ["welcome"]
    assert leave(c, group, carol) == 0
    assert syncs([a.pack(), b.pack()]) == [(4, group)] * 2
    assert code(say(c, group)) == 30
    assert dismiss(a, group) == 0
    assert syncs([b.pack()]) == [(2, group)]
    assert code(say(a, group)) == 35
    assert mine(a).group_ids == mine(b).group_ids == []
