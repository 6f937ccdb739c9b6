"""A message that failed holds back its session: what was on its way behind it must not overtake it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from nodes.broker import QUARANTINE_SECONDS
from packs import structs as s
from packs import table as t
from packs.flags import COUNTER, DUP
from packs.ids import single_session
from tests.groups import create
from tests.raw import Raw, code
from tests.system import LAYOUTS, System, running, topology_text

HELD_BACK = (7, "a message before this one failed")


@pytest.fixture(scope="module", params=list(LAYOUTS))
def own(request: pytest.FixtureRequest) -> Iterator[System]:
    with running(topology_text(request.param)) as found:
        yield found


def send(raw: Raw, to: str, n: int, flags: int = COUNTER) -> tuple[int, str]:
    pack_type = t.MSG_GROUP_CHAT if to.startswith("GC_") else t.MSG_SINGLE_CHAT
    error = raw.ask(pack_type, s.MsgReq(to=to, content=str(n)), f"m{n}", flags).error_code
    return error.code, error.desc


@pytest.mark.parametrize("to_group", [False, True])
def test_nothing_overtakes_a_message_that_failed(own: System, to_group: bool) -> None:
    alice, bob, carol = (f"{name}{int(to_group)}" for name in ("alice", "bob", "carol"))
    raw, other = own.client(alice), own.client(alice, device_type=1)
    to = create(raw, bob) if to_group else bob
    session = to if to_group else single_session(alice, bob)
    assert send(raw, to, 0)[0] == 0
    redis = own.pid("redis")
    own.signal(redis, signal.SIGSTOP)
    pack_type = t.MSG_GROUP_CHAT if to_group else t.MSG_SINGLE_CHAT
    answer = raw.ask(pack_type, s.MsgReq(to=to, content="1"), "m1", COUNTER)
    own.signal(redis, signal.SIGCONT)
    since = time.monotonic()
    assert code(answer) == 6  # unknown: it may have been stored, or may yet be
    held_back = [send(raw, to, 2), send(raw, to, 3), send(raw, to, 3, COUNTER | DUP)]
    free = [send(raw, carol, 4), send(other, to, 5)]  # another session, another connection
    assert time.monotonic() < since + QUARANTINE_SECONDS, "too slow to tell"
    assert held_back == [HELD_BACK] * 3  # a resend that is not of the failed one may have been on its way, too
    assert [found for found, _ in free] == [0, 0]
    # Sent again from the failed one, as told: the order is that of sending.
    assert send(raw, to, 1, COUNTER | DUP)[0] in (0, 46)
    assert [send(raw, to, n, COUNTER | DUP)[0] for n in (2, 3)] == [0, 0]
    assert send(raw, to, 6)[0] == 0  # no DUP needed any more
    found = [m.content for m in reversed(raw.history(session)) if m.content != "5"]
    assert found == ["0", "1", "2", "3", "6"]


def test_it_ends_by_itself_for_who_does_not_send_again(own: System) -> None:
    raw = own.client("dora")
    redis = own.pid("redis")
    own.signal(redis, signal.SIGSTOP)
    answer = raw.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to="emil", content="1"), "m1", COUNTER)
    own.signal(redis, signal.SIGCONT)
    assert code(answer) == 6
    assert send(raw, "emil", 2) == HELD_BACK
    assert raw.silent(QUARANTINE_SECONDS)
    assert send(raw, "emil", 3)[0] == 0
