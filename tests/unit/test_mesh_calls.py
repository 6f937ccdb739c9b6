"""The caller's side of calls, against a target in memory: one outcome each, order in lanes, losses, deadlines."""

from __future__ import annotations

from typing import Any, Protocol

import gevent
import pytest

from mesh.balance import Instance
from mesh.calls import Calls, Pending
from mesh.contract import Method, call, contract, methods_of
from mesh.errors import AppError, Overloaded, PeerLost, RemoteError, Timeout, Unreachable
from mesh.loop import post, within
from mesh.stats import Stats
from tests.waiting import wait_until


@contract
class Sample(Protocol):
    @call(timeout=5.0, idempotent=True)
    def read(self, x: int) -> int: ...

    @call(timeout=5.0)
    def write(self, x: int) -> int: ...

    @call(timeout=5.0, idempotent=True, key="session", lane=("origin", "session"))
    def send(self, session: str, origin: str, x: int) -> int: ...

    @call(timeout=0.1, idempotent=True, key="session", lane=("origin", "session"))
    def hasty(self, session: str, origin: str, x: int) -> int: ...


METHODS = methods_of(Sample)


class Target:
    """An instance's end of a link, in memory: it keeps what it is asked until the test answers."""

    local = False

    def __init__(self) -> None:
        self.requests: list[tuple[Pending, bool]] = []

    def request(self, call: Pending, again: bool) -> None:
        self.requests.append((call, again))

    @property
    def seen(self) -> list[Any]:
        return [c.args[-1] for c, _ in self.requests]


class World:
    """Calls with instances a-1, a-2 ... of the service "svc"."""

    def __init__(self, instances: int = 2, up: bool = True) -> None:
        self.calls = Calls(Stats("test"))
        self.targets = [Target() for _ in range(instances)]
        self.instances = [Instance(f"a-{i + 1}", t) for i, t in enumerate(self.targets)]
        self.calls.service("svc").pool.instances += self.instances
        self.outcomes: list[tuple[Any, Any]] = []
        if up:
            for instance in self.instances:
                self.bring_up(instance)

    def bring_up(self, instance: Instance) -> None:
        instance.up, instance.state = True, "serving"
        self.calls.available(instance)

    def lose(self, index: int) -> None:
        self.instances[index].up = False
        self.calls.lost([self.instances[index]])

    def start(self, method: str, *args: Any) -> None:
        self.calls.start("svc", METHODS[method], args, lambda r, e: self.outcomes.append((r, e)))

    def answer(self, index: int, nth: int, result: Any = "ok") -> None:
        self.calls.resolve(self.targets[index].requests[nth][0].id, result, encoded=False)

    @property
    def errors(self) -> list[type]:
        return [type(e) for _, e in self.outcomes]

    def holder(self) -> int:
        """The index of the instance that got something."""
        return next(i for i, t in enumerate(self.targets) if t.requests)


def test_a_result_comes_once_and_a_late_one_is_dropped() -> None:
    w = World(1)
    w.start("read", 1)
    w.answer(0, 0, 42)
    w.answer(0, 0, 43)
    assert w.outcomes == [(42, None)]
    assert w.calls.stats.counts["drops.answers.late"] == 1
    assert w.instances[0].outstanding == 0


def test_errors_arrive_as_what_they_are() -> None:
    w = World(1)
    for x, (code, name) in enumerate([(50, ""), (0, "Overloaded"), (0, "RemoteError"), (0, "Nonsense")]):
        w.start("write", x)
        w.calls.reject(w.targets[0].requests[x][0].id, code, name, "text")
    assert w.errors == [AppError, Overloaded, RemoteError, RemoteError]
    assert w.outcomes[0][1].code == 50


def test_a_bad_result_is_an_error_of_the_other_side() -> None:
    w = World(1)
    w.start("read", 1)
    w.calls.resolve(w.targets[0].requests[0][0].id, b"\xa1x", encoded=True)
    assert w.errors == [RemoteError]


