"""The engine: what runs on the hub of this process's one gevent loop, and the greenlets that are switched into from it.

Rules, each with its measurement (`docs/performance.md`):
- Whatever leaves the process is collected during a loop turn and leaves once, through a `Tick` (0.14 µs to arm).
- A new greenlet costs 8-13 µs, switching into a live one 0.6 µs: greenlets are pooled (`Workers`), never made per call.
- A completion callback is always called on the hub. `wait_for` turns one into a blocking call of a greenlet.
- Time is `now()`, monotonic seconds. Deadlines are such times inside a process and time left on the wire.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from mesh.errors import Overloaded

Done = Callable[[Any, "Exception | None"], None]
"""A completion: called exactly once, on the hub, with (result, None) or (None, error)."""

now = time.monotonic
"""Monotonic seconds."""


def on_hub() -> bool:
    """Whether the caller runs on the hub, where nothing may block."""
    return getcurrent() is gevent.get_hub()


def post(function: Callable[..., Any], *args: Any) -> None:
    """Run `function` on the hub in this loop turn, after what is queued already."""
    gevent.get_hub().loop.run_callback(function, *args)


class Tick:
    """Runs `flush` once on the hub in this loop turn, however often it was armed."""

    __slots__ = ("_run_callback", "armed", "flush")

    def __init__(self, flush: Callable[[], None]) -> None:
        self.flush = flush
        self.armed = False
        self._run_callback = gevent.get_hub().loop.run_callback

    def arm(self) -> None:
        if not self.armed:
            self.armed = True
            self._run_callback(self._run)

    def arm_next_turn(self) -> None:
        """Run after the loop has polled for events once: for work that goes on and must not starve them."""
        if not self.armed:
            self.armed = True
            Later(0.0, self._run)

    def _run(self) -> None:
        self.armed = False
        self.flush()


class Every:
    """Calls `function` on the hub every `seconds`, until `stop`."""

    __slots__ = ("_timer",)

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds, seconds)
        self._timer.start(function)

    def stop(self) -> None:
        self._timer.stop()
        self._timer.close()


class Later:
    """Calls `function` on the hub once after `seconds`, unless `stop` comes first."""

    __slots__ = ("_timer",)

    def __init__(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(function, *args)

    def stop(self) -> None:
        self._timer.stop()
        self._timer.close()


def wait_for(start: Callable[[Done], None]) -> Any:
    """Block this greenlet until the completion handed to `start` is called; return its result or raise its error.

    `start` must see to it that the completion comes, a deadline included.
    """
    waiter = Waiter()
    start(waiter.done)
    return waiter.wait()


class Waiter:
    """Blocks the greenlet that makes it, in `wait`, until `done` is called. For one use."""

    __slots__ = ("_greenlet", "_hub", "_outcome")

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._greenlet = getcurrent()
        self._outcome: tuple[Any, Exception | None] | None = None  # of a completion that came at once
        if self._greenlet is self._hub:
            raise RuntimeError("the hub cannot wait; use a completion callback")

    def done(self, result: Any, error: Exception | None) -> None:
        """The completion. Ignored when the greenlet waits no more, because something was thrown into it."""
        current = getcurrent()
        if self._greenlet is current:
            self._outcome = result, error
        elif current is not self._hub:  # who closes a store, say: nobody would switch back to him
            post(self.done, result, error)
        elif self._greenlet is not None:
            self._greenlet.switch(result, error)

    def wait(self) -> Any:
        """The result; raises the error."""
        try:
            result, error = self._outcome or self._hub.switch()
        finally:
            self._greenlet = None
        if error is not None:
            raise error
        return result


def current_deadline() -> float | None:
    """The deadline under which this greenlet serves a call (`now()` clock), or None outside of calls."""
    return getattr(getcurrent(), "mesh_deadline", None)


class within:
    """Shortens the ambient deadline of this greenlet: `with within(0.2): self.history.page(...)`."""

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        me = getcurrent()
        self._before = getattr(me, "mesh_deadline", None)
        limit = now() + self._seconds
        me.mesh_deadline = limit if self._before is None else min(limit, self._before)

    def __exit__(self, *_: object) -> None:
        getcurrent().mesh_deadline = self._before


Job = tuple[Callable[..., None], tuple[Any, ...], "float | None"]


class Workers:
    """A bounded pool of live greenlets for handlers that may block, with a bounded queue before it."""

    def __init__(self, name: str, size: int, queue_limit: int) -> None:
        self.name = name
        self.size = size
        self.queue_limit = queue_limit
        self.refused = 0  # jobs refused because the queue was full
        self.busy = 0
        self._started = 0
        self._idle: list[Any] = []
        self._queue: deque[Job] = deque()
        self._tick = Tick(self._pump)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def submit(self, function: Callable[..., None], args: tuple[Any, ...], deadline: float | None) -> None:
        """Run `function(*args)` in a pooled greenlet under `deadline`. Raises `Overloaded` when the queue is full.

        `function` must not raise: whoever submits owns the errors.
        """
        if len(self._queue) >= self.queue_limit:
            self.refused += 1
            raise Overloaded(f"{self.name}: {self.queue_limit} calls are waiting")
        self._queue.append((function, args, deadline))
        self._tick.arm()

    def _pump(self) -> None:
        queue, idle = self._queue, self._idle
        while queue:
            if idle:
                idle.pop().switch(queue.popleft())
            elif self._started < self.size:
                self._started += 1
                greenlet(self._work, gevent.get_hub()).switch(queue.popleft())
            else:
                return

    def _work(self, job: Job) -> None:
        me = getcurrent()
        switch_to_hub = gevent.get_hub().switch
        while True:
            function, args, me.mesh_deadline = job
            self.busy += 1
            function(*args)
            self.busy -= 1
            if self._queue:
                job = self._queue.popleft()
                continue
            self._idle.append(me)
            job = switch_to_hub()


def settle_gc() -> None:
    """Move what the start allocated out of the collector's way (worth about 1 µs per message afterwards)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
