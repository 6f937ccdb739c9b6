"""Publish, subscribe, presence and its losses, over real sockets in one process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.fanout import Fanout
from mesh.link import Sockets
from mesh.log import get_log
from mesh.stats import Stats
from tests.waiting import wait_until


class World:
    """Publisher processes p1, p2 and subscriber processes s1, s2 ..., each with a context of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.open: dict[str, tuple[Sockets, Fanout]] = {}
        self._starts = itertools.count(1)

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.directory}/{name}"

    def publisher(self, name: str, subscribers: tuple[str, ...] = ()) -> Fanout:
        return self._add(name, [self.endpoint(name)], frozenset(subscribers))

    def subscriber(self, name: str, *publishers: str) -> Fanout:
        fanout = self._add(name, None, frozenset())
        fanout.connect({p: (self.endpoint(p), None) for p in publishers})
        return fanout

    def _add(self, name: str, binds: list[str] | None, subscribers: frozenset[str]) -> Fanout:
        sockets = Sockets()
        fanout = Fanout(
            name, f"start{next(self._starts)}", sockets, Stats(name), get_log("test"), binds=binds,
            subscriber_processes=subscribers,
        )  # fmt: skip
        self.open[name] = (sockets, fanout)
        return fanout

    def close(self, name: str) -> None:
        self.open.pop(name)[0].close()

    def join(self, fanout: Fanout, *topics: str) -> list[bool]:
        """Subscribe and wait for the completion; [whether all confirmed]."""
        done: list[bool] = []
        fanout.subscribe(list(topics), done.append)
        wait_until(lambda: done, f"subscription of {topics}")
        return done


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    for name in list(found.open):
        found.close(name)


def listen(fanout: Fanout) -> list[tuple[str, Any]]:
    got: list[tuple[str, Any]] = []
    fanout.listen("u:", lambda topic, items: got.extend((topic, item) for (item,) in items))
    return got


def settle(fanout: Fanout) -> None:
    wait_until(lambda: fanout.settled, "the markers to be answered")


def test_a_confirmed_subscription_gets_what_is_published_and_no_other_does(world: World) -> None:
    p = world.publisher("p1")
    s, other = world.subscriber("s1", "p1"), world.subscriber("s2", "p1")
    got, none = listen(s), listen(other)
    settle(s)
    settle(other)
    assert world.join(s, "u:u1") == [True]
    assert world.join(other, "u:u10") == [True]  # u1 is a prefix of u10
    for n in range(3):
        p.publish("u:u1", (n,))
    wait_until(lambda: len(got) == 3, "the publications")
    assert got == [("u1", 0), ("u1", 1), ("u1", 2)]
    p.publish("u:u10", ("end",))
    wait_until(lambda: none, "the other one's publication")
    assert none == [("u10", "end")]


def test_a_publisher_observes_who_comes_and_goes(world: World) -> None:
    p = world.publisher("p1")
    moves: list[tuple[str, int]] = []
    p.observe("u:", lambda topic, holders: moves.append((topic, holders)))
    s1, s2 = world.subscriber("s1", "p1"), world.subscriber("s2", "p1")
    settle(s1)
    settle(s2)
    world.join(s1, "u:a", "g:a")
    world.join(s1, "u:a")  # nobody new
    world.join(s2, "u:a")
    assert moves == [("a", 1), ("a", 2)]
    assert (p.topics("u:"), p.topics("g:"), p.topics("x:")) == ({"a"}, {"a"}, set())
    assert p.is_connected("s2", s2.start) and not p.is_connected("s2", s1.start)
    world.close("s2")
    wait_until(lambda: moves[-1] == ("a", 1), "s2 to be gone")
    wait_until(lambda: not p.is_connected("s2", s2.start), "its marker to be gone")
    s1.unsubscribe(["u:a"])
    s1.unsubscribe(["u:a"])
    wait_until(lambda: moves[-1] == ("a", 0), "s1 to be gone")
    assert p.topics("u:") == set() and len(moves) == 4
    world.join(p, "u:b")  # of the same process
    p.unsubscribe(["u:b"])
    assert moves[4:] == [("b", 1), ("b", 0)]
    assert p.is_connected("p1", p.start)


def test_a_subscription_is_presence_and_holders_are_counted(world: World) -> None:
    p = world.publisher("p1")
    s1, s2 = world.subscriber("s1", "p1"), world.subscriber("s2", "p1")
    settle(s1)
    settle(s2)
    assert p.holders("u:a") == 0
    world.join(s1, "u:a")
    world.join(s1, "u:a")  # a second connection of the user at the same broker
    assert p.holders("u:a") == 1
    world.join(s2, "u:a")
    assert p.holders("u:a") == 2
    s1.unsubscribe(["u:a"])
    s2.unsubscribe(["u:a"])
    wait_until(lambda: p.holders("u:a") == 1, "one holder to leave")
    s1.unsubscribe(["u:a"])
    wait_until(lambda: p.holders("u:a") == 0, "the last holder to leave")