def test_a_call_waits_for_an_instance() -> None:
    w = World(1, up=False)
    w.start("read", 1)
    w.start("send", "S", "c", 2)
    assert w.targets[0].requests == []
    w.bring_up(w.instances[0])
    assert sorted(w.targets[0].seen) == [1, 2]
    assert [again for _, again in w.targets[0].requests] == [False, False]


def test_without_an_instance_the_deadline_says_that_nothing_ran() -> None:
    w = World(1, up=False)
    with within(0.05):
        w.start("write", 1)
    wait_until(lambda: w.calls.sweep() or w.outcomes, "the call to fail")
    assert w.errors == [Unreachable]
    assert w.outcomes[0][1].ran == "no"


def test_who_ends_gives_up_what_waits_for_an_instance() -> None:
    w = World(2)
    w.start("write", 0)
    for x in range(1, 4):
        w.start("send", "S", "conn", x)
    w.start("read", 4)
    w.calls.give_up()
    assert w.outcomes == []  # all of them are with an instance
    w.lose(0)
    w.lose(1)
    w.start("write", 5)
    w.start("send", "T", "conn", 6)
    w.calls.give_up()
    assert sorted(e.__name__ for e in w.errors) == ["PeerLost"] * 5 + ["Unreachable"] * 2
    assert w.calls.unanswered == 0
    w.bring_up(w.instances[0])
    w.start("send", "S", "conn", 7)
    assert w.targets[0].seen[-1] == 7 and w.calls.unanswered == 1


def test_a_deadline_passes_with_an_unknown_outcome() -> None:
    w = World(1)
    with within(0.05):
        w.start("write", 1)
    wait_until(lambda: w.calls.sweep() or w.outcomes, "the call to fail")
    assert w.errors == [Timeout]
    assert w.outcomes[0][1].ran == "maybe"
    assert w.calls.unanswered == 0


def test_no_time_left_is_refused_without_sending() -> None:
    w = World(1)
    with within(-1.0):
        w.start("write", 1)
    wait_until(lambda: w.outcomes, "the refusal")
    assert w.errors == [Timeout] and w.targets[0].requests == []


def test_losing_an_instance_resends_what_is_idempotent_only() -> None:
    w = World(2)
    for x in range(20):
        w.start("read", x)
        w.start("write", 100 + x)
    on_first = w.targets[0].seen
    w.lose(0)
    assert w.errors == [PeerLost] * sum(1 for x in on_first if x >= 100)
    resent = [(c.args[0], again) for c, again in w.targets[1].requests if c.args[0] in on_first]
    assert resent == [(x, True) for x in on_first if x < 100]


def test_the_retry_budget_is_bounded() -> None:
    w = World(2)
    for x in range(3000):
        w.start("read", x)
    w.lose(0)
    assert w.calls.stats.counts["calls.retried"] == 100
    assert PeerLost in w.errors


def test_refused_sends_go_to_another_instance() -> None:
    w = World(2)
    for x in range(10):
        w.start("write", x)
    ids = [c.id for c, _ in w.targets[0].requests]
    assert ids
    w.instances[0].up = False
    w.calls.service("svc").pool.changed()
    w.calls.refused(ids, [w.instances[0]])
    w.calls.lost([w.instances[0]])
    assert sorted(w.targets[1].seen) == list(range(10))
    assert w.outcomes == []


def test_a_lane_moves_whole_and_in_order_before_anything_newer() -> None:
    w = World(2)
    for x in range(5):
        w.start("send", "S", "conn", x)
    old = w.holder()
    new = 1 - old
    assert w.targets[old].seen == [0, 1, 2, 3, 4]
    w.answer(old, 0)
    w.lose(old)
    w.start("send", "S", "conn", 5)
    assert w.targets[new].seen == [1, 2, 3, 4, 5]
    assert [again for _, again in w.targets[new].requests] == [True] * 4 + [False]


