"""What may have been missed is announced: the hint to resync, and what a client finds after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest

from packs import structs as s
from packs import table as t
from tests.raw import Raw, code, decode
from tests.system import System, running, topology_text
from tests.waiting import wait_until

RESYNC = 5
SECONDS = 12.0
"""How long a hint may take: a publisher is missed, comes again, and the hints are spread over 5 s."""


@pytest.fixture(scope="module")
def fragile() -> Iterator[System]:
    """Two brokers, one publisher of messages; a process that is killed comes again."""
    with running(topology_text("edge and core", {"edge": 2})) as found:
        yield found


def hinted(raw: Raw) -> None:
    """The next pack is the hint."""
    raw.sock.settimeout(SECONDS)
    hint = raw.push(t.SYNC_DATA_CMD)
    assert (hint.command, hint.content) == (RESYNC, "")


def test_everybody_online_is_told_when_a_publisher_dies(fragile: System, user: Callable[[], str]) -> None:
    addresses = fragile.addresses()
    names = [user() for _ in range(20)]
    raws = [Raw(addresses[n % 2]) for n in range(20)]
    for raw, name in zip(raws, names, strict=True):
        assert code(raw.login(name)) == 0
    acks = [raw.text(names[0], f"before {n}") for n, raw in enumerate(raws[1:])]
    for _ in acks:
        raws[0].push(t.MSG_SINGLE_CHAT)
    fragile.kill("core-1")
    gevent.joinall([gevent.spawn(hinted, raw) for raw in raws], timeout=2 * SECONDS, raise_error=True)
    fragile.wait_serving()

    # What a client then asks for is all there, and messages flow on.
    found = raws[0].ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)).sessions
    assert {(i.session_id, decode(i.last_msgs[0]).seq_id) for i in found} == {(a.session_id, a.seq_id) for a in acks}

    def flows() -> bool:
        return code(raws[1].text(names[0], "after", flags=0)) == 0

    wait_until(flows, "messages flow again")
    while (pack := raws[0].pack()).type == t.SYNC_DATA_CMD:
        continue
    assert decode(pack).content == "after"


def test_a_client_of_a_dead_broker_finds_everything_elsewhere(fragile: System, user: Callable[[], str]) -> None:
    fragile.wait_serving()
    process, address = next(
        (name, d["nodes"]["broker"]["tcp"]) for name, d in fragile.status().items() if "broker" in d.get("nodes", {})
    )
    host, port = address.rsplit(":", 1)
    other = next(a for a in fragile.addresses() if a != (host, int(port)))
    alice, bob = user(), user()
    a, b = Raw(other), Raw((host, int(port)))
    a.login(alice)
    b.login(bob)
    first = a.text(bob, "seen")
    assert b.push(t.MSG_SINGLE_CHAT).content == "seen"
    cursor = b.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)).timestamp
    fragile.kill(process)
    assert b.rest() == []
    missed = a.text(bob, "missed")
    assert code(missed) == 0
    again = Raw(other)
    assert code(again.login(bob)) == 0
    (item,) = again.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor)).sessions
    assert item.unread_count == 2 and decode(item.last_msgs[0]).seq_id == missed.seq_id
    assert [m.seq_id for m in again.history(item.session_id)] == [missed.seq_id, first.seq_id]
    fragile.wait_serving()