def test_a_dying_subscriber_is_no_longer_present(world: World) -> None:
    p = world.publisher("p1")
    s = world.subscriber("s1", "p1")
    settle(s)
    world.join(s, *(f"u:x{n}" for n in range(50)))
    assert p.holders("u:x49") == 1
    world.close("s1")
    wait_until(lambda: p.holders("u:x0") == 0 and p.holders("u:x49") == 0, "its topics to go")


def test_presence_is_complete_when_all_markers_are_there(world: World) -> None:
    p = world.publisher("p1", subscribers=("s1", "s2"))
    s1 = world.subscriber("s1", "p1")
    settle(s1)
    assert not p.complete
    settle(world.subscriber("s2", "p1"))
    wait_until(lambda: p.complete, "both markers")


def test_a_restarted_publisher_gets_all_topics_again_and_is_a_link_event(world: World) -> None:
    world.publisher("p1", subscribers=("s1",))
    s = world.subscriber("s1", "p1")
    events: list[tuple[str, str]] = []
    s.on_link_event(lambda process, reason: events.append((process, reason)))
    got = listen(s)
    settle(s)
    world.join(s, *(f"u:x{n}" for n in range(200)))
    assert events == []
    world.close("p1")
    p = world.publisher("p1", subscribers=("s1",))
    wait_until(lambda: p.complete, "the marker at the new publisher")
    assert all(p.holders(f"u:x{n}") == 1 for n in range(200))  # the marker comes last
    wait_until(lambda: events, "the link event")
    assert events == [("p1", "reconnected")]
    p.publish("u:x7", ("again",))
    wait_until(lambda: got, "a publication of the new one")
    assert got == [("x7", "again")]


def test_a_gap_in_the_beacons_and_a_raised_lossy_count_are_link_events(world: World) -> None:
    p = world.publisher("p1")
    s = world.subscriber("s1", "p1")
    events: list[tuple[str, str]] = []
    s.on_link_event(lambda process, reason: events.append((process, reason)))
    settle(s)
    heard = s._publishers["p1"]
    p.beacon()
    wait_until(lambda: heard.beacons == 1, "the first beacon")
    p.beacon()
    wait_until(lambda: heard.beacons == 2, "the second beacon")
    assert events == []
    p._beacons += 1  # one is lost on the way
    p.beacon()
    wait_until(lambda: events, "the gap")
    assert events == [("p1", "gap")]
    assert p._socket is not None
    p._socket.lossy += 1
    p.beacon()
    wait_until(lambda: len(events) == 2, "the lossy count")
    assert events[1] == ("p1", "lossy")


def test_a_publisher_that_never_answers_is_waited_for_half_a_second_only(world: World) -> None:
    p1 = world.publisher("p1")
    world.publisher("p2")
    s = world.subscriber("s1", "p1", "p2")
    settle(s)
    p2 = world.open["p2"][1]
    assert p2._socket is not None
    p2._socket._watcher.stop()  # p2's loop is stuck from now on
    late: list[bool] = []
    done: list[bool] = []
    s.subscribe(["u:a"], done.append, late=lambda: late.append(True))
    wait_until(lambda: done, "the cut-off")
    assert done == [False] and late == [] and p1.holders("u:a") == 1
    p2._socket._watcher.start(p2._socket.drain)
    p2._socket.drain()
    wait_until(lambda: late, "the late confirmation")


def test_within_one_process_publications_are_handed_over(world: World) -> None:
    both = world.publisher("p1")
    both.connect({})
    got = listen(both)
    assert world.join(both, "u:a") == [True]
    assert both.holders("u:a") == 1
    both.publish("u:a", ("x",))
    wait_until(lambda: got, "the publication")
    assert got == [("a", "x")]


def test_a_slow_subscriber_does_not_stop_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.link.PUBLISH_HWM", 10)
    p = world.publisher("p1")
    fast, stuck = world.subscriber("s1", "p1"), world.subscriber("s2", "p1")
    got = listen(fast)
    settle(fast)
    settle(stuck)
    world.join(fast, "u:a")
    world.join(stuck, "u:a")
    assert stuck._sub._socket is not None
    stuck._sub._socket._watcher.stop()
    sent = 0
    assert p._socket is not None
    while p._socket.lossy == 0:
        assert sent < 20_000, "the pipe never filled"
        p.publish("u:a", (b"x" * 10_000,))
        sent += 1
        wait_until(lambda n=sent: len(got) >= n, "the fast one to get it")  # type: ignore[misc]
    assert len(got) == sent
