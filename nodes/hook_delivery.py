"""Delivering events to one endpoint: in order per key, several keys at once, again until they are taken.

    stream -> a window of events behind the position -> one lane per key -> workers -> POST

An event is done when it is answered with 2xx. One that is not is tried again after 0.5 s, 1 s, ... 60 s; what is behind
it in its lane waits, other lanes do not. While nothing at all is taken, a few events are tried now and then. The
position in the store is behind all that is done without a gap, so what comes after a crash may come twice, with the
same id.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import TYPE_CHECKING

import gevent
import gevent.queue
import msgspec

from mesh.loop import Later, now
from nodes.hook_settings import EVERY, Endpoint
from nodes.lease import Lease
from store.errors import StoreError
from store.events import Event, Events, Place
from webapi.outgoing import Failed, Outgoing, Refused

if TYPE_CHECKING:
    from mesh.log import Log
    from mesh.stats import Stats

WINDOW = 1000
"""Events under way: so many that are not taken hold the others up."""
WORKERS = 8
IDLE_SECONDS = 0.1
STORE_SECONDS = 0.5
SAVE_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
DOWN_AFTER = 3
"""So many failures in a row, of whatever events, and the endpoint is taken to be down."""


class Delivery:
    """One endpoint."""

    def __init__(
        self, name: str, endpoint: Endpoint, outgoing: Outgoing, events: Events, lease: Lease, stats: Stats, log: Log,
        give_up_seconds: float,
    ) -> None:  # fmt: skip
        self.name = name
        self.outgoing = outgoing
        self.trouble = ""
        """Why the newest try failed; "" when it did not."""
        self._wanted = None if EVERY in endpoint.events else frozenset(endpoint.events)
        self._events = events
        self._lease = lease
        self._stats = stats
        self._log = log
        self._give_up_ms = give_up_seconds * 1000
        self._stopping = False
        self._life = 0  # grows when the lease was lost: what was under way then counts no more
        self._save_at = 0.0
        self._ready = gevent.queue.SimpleQueue()  # lanes whose first event may be sent, and of which life
        self._forget()

    def _forget(self) -> None:
        self._life += 1
        self._read_to = self._saved = ""
        self._window: deque[tuple[Place, list[bool]]] = deque()  # in the order of the stream; whether it is done
        self._lanes: dict[str, deque[tuple[Place, list[bool]]]] = {}
        self._tries: dict[str, int] = {}  # of the first event of a lane
        self._failures = 0  # in a row
        self._rest_until = 0.0

    @property
    def waiting(self) -> int:
        """Events under way."""
        return len(self._window)

    @property
    def age(self) -> float:
        """How long the oldest event that is not done has waited, s."""
        return time.time() - self._window[0][0].time / 1000 if self._window else 0.0

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until `stop`; in a greenlet."""
        while not self._stopping:
            try:
                if not self._lease.held():
                    if self._read_to:
                        self._forget()
                    gevent.sleep(STORE_SECONDS)
                elif not self._fill():
                    self._save()
                    gevent.sleep(IDLE_SECONDS)
            except StoreError as error:
                self._log.limited("deliver", 10, "webhooks wait for the store", endpoint=self.name, error=error)
                gevent.sleep(STORE_SECONDS)

    def _fill(self) -> bool:
        """Take more events; whether there were any."""
        if not self._read_to:
            self._read_to = self._saved = self._events.position(self.name)
        self._clean()
        room = WINDOW - len(self._window)
        places = self._events.after(self._read_to, room) if room > 0 else []
        for place in places:
            self._read_to = place.at
            row = (place, [self._wanted is not None and place.event.type not in self._wanted])
            self._window.append(row)
            if not row[1][0]:
                self._line_up(place.event.key, row)
        return bool(places)

    def _line_up(self, key: str, row: tuple[Place, list[bool]]) -> None:
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque((row,))
            self._ready.put((self._life, key))
        else:
            lane.append(row)

    def _clean(self) -> None:
        while self._window and self._window[0][1][0]:
            self._window.popleft()

    def _save(self, *, now_: bool = False) -> None:
        """Note the position, now and then."""
        self._clean()
        at = _before(self._window[0][0].at) if self._window else self._read_to
        if at != self._saved and (now_ or now() >= self._save_at):
            self._save_at = now() + SAVE_SECONDS
            self._events.move(self.name, at)
            self._saved = at

    def settle(self) -> None:
        """Note the position and let another go on. After `stop`; in a greenlet. Raises `StoreError`."""
        if self._read_to and self._lease.good:
            self._save(now_=True)
        self._lease.give_up()
        self.outgoing.close()

    # ---- workers

    def work(self) -> None:
        """For ever; in a greenlet, `WORKERS` of them."""
        while True:
            life, key = self._ready.get()
            while life == self._life and ((pause := self._rest_until - now()) > 0 or not self._lease.good):
                gevent.sleep(min(max(pause, STORE_SECONDS), 1.0))
            if life != self._life:
                continue
            lane = self._lanes[key]
            done = self._try(lane[0][0], key)
            if life != self._life:
                continue
            if done:
                lane.popleft()[1][0] = True
                self._tries.pop(key, None)
                if lane:
                    self._ready.put((life, key))
                else:
                    del self._lanes[key]
            else:
                tries = self._tries[key] = self._tries.get(key, 0) + 1
                Later(pause_after(tries), self._ready.put, (life, key))

    def _try(self, place: Place, key: str) -> bool:
        """Send an event; whether it is done with."""
        trouble = self.send(place.event, place.time)
        if not trouble:
            self._stats.counts["delivered"] += 1
            self._failures = 0
            self.trouble = ""
            return True
        if now() >= self._rest_until:  # those that were sent at the same time count as one
            self._failures += 1
        self._stats.counts["failed"] += 1
        if not self.trouble:
            self._log.warning("an event was not taken", endpoint=self.name, event=place.event.id, reason=trouble)
        self.trouble = trouble
        if self._failures >= DOWN_AFTER:
            self._rest_until = now() + pause_after(self._failures - DOWN_AFTER + 1)
        if time.time() * 1000 - place.time > self._give_up_ms:
            self._stats.counts["given_up"] += 1
            self._log.limited("given up", 10, "an event was given up", endpoint=self.name, event=place.event.id)
            return True
        return False

    def send(self, event: Event, time_ms: int) -> str:
        """Send an event once; why it was not taken, "" when it was."""
        try:
            reply = self.outgoing.post(event.id, body_of(event, time_ms))
        except (Failed, Refused) as error:
            return str(error)
        return "" if 200 <= reply.status < 300 else f"it answered {reply.status}"


def pause_after(tries: int) -> float:
    """Seconds to wait after so many failures, a quarter more or less."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries - 1, 10)) * random.uniform(0.75, 1.25))


def body_of(event: Event, time_ms: int) -> bytes:
    """What is posted: {"id", "type", "time", "data"}."""
    return msgspec.json.encode({"id": event.id, "type": event.type, "time": time_ms, "data": msgspec.Raw(event.data)})


def _before(at: str) -> str:
    """The greatest id below one."""
    ms, _, number = at.partition("-")
    return f"{ms}-{int(number) - 1}" if int(number) else f"{int(ms) - 1}-{2**64 - 1}"
