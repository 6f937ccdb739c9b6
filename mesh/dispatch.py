"""The server's side of calls: which handler runs, where, and the one place that answers.

Two kinds of handlers. *Plain* methods run in a pooled greenlet of their node and may block. *Batch* methods get all
calls of their type that arrived in this loop turn as a list, run on the hub, must not block, and answer each call by
`reply` or `fail`, now or later; they get at most `BATCH_ITEMS` or `BATCH_SECONDS` per turn. One bad item fails alone,
except in a lane: there what was sent behind it fails with it (`mesh.fences`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mesh.contract import Method
from mesh.errors import AppError, BadCall, CallError, MeshError, Overloaded, RemoteError, Timeout
from mesh.fences import Fences
from mesh.log import Log
from mesh.loop import Done, Tick, Workers, now, post, wait_for
from mesh.stats import Stats
from mesh.wire import ERROR, RESULT, encode

if TYPE_CHECKING:
    from mesh.calls import Calls, Pending

BATCH_ITEMS = 256
"""Calls that a batch handler gets at once."""
BATCH_SECONDS = 0.005
"""Seconds of batch handling in one loop turn; the rest waits for the next turn."""
BATCH_QUEUE = 20_000
"""Calls that may wait for one batch handler; more are refused."""

Send = Callable[[bytes, bytes], None]
"""(peer identity, encoded item): queue an answer for a peer."""


class Incoming:
    """One call to answer. `again`: its first answer was lost with the instance that ran it, so it may have run."""

    __slots__ = ("_answer", "_id", "again", "args", "deadline", "handler", "run")

    def __init__(
        self, handler: Handler, args: tuple[Any, ...], deadline: float, again: bool, call_id: int, run: int
    ) -> None:
        self.handler = handler
        self.args = args
        self.deadline = deadline
        self.again = again
        self.run = run  # of its lane; 0 outside lanes
        self._id = call_id
        self._answer: Any = None

    @property
    def expired(self) -> bool:
        return now() >= self.deadline

    @property
    def answered(self) -> bool:
        return self._answer is None

    def reply(self, result: Any) -> None:
        """Answer with a result. On the hub. A second answer is ignored: the first one stands."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Answer with an error. On the hub. In a lane, anything but an `AppError` fails those behind it, too."""
        if self.run and not isinstance(error, AppError):
            self.fence()
        self._fail(error)

    def fence(self) -> None:
        """Nothing of this lane that its caller sent before it knew of a failure is run any more."""
        self.handler.fences.close(self.lane, self.run)

    @property
    def lane(self) -> Any:
        """The caller and what the contract names."""
        lane_of = self.handler.method.lane_of
        assert lane_of is not None
        return self._caller, lane_of(self.args)

    @property
    def _caller(self) -> bytes:
        return b""

    def _fail(self, error: Exception) -> None:
        raise NotImplementedError


class RemoteIncoming(Incoming):
    """A call that came over a link."""

    __slots__ = ("_peer",)

    def __init__(
        self, handler: Handler, args: tuple[Any, ...], deadline: float, again: bool, call_id: int, run: int,
        send: Send, peer: bytes,
    ) -> None:  # fmt: skip
        super().__init__(handler, args, deadline, again, call_id, run)
        self._answer = send
        self._peer = peer

    @property
    def _caller(self) -> bytes:
        return self._peer

    def reply(self, result: Any) -> None:
        if self._answer is not None:
            encoded = encode((RESULT, self._id, self.handler.method.encode(result)))
            send, self._answer = self._answer, None
            send(self._peer, encoded)

    def _fail(self, error: Exception) -> None:
        send, self._answer = self._answer, None
        if send is not None:
            send(self._peer, encode_error(self._id, error))


class LocalIncoming(Incoming):
    """A call from a node of this very process."""

    __slots__ = ()

    def __init__(self, handler: Handler, call: Pending, again: bool, calls: Calls) -> None:
        super().__init__(handler, call.args, call.deadline, again, call.id, call.lane.run if call.lane else 0)
        self._answer = calls

    def reply(self, result: Any) -> None:
        calls, self._answer = self._answer, None
        if calls is not None:
            calls.resolve(self._id, result, encoded=False)

    def _fail(self, error: Exception) -> None:
        calls, self._answer = self._answer, None
        if calls is not None:
            calls.reject(self._id, *error_fields(error))


