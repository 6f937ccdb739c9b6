"""The server's side of calls: batches, pools, refusals, and errors that stay where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gevent
import msgpack
import pytest

from mesh import dispatch, fences
from mesh.calls import Calls
from mesh.contract import call, cast, contract, methods_of
from mesh.dispatch import Dispatcher, Incoming
from mesh.errors import AppError, Overloaded, RemoteError, Timeout
from mesh.log import get_log
from mesh.loop import Workers, current_deadline, now
from mesh.stats import Stats
from mesh.wire import CAST, ERROR, REQUEST, RESULT
from tests.waiting import wait_until


@contract
class Sample(Protocol):
    @call(timeout=1.0)
    def plain(self, x: int) -> int: ...

    @call(timeout=1.0)
    def many(self, x: int) -> int: ...

    @call(timeout=1.0, lane=("lane",))
    def line(self, x: int, lane: str) -> int: ...

    @cast()
    def note(self, x: int) -> None: ...


METHODS = methods_of(Sample)


class World:
    """A dispatcher with one handler of each kind; answers to the peer "p" are kept."""

    def __init__(self, size: int = 4, queue: int = 100) -> None:
        self.dispatcher = Dispatcher(get_log("test"), Calls(Stats("test")))
        self.answers: list[Any] = []
        self.batches: list[list[int]] = []
        self.notes: list[int] = []
        self.plain: Any = lambda x: x + 1
        self.many: Any = self._double
        self.stats = Stats("svc")
        workers = Workers("svc", size, queue)
        add = self.dispatcher.add
        add("svc", METHODS["plain"], lambda x: self.plain(x), False, workers, self.stats)
        add("svc", METHODS["many"], lambda calls: self.many(calls), True, workers, self.stats)
        add("svc", METHODS["line"], lambda calls: self.many(calls), True, workers, self.stats)
        add("svc", METHODS["note"], self.notes.append, False, workers, self.stats)

    def _double(self, calls: Sequence[Incoming]) -> None:
        self.batches.append([c.args[0] for c in calls])
        for c in calls:
            c.reply(c.args[0] * 2)

    def send(self, peer: bytes, item: bytes) -> None:
        assert peer == b"p"
        self.answers.append(msgpack.unpackb(item, use_list=False))

    def request(self, call_id: int, name: str, x: Any, left_ms: int = 1000) -> None:
        self._request(call_id, name, left_ms, 0, (x,))

    def line(self, call_id: int, run: int, lane: str = "a", left_ms: int = 1000) -> None:
        """A call in a lane; its argument is its id."""
        self._request(call_id, "line", left_ms, run, (call_id, lane))

    def _request(self, call_id: int, name: str, left_ms: int, run: int, args: Any) -> None:
        item = (REQUEST, call_id, f"svc.{name}", left_ms, 0, run, msgpack.packb(args))
        self.dispatcher.remote_request(item, self.send, b"p")

    def wait(self, count: int) -> None:
        wait_until(lambda: len(self.answers) >= count, f"{count} answers")


def result(call_id: int, value: Any) -> tuple[Any, ...]:
    return (RESULT, call_id, msgpack.packb(value))


def test_plain_and_batch_handlers_answer() -> None:
    w = World()
    w.request(1, "plain", 41)
    w.request(2, "many", 4)
    w.wait(2)
    assert sorted(w.answers) == [result(1, 42), result(2, 8)]


def test_calls_of_one_turn_come_as_one_batch_in_order() -> None:
    w = World()
    for x in range(10):
        w.request(x, "many", x)
    w.wait(10)
    assert w.batches == [list(range(10))]


def test_a_batch_is_bounded_and_time_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH_ITEMS", 3)
    monkeypatch.setattr(dispatch, "BATCH_SECONDS", -1.0)
    w = World()
    for x in range(8):
        w.request(x, "many", x)
    w.wait(8)
    assert w.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_a_handler_that_raises_fails_what_it_left_unanswered_only() -> None:
    w = World()

    def half(calls: Sequence[Incoming]) -> None:
        calls[0].reply(0)
        raise ValueError("secret detail")

    w.many = half
    w.request(1, "many", 1)
    w.request(2, "many", 2)
    w.wait(2)
    assert w.answers[0] == result(1, 0)
    assert w.answers[1][:4] == (ERROR, 2, 0, "RemoteError")
    assert "secret" not in w.answers[1][4]


def test_errors_on_purpose_keep_their_code_and_others_lose_their_text() -> None:
    w = World()

    def refuse(x: int) -> int:
        if x == 1:
            raise AppError(51, "blocked", retry_after=7)
        raise RuntimeError("secret detail")

    w.plain = refuse
    w.request(1, "plain", 1)
    w.wait(1)
    w.request(2, "plain", 2)
    w.wait(2)
    assert w.answers[0] == (ERROR, 1, 51, "", "blocked", 7)
    assert w.answers[1][2:4] == (0, "RemoteError") and "secret" not in w.answers[1][4]
    with pytest.raises(RemoteError):
        w.dispatcher.run_in_place("svc", METHODS["plain"], (2,))
    with pytest.raises(AppError):
        w.dispatcher.run_in_place("svc", METHODS["plain"], (1,))


@pytest.mark.parametrize(("name", "x"), [("nothing", 1), ("plain", "no number")])
def test_what_cannot_run_is_a_bad_call(name: str, x: Any) -> None:
    w = World()
    w.request(1, name, x)
    w.wait(1)
    assert w.answers[0][:4] == (ERROR, 1, 0, "BadCall")


def test_a_second_answer_is_ignored() -> None:
    w = World()

    def twice(calls: Sequence[Incoming]) -> None:
        calls[0].reply(1)
        calls[0].reply(2)
        calls[0].fail(AppError(1))

    w.many = twice
    w.request(1, "many", 0)
    w.wait(1)
    assert w.answers == [result(1, 1)]


def test_a_full_pool_refuses_and_the_rest_goes_on() -> None:
    w = World(size=1, queue=2)
    gate = gevent.event.Event()
    w.plain = lambda x: gate.wait() and x
    for x in range(5):
        w.request(x, "plain", x)
        gevent.sleep(0)  # lets the first one start
    wait_until(lambda: len(w.answers) == 2, "two refusals")
    assert {a[3] for a in w.answers} == {"Overloaded"}
    assert w.stats.counts["drops.plain.full"] == 2
    gate.set()
    w.wait(5)


def test_expired_calls_are_dropped_unread() -> None:
    w = World()
    w.request(1, "many", 1, left_ms=-1)
    w.request(2, "plain", 1, left_ms=-1)
    w.request(3, "many", 3)
    w.wait(1)
    wait_until(lambda: w.stats.counts["drops.plain.expired"], "the plain one to be dropped")
    assert w.answers == [result(3, 6)] and w.batches == [[3]]
    assert w.stats.counts["drops.many.expired"] == 1


def failed(answers: list[Any]) -> list[tuple[int, str]]:
    return [(a[1], a[3]) for a in answers if a[0] == ERROR]


def test_nothing_of_a_lane_overtakes_its_expired_call() -> None:
    w = World()
    w.line(1, run=1)
    w.line(2, run=1, left_ms=-1)
    w.line(3, run=1)
    w.line(4, run=4, lane="b")
    w.wait(3)
    assert w.batches == [[1, 4]] and failed(w.answers) == [(3, "Timeout")]
    w.line(5, run=1)  # it was on its way when the caller did not know yet
    w.wait(4)
    w.line(6, run=6)
    w.line(7, run=6)
    w.wait(6)
    assert w.batches == [[1, 4], [], [6, 7]] and failed(w.answers) == [(3, "Timeout"), (5, "Timeout")]
    assert w.stats.counts["drops.line.behind"] == 2


@pytest.mark.parametrize(("error", "run"), [(Timeout("x"), [1]), (RemoteError("x"), [1]), (AppError(51), [1, 2, 3])])
def test_nothing_of_a_lane_overtakes_a_call_that_failed_at_its_handler(error: Exception, run: list[int]) -> None:
    w = World()
    ran: list[int] = []

    def work(calls: Sequence[Incoming]) -> None:
        for c in calls:
            ran.append(c.args[0])
            c.fail(error) if c.args[0] == 1 else c.reply(0)

    w.many = work
    w.line(1, run=1)
    w.wait(1)
    w.line(2, run=1)
    w.line(3, run=1)
    w.wait(3)
    assert ran == run


def test_nothing_of_a_lane_overtakes_a_call_that_found_the_queue_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH_QUEUE", 2)
    w = World()
    for n in (1, 2, 3):
        w.line(n, run=1)
    w.wait(1)
    w.line(4, run=1)
    w.wait(4)
    assert w.batches[0] in ([], [1, 2])
    assert {n for n, _ in failed(w.answers)} >= {3, 4}


def test_lanes_need_batch_handlers() -> None:
    w = World()
    with pytest.raises(TypeError, match="batch"):
        w.dispatcher.add("svc", METHODS["line"], print, False, Workers("svc", 1, 1), w.stats)


def test_failed_lanes_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fences, "LIMIT", 2)
    found = fences.Fences()
    for lane in ("a", "b", "c"):
        found.close(lane, 5)
    found.close("b", 3)  # late news of an older run
    assert [found.holds(lane, 5) for lane in ("a", "b", "c")] == [False, True, True]
    assert not found.holds("b", 6) and not found.holds("b", 5)


def test_a_handler_runs_under_the_time_left() -> None:
    w = World()
    seen: list[Any] = []
    w.plain = lambda x: seen.append(current_deadline()) or x
    w.request(1, "plain", 1, left_ms=500)
    w.wait(1)
    assert 0 < seen[0] - now() <= 0.5


def test_casts_run_without_an_answer_and_unknown_ones_do_no_harm() -> None:
    w = World()
    w.dispatcher.remote_cast((CAST, "svc.note", msgpack.packb((5,))))
    w.dispatcher.remote_cast((CAST, "svc.note", msgpack.packb(("x",))))
    w.dispatcher.remote_cast((CAST, "svc.gone", b""))
    wait_until(lambda: w.notes, "the cast")
    assert w.notes == [5] and w.answers == []


def test_greenlets_are_reused() -> None:
    w = World(size=64)
    for x in range(200):
        w.request(x, "plain", x)
    w.wait(200)
    workers = w.dispatcher.handlers["svc.plain"].workers
    assert workers._started == 1  # none of them blocked


def test_workers_refuse_when_their_queue_is_full() -> None:
    workers = Workers("w", 1, 1)
    workers.submit(lambda: None, (), None)
    with pytest.raises(Overloaded):
        workers.submit(lambda: None, (), None)