def test_a_lane_stays_where_it_is_while_anything_is_unanswered() -> None:
    w = World(2)
    w.start("send", "S", "conn", 0)
    old = w.holder()
    w.instances[old].state = "draining"
    w.calls.available(w.instances[old])
    w.start("send", "S", "conn", 1)
    assert w.targets[old].seen == [0, 1]
    w.answer(old, 0)
    w.answer(old, 1)
    w.start("send", "S", "conn", 2)
    assert w.targets[1 - old].seen == [2]


def test_a_lane_without_any_instance_waits_and_keeps_its_order() -> None:
    w = World(1)
    for x in range(3):
        w.start("send", "S", "conn", x)
    w.lose(0)
    w.start("send", "S", "conn", 3)
    w.targets[0].requests.clear()
    w.bring_up(w.instances[0])
    assert w.targets[0].seen == [0, 1, 2, 3]
    assert [again for _, again in w.targets[0].requests] == [True, True, True, False]


def test_what_waits_behind_a_failed_call_of_its_lane_fails_with_it() -> None:
    w = World(1)
    w.start("hasty", "S", "conn", 0)
    for x in range(1, 4):
        w.start("hasty", "S", "conn", x)
    w.start("send", "T", "conn", 9)
    wait_until(lambda: w.calls.sweep() or w.outcomes, "the first to fail")
    assert w.errors == [Timeout] * 4
    w.start("hasty", "S", "conn", 5)
    assert w.targets[0].seen[-1] == 5  # the lane starts anew
    assert w.calls.unanswered == 2


def test_what_is_started_after_a_failure_is_of_a_new_run_of_the_lane() -> None:
    w = World(1)
    for x in range(4):
        w.start("send", "S", "conn", x)
    first, failing, _, last = (c for c, _ in w.targets[0].requests)
    assert first.lane is not None
    run = first.lane.run
    assert run <= first.id
    w.calls.reject(failing.id, 0, "Timeout", "")
    w.start("send", "S", "conn", 4)
    later = w.targets[0].requests[-1][0]
    assert later.lane is first.lane and last.id < first.lane.run <= later.id  # the first one still waits
    w.answer(0, 0)
    w.answer(0, 4)
    w.start("send", "S", "conn", 5)
    newest = w.targets[0].requests[-1][0]
    assert newest.lane is not None and newest.lane.run > first.lane.run


def test_a_refusal_by_the_handler_leaves_those_behind_it_alone() -> None:
    w = World(1)
    for x in range(3):
        w.start("send", "S", "conn", x)
    w.calls.reject(w.targets[0].requests[0][0].id, 51, "", "blocked")
    assert w.errors == [AppError]
    w.answer(0, 1)
    w.answer(0, 2)
    assert len(w.outcomes) == 3


def test_lanes_of_different_connections_do_not_wait_for_each_other() -> None:
    w = World(2)
    w.start("send", "S", "one", 0)
    w.start("send", "S", "two", 1)
    holder = w.holder()
    assert w.targets[holder].seen == [0, 1]  # one owner per session
    w.answer(holder, 1)
    assert w.outcomes == [("ok", None)]


def test_blocking_waits_in_a_greenlet_and_raises_the_error() -> None:
    w = World(1)
    method: Method = METHODS["read"]
    waiter = gevent.spawn(w.calls.blocking, "svc", method, (7,))
    wait_until(lambda: w.targets[0].requests, "the request")
    post(w.answer, 0, 0, 8)  # completions come on the hub
    assert waiter.get(timeout=5) == 8
    waiter = gevent.spawn(w.calls.blocking, "svc", method, (7,))
    wait_until(lambda: len(w.targets[0].requests) == 2, "the request")
    post(w.calls.reject, w.targets[0].requests[1][0].id, 23, "", "no")
    with pytest.raises(AppError, match="23 no"):
        waiter.get(timeout=5)
