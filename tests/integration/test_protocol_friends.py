"""Single chat where friendship is required."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from packs import table as t
from packs.ids import single_session
from tests.raw import code
from tests.system import System, running, topology_text


@pytest.fixture(scope="module")
def reserved() -> Iterator[System]:
    with running(topology_text(tables={"node.chat": {"require_friend": True}})) as found, found.unharmed():
        yield found


def test_strangers_cannot_write(reserved: System, user: Callable[[], str]) -> None:
    alice, bob = user(), user()
    a, b = reserved.client(alice), reserved.client(bob)
    assert [code(a.text(bob, "x", pack_id)) for pack_id in ("one", "two", "one")] == [50] * 3
    assert b.silent(0.2)
    assert a.history(single_session(alice, bob)) == []


def test_everybody_is_a_friend_of_himself(reserved: System, user: Callable[[], str]) -> None:
    alice = user()
    a, phone = reserved.client(alice), reserved.client(alice, device_type=1)
    assert code(a.text(alice, "note")) == 0
    assert phone.push(t.MSG_SINGLE_CHAT).content == "note"