class _WaitedFor(Incoming):
    """A call that no node made: a greenlet of this process waits for it, as long as it takes."""

    __slots__ = ()

    def __init__(self, handler: Handler, args: tuple[Any, ...], done: Done) -> None:
        super().__init__(handler, args, math.inf, False, 0, 0)
        self._answer = done

    def reply(self, result: Any) -> None:
        done, self._answer = self._answer, None
        if done is not None:
            post(done, result, None)

    def _fail(self, error: Exception) -> None:
        done, self._answer = self._answer, None
        if done is not None:
            post(done, None, error)


def error_fields(error: Exception) -> tuple[int, str, str, int]:
    """(code, name, text, retry after ms) of an error on the wire."""
    if isinstance(error, AppError):
        return error.code, "", error.text, error.retry_after
    if isinstance(error, CallError):
        return 0, type(error).__name__, str(error), 0
    return 0, "RemoteError", type(error).__name__, 0


def encode_error(call_id: int, error: Exception) -> bytes:
    return encode((ERROR, call_id, *error_fields(error)))


class Handler:
    """A method of a contract, as this process serves it."""

    __slots__ = ("batch", "fences", "function", "method", "name", "queue", "stats", "tick", "workers")

    def __init__(
        self, name: str, method: Method, function: Callable[..., Any], batch: bool, workers: Workers, stats: Stats
    ) -> None:
        self.name = name  # service.method
        self.method = method
        self.function = function
        self.batch = batch
        self.workers = workers
        self.stats = stats
        self.queue: deque[Incoming] = deque()
        self.fences = Fences()
        self.tick: Tick | None = None


