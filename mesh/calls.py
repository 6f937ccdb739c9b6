"""The caller's side of calls: what waits for an answer, until when, and what happens when an instance is lost.

A call has exactly one outcome. It is in `_pending` from `start` to its outcome; whoever removes it there owns the one
completion. Deadlines are swept from buckets of `BUCKET` seconds, not by a timer per call.

- Sent and unanswered when the link dies: idempotent calls are sent again within the deadline and the retry budget,
  others end with `PeerLost`.
- No live instance: the call is parked until one comes or the deadline passes.
- A method with a *lane* (arguments whose equal values form one lane) keeps its calls in order: a lane is pinned to one
  instance as long as any of its calls is unanswered. When that instance is lost, all of them are sent to the next
  owner, oldest first, marked `again`, before any newer one. If one of them fails, those behind it in the lane fail
  with it, so that nothing overtakes a call whose fate the client does not know; what is started later belongs to a new
  *run* of the lane, by which a server tells it from what was on its way (`mesh.fences`). Handlers of lanes must be
  idempotent.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from mesh.balance import Instance, Pool
from mesh.contract import Method
from mesh.errors import (
    CALL_ERRORS,
    AppError,
    CallError,
    Overloaded,
    PeerLost,
    RemoteError,
    Timeout,
    Unreachable,
)
from mesh.loop import Done, Waiter, current_deadline, now, on_hub, post
from mesh.stats import Stats

BUCKET = 0.05
"""Seconds per deadline bucket: a timeout fires up to this much late."""
MAX_PENDING = 100_000
"""Unanswered calls of one process; more are refused."""
BUDGET_MAX = 100.0
BUDGET_PER_CALL = 0.1
"""Retry budget: each call adds a tenth of a retry, up to a hundred."""


class Pending:
    """One call that waits for its outcome."""

    __slots__ = ("args", "deadline", "done", "id", "instance", "lane", "method", "sent", "service")

    def __init__(
        self, call_id: int, service: Service, method: Method, args: tuple[Any, ...], done: Done, deadline: float
    ) -> None:
        self.id = call_id
        self.service = service
        self.method = method
        self.args = args
        self.done = done
        self.deadline = deadline
        self.instance: Instance | None = None
        self.lane: Lane | None = None
        self.sent = False  # it may have reached an instance


class Lane:
    """Unanswered calls that must keep their order, oldest first."""

    __slots__ = ("calls", "instance", "key", "run")

    def __init__(self, key: tuple[Any, ...], run: int) -> None:
        self.key = key
        self.run = run  # at most the id of its first call, above the id of the last call that failed
        self.instance: Instance | None = None
        self.calls: dict[int, Pending] = {}


class Service:
    """A service as its callers see it: instances, and what waits for one."""

    __slots__ = ("has_local", "lanes", "name", "parked", "pool", "stalled")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pool = Pool(name)
        self.has_local = False  # an instance lives in this very process
        self.lanes: dict[tuple[Any, ...], Lane] = {}
        self.parked: deque[int] = deque()  # ids of calls that wait for an instance
        self.stalled: dict[Lane, None] = {}  # lanes that wait for an instance


class Calls:
    """All calls that this process makes."""

    def __init__(self, stats: Stats) -> None:
        self.services: dict[str, Service] = {}
        self.stats = stats
        self._pending: dict[int, Pending] = {}
        self._buckets: dict[int, list[int]] = {}
        self._swept = int(now() / BUCKET)
        self._next_id = 0
        self._noted = 0  # calls up to this id have a bucket
        self._budget = BUDGET_MAX

    def service(self, name: str) -> Service:
        if name not in self.services:
            self.services[name] = Service(name)
        return self.services[name]

    @property
    def unanswered(self) -> int:
        return len(self._pending)

    # ---- starting a call

    def blocking(self, service: str, method: Method, args: tuple[Any, ...]) -> Any:
        """Call and wait, in a greenlet. A plain handler in this very process runs in place, as a function call."""
        entry = self.services.get(service) or self.service(service)
        if entry.has_local and method.lane_of is None and not on_hub():
            key = None if method.key_index is None else args[method.key_index]
            instance = entry.pool.choose(key, now())
            if instance is not None and instance.target.local and instance.target.is_plain(service, method):
                return instance.target.run_in_place(service, method, args)
        waiter = Waiter()
        self.start(service, method, args, waiter.done)
        return waiter.wait()

    def start(self, service: str, method: Method, args: tuple[Any, ...], done: Done) -> None:
        """Call from anywhere; `done` is called on the hub, exactly once, at the latest about at the deadline."""
        time = now()
        deadline = time + method.options.timeout
        ambient = current_deadline()
        if ambient is not None and ambient < deadline:
            deadline = ambient
        if deadline <= time:
            post(done, None, Timeout(f"{service}.{method.name}: no time left"))
            return
        if len(self._pending) >= MAX_PENDING:
            self.stats.counts["drops.calls.pending_full"] += 1
            post(done, None, Overloaded(f"{MAX_PENDING} calls wait for answers"))
            return
        self._next_id = call_id = self._next_id + 1
        entry = self.services.get(service) or self.service(service)
        call = self._pending[call_id] = Pending(call_id, entry, method, args, done, deadline)
        if self._budget < BUDGET_MAX:
            self._budget += BUDGET_PER_CALL
        if method.lane_of is not None:
            self._enter_lane(call, time)
        else:
            self._route(call, time)

    def cast(self, service: str, method: Method, args: tuple[Any, ...]) -> None:
        """Send without an answer, best effort: dropped (and counted) when no instance is live."""
        key = None if method.key_index is None else args[method.key_index]
        instance = self.service(service).pool.choose(key, now())
        if instance is None:
            self.stats.counts["drops.casts.unreachable"] += 1
        else:
            instance.target.cast(service, method, args)

    def _route(self, call: Pending, time: float) -> None:
        method = call.method
        key = None if method.key_index is None else call.args[method.key_index]
        instance = call.service.pool.choose(key, time)
        if instance is None:
            call.service.parked.append(call.id)
        else:
            self._send(call, instance, again=call.sent)

    def _send(self, call: Pending, instance: Instance, again: bool) -> None:
        call.instance = instance
        call.sent = True
        instance.outstanding += 1
        instance.target.request(call, again)

    # ---- lanes

    def _enter_lane(self, call: Pending, time: float) -> None:
        method, service = call.method, call.service
        assert method.lane_of is not None
        key = (method, method.lane_of(call.args))
        lane = service.lanes.get(key)
        if lane is None:
            lane = service.lanes[key] = Lane(key, call.id)
            self._pin(service, lane, call, time)
        call.lane = lane
        lane.calls[call.id] = call
        if lane.instance is not None:
            self._send(call, lane.instance, again=False)

    def _pin(self, service: Service, lane: Lane, call: Pending, time: float) -> None:
        index = call.method.key_index
        lane.instance = service.pool.choose(None if index is None else call.args[index], time)
        if lane.instance is None:
            service.stalled[lane] = None
        else:
            lane.instance.lanes[lane] = None

    def _resume_lane(self, service: Service, lane: Lane, time: float) -> None:
        """Choose an owner for a lane that lost its own, and send all of its calls there, oldest first."""
        calls = list(lane.calls.values())
        self._pin(service, lane, calls[0], time)
        if lane.instance is not None:
            self.stats.counts["calls.resent"] += len(calls)
            for call in calls:
                self._send(call, lane.instance, again=call.sent)

    def _leave_lane(self, call: Pending) -> None:
        lane = call.lane
        assert lane is not None
        del lane.calls[call.id]
        if not lane.calls:
            del call.service.lanes[lane.key]
            call.service.stalled.pop(lane, None)
            if lane.instance is not None:
                lane.instance.lanes.pop(lane, None)

    # ---- outcomes

    def _take(self, call_id: int) -> Pending | None:
        call = self._pending.pop(call_id, None)
        if call is not None and call.instance is not None:
            call.instance.outstanding -= 1
        return call

    def resolve(self, call_id: int, result: Any, encoded: bool) -> None:
        """A result came. On the hub."""
        call = self._answered(call_id)
        if call is None:
            return
        if call.lane is not None:
            self._leave_lane(call)
        if encoded:
            try:
                result = call.method.decode_result(result)
            except Exception as error:
                call.done(None, RemoteError(f"{call.service.name}.{call.method.name}: bad result: {error}"))
                return
        call.done(result, None)

    def reject(self, call_id: int, code: int, name: str, text: str, retry_after: int = 0) -> None:
        """An error came. On the hub."""
        call = self._answered(call_id)
        if call is not None:
            error: Exception = AppError(code, text, retry_after) if code else CALL_ERRORS.get(name, RemoteError)(text)
            self._fail(call, error)

    def _answered(self, call_id: int) -> Pending | None:
        """The call that an answer is for; its instance is well. None when it has had its outcome already."""
        call = self._pending.pop(call_id, None)
        if call is None:
            self.stats.counts["drops.answers.late"] += 1
            return None
        instance = call.instance
        if instance is not None:
            instance.outstanding -= 1
            if instance.troubled and instance.succeeded():
                call.service.pool.changed()
        return call

    def refused(self, call_ids: list[int], instances: list[Instance]) -> None:
        """The link to `instances` could not take these calls: they surely did not run, so another instance may."""
        time = now()
        for service in self.services.values():
            service.pool.changed()
        for call_id in call_ids:
            call = self._pending.get(call_id)
            if call is None or call.instance not in instances:
                continue
            assert call.instance is not None
            call.instance.outstanding -= 1
            call.instance = None
            call.sent = False
            if call.lane is None:
                self._route(call, time)
            # A lane's calls stay in it: the link is going down, and `lost` moves the whole lane in order.

    def _fail(self, call: Pending, error: Exception) -> None:
        behind: list[Pending] = []
        lane = call.lane
        if lane is not None:
            if isinstance(error, CallError):
                behind = [c for c in lane.calls.values() if c.id > call.id]
                lane.run = self._next_id + 1
            self._leave_lane(call)
        self.stats.counts["calls.failed." + type(error).__name__] += 1
        call.done(None, error)
        for later in behind:
            if self._take(later.id) is not None:
                self._leave_lane(later)
                self.stats.counts["calls.failed.behind"] += 1
                later.done(None, error)

    def sweep(self) -> None:
        """Fail what is past its deadline. To be called every `BUCKET` seconds."""
        time = now()
        current = int(time / BUCKET)
        self._note_deadlines()
        for bucket in range(self._swept, current + 1):
            for call_id in self._buckets.pop(bucket, ()):
                call = self._take(call_id)
                if call is None:
                    continue
                instance = call.instance
                if instance is not None and instance.timed_out(time):
                    self.stats.counts["calls.ejections"] += 1
                    call.service.pool.changed()
                where = instance.process if instance is not None else "no live instance"
                name = f"{call.service.name}.{call.method.name}"
                if call.sent:
                    self._fail(call, Timeout(f"{name}: no answer from {where}"))
                else:
                    self._fail(call, Unreachable(f"{name}: {where}"))
        self._swept = current + 1

    def _note_deadlines(self) -> None:
        """Put the calls of since the last sweep into buckets: most are answered before they need one."""
        for call_id in reversed(self._pending):
            if call_id <= self._noted:
                break
            bucket = int(self._pending[call_id].deadline / BUCKET) + 1
            self._buckets.setdefault(bucket, []).append(call_id)
        self._noted = self._next_id

    def give_up(self) -> None:
        """Fail what waits for an instance that is not there: for a process that ends, as nobody comes when all stop."""
        for service in list(self.services.values()):
            waiting, service.parked = list(service.parked), deque()
            waiting += [next(iter(lane.calls)) for lane in service.stalled]  # those behind it fail with it
            for call_id in waiting:
                if (call := self._pending.get(call_id)) is not None and call.instance is None:
                    del self._pending[call_id]
                    error = PeerLost if call.sent else Unreachable
                    self._fail(call, error(f"{service.name}.{call.method.name}: no live instance"))

    # ---- instances come and go

    def lost(self, instances: list[Instance]) -> None:
        """The link to these instances died: resend what may be resent, fail the rest."""
        gone = set(map(id, instances))
        time = now()
        for service in self.services.values():
            service.pool.changed()
        orphans = [c for c in self._pending.values() if c.instance is not None and id(c.instance) in gone]
        for instance in instances:
            instance.outstanding = 0
        for call in orphans:
            call.instance = None
            if call.lane is None:
                self._retry(call, time)
        for instance in instances:
            lanes, instance.lanes = instance.lanes, {}
            for lane in lanes:
                first = next(iter(lane.calls.values()))
                self._resume_lane(first.service, lane, time)

    def _retry(self, call: Pending, time: float) -> None:
        if call.method.options.idempotent and self._budget >= 1.0:
            self._budget -= 1.0
            self.stats.counts["calls.retried"] += 1
            self._route(call, time)
        elif self._take(call.id) is not None:
            self._fail(call, PeerLost(f"{call.service.name}.{call.method.name}: the link died before the answer"))

    def available(self, instance: Instance) -> None:
        """An instance came up or changed its state: send what waited for one."""
        time = now()
        for service in self.services.values():
            if instance not in service.pool.instances:
                continue
            service.pool.changed()
            if not instance.up or instance.state == "starting":
                continue
            stalled, service.stalled = service.stalled, {}
            for lane in stalled:
                self._resume_lane(service, lane, time)
            parked, service.parked = service.parked, deque()
            for call_id in parked:
                call = self._pending.get(call_id)
                if call is not None and call.instance is None:
                    self._route(call, time)