class Dispatcher:
    """All handlers of this process. As the target of local instances it takes calls without any wire."""

    local = True

    def __init__(self, log: Log, calls: Calls) -> None:
        self.handlers: dict[str, Handler] = {}
        self._log = log
        self._calls = calls

    def add(
        self, service: str, method: Method, function: Callable[..., Any], batch: bool, workers: Workers, stats: Stats
    ) -> None:
        if method.lane_of is not None and not batch:
            raise TypeError(f"{service}.{method.name} keeps order in lanes: its handler must be a batch handler")
        handler = Handler(f"{service}.{method.name}", method, function, batch, workers, stats)
        if batch:
            handler.tick = Tick(lambda: self._run_batch(handler))
            stats.gauge(f"queue.{method.name}", lambda: len(handler.queue))
        self.handlers[handler.name] = handler

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs here."""
        return all(not h.queue and not h.workers.queued and not h.workers.busy for h in self.handlers.values())

    # ---- calls that came over a link

    def remote_request(self, item: tuple[Any, ...], send: Send, peer: bytes) -> None:
        """Run REQUEST `item`; its answer goes to `send(peer, ...)`."""
        _, call_id, name, left_ms, again, run, encoded = item
        handler = self.handlers.get(name)
        if handler is None:
            send(peer, encode_error(call_id, BadCall(f"no method {name}")))
            return
        try:
            args = handler.method.decode_args(encoded)
        except Exception as error:
            send(peer, encode_error(call_id, BadCall(f"{name}: {error}")))
            return
        deadline = now() + left_ms / 1000.0
        self._accept(handler, RemoteIncoming(handler, args, deadline, bool(again), call_id, run, send, peer))

    def remote_cast(self, item: tuple[Any, ...]) -> None:
        """Run CAST `item`."""
        _, name, encoded = item
        handler = self.handlers.get(name)
        if handler is None:
            self._log.limited("cast" + name, 60, "unknown cast", method=name)
            return
        try:
            args = handler.method.decode_args(encoded)
        except Exception as error:
            self._log.limited("cast" + name, 60, "undecodable cast", method=name, error=error)
            return
        self._run_cast(handler, args)

    # ---- calls from this process (the interface of a target, like mesh.peer.Peer)

    def is_plain(self, service: str, method: Method) -> bool:
        return not self.handlers[f"{service}.{method.name}"].batch

    def request(self, call: Pending, again: bool) -> None:
        handler = self.handlers[f"{call.service.name}.{call.method.name}"]
        self._accept(handler, LocalIncoming(handler, call, again, self._calls))

    def run_queued(self, handler: Handler, args: tuple[Any, ...]) -> Any:
        """Call a batch handler, together with what else comes for it, and wait for its answer in this greenlet."""
        return wait_for(lambda done: self._accept(handler, _WaitedFor(handler, args, done)))

    def cast(self, service: str, method: Method, args: tuple[Any, ...]) -> None:
        self._run_cast(self.handlers[f"{service}.{method.name}"], args)

    def run_in_place(self, service: str, method: Method, args: tuple[Any, ...]) -> Any:
        """Call a plain handler as a function, in the caller's greenlet and under its deadline."""
        handler = self.handlers[f"{service}.{method.name}"]
        try:
            return handler.function(*args)
        except MeshError:
            raise
        except Exception as error:
            raise self._unexpected(handler, error) from None

    # ---- running

    def _accept(self, handler: Handler, incoming: Incoming) -> None:
        if handler.batch:
            if len(handler.queue) >= BATCH_QUEUE:
                handler.stats.counts[f"drops.{handler.method.name}.full"] += 1
                if incoming.run:
                    incoming.fence()  # now: there may be room for the next one
                post(incoming.fail, Overloaded(f"{handler.name}: {BATCH_QUEUE} calls are waiting"))
                return
            handler.queue.append(incoming)
            assert handler.tick is not None
            handler.tick.arm()
            return
        try:
            handler.workers.submit(self._run_plain, (handler, incoming), incoming.deadline)
        except Overloaded as error:
            handler.stats.counts[f"drops.{handler.method.name}.full"] += 1
            post(incoming.fail, error)

    def _run_plain(self, handler: Handler, incoming: Incoming) -> None:
        if incoming.expired:
            handler.stats.counts[f"drops.{handler.method.name}.expired"] += 1
            return
        started = now()
        try:
            result = handler.function(*incoming.args)
        except MeshError as error:
            post(incoming.fail, error)
        except Exception as error:
            post(incoming.fail, self._unexpected(handler, error))
        else:
            post(self._reply, handler, incoming, result)
        handler.stats.histograms[handler.method.name].add(now() - started)

    def _reply(self, handler: Handler, incoming: Incoming, result: Any) -> None:
        try:
            incoming.reply(result)
        except Exception as error:  # the result does not encode: a bug of the handler, told to its caller
            incoming.fail(self._unexpected(handler, error))

    def _run_batch(self, handler: Handler) -> None:
        queue = handler.queue
        started = now()
        while queue:
            if len(queue) <= BATCH_ITEMS:
                batch = list(queue)
                queue.clear()
            else:
                batch = [queue.popleft() for _ in range(BATCH_ITEMS)]
            if handler.fences or any(c.deadline <= started for c in batch):
                batch = self._live(handler, batch, started)
            self.run_batch(handler, batch)
            if queue and now() - started > BATCH_SECONDS:
                assert handler.tick is not None
                handler.tick.arm_next_turn()
                return

    def _live(self, handler: Handler, batch: list[Incoming], time: float) -> list[Incoming]:
        """What of a batch is to be run: neither expired nor behind a call of its lane that failed."""
        live, counts, name = [], handler.stats.counts, handler.method.name
        for incoming in batch:
            if incoming.deadline <= time:
                counts[f"drops.{name}.expired"] += 1
                if incoming.run:
                    incoming.fence()
            elif incoming.run and handler.fences.holds(incoming.lane, incoming.run):
                counts[f"drops.{name}.behind"] += 1
                incoming.fail(Timeout(f"{handler.name}: a call before this one failed"))
            else:
                live.append(incoming)
        return live

    def run_batch(self, handler: Handler, batch: Sequence[Incoming]) -> None:
        """Hand `batch` to its handler; if it raises, what it left unanswered fails with it."""
        handler.stats.counts[f"calls.{handler.method.name}"] += len(batch)
        try:
            handler.function(batch)
        except Exception as error:
            failure = self._unexpected(handler, error)
            for incoming in batch:
                incoming.fail(failure)

    def _run_cast(self, handler: Handler, args: tuple[Any, ...]) -> None:
        def run() -> None:
            try:
                handler.function(*args)
            except Exception as error:
                self._unexpected(handler, error)

        try:
            handler.workers.submit(run, (), None)
        except Overloaded:
            handler.stats.counts[f"drops.{handler.method.name}.full"] += 1

    def _unexpected(self, handler: Handler, error: Exception) -> RemoteError:
        """Log what a handler did not mean to raise; the caller learns the name of the error, not the stack."""
        handler.stats.counts[f"errors.{handler.method.name}"] += 1
        self._log.error("handler failed", method=handler.name, exc_info=error)
        return RemoteError(f"{handler.name}: {type(error).__name__}")
