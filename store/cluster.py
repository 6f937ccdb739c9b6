"""A Redis Cluster: a connection to each master, and for each slot the order of what is under way.

While a slot is where it was, its commands leave at once. When one is answered that it belongs elsewhere (MOVED, ASK) or
cannot run now (TRYAGAIN, CLUSTERDOWN), it did not run; then the slot is *held*: what comes next waits here, what is
under way is waited for, and what was turned away goes first again, one at a time until one is answered where it
now is. So nothing of a session overtakes what was sent before it.

While a slot is being moved its keys are in two places, and a script must not see half of them. Every script therefore
names one more key, that never exists: the server that gives the slot away answers ASK, the other one TRYAGAIN, until
all of it is moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import gevent
import hiredis

from mesh.loop import Done, Every, Later, now, post
from store import redis as engine
from store.address import Address, ClusterAddress
from store.client import Call, Client, DoneAll, T
from store.connection import pack, query
from store.errors import StoreRefused, StoreUnavailable
from store.redis import Redis
from store.scripts import Script
from store.slots import SLOTS, key_slot, tag_of

RETRY_SECONDS = 0.02
"""Pause before a held slot is tried again."""
REFRESH_SECONDS = 0.1
"""Pause between two looks at the slots while they are not all known."""
QUICK_REDIRECTS = 3
"""Redirections of one command that are followed without a pause."""
SKEW_US = 1_000_000
"""How far apart the clocks of the servers may be; only used while one of them cannot be asked."""
_TURNED_AWAY = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")
_KEY_AT = {"EVALSHA": 3, "XGROUP": 2, "XINFO": 2}
"""Where the key of a command stands, if not behind its name."""
_UNKNOWN = ("", "?")
_ASKING = pack(("ASKING",))

Place = tuple[str, int]
"""Host and port of a server."""


class _Request:
    __slots__ = ("deadline", "done", "packed", "redirects", "slot")

    def __init__(self, slot: _Slot, done: Done, packed: bytes, deadline: float) -> None:
        self.slot = slot
        self.done = done
        self.packed = packed
        self.deadline = deadline
        self.redirects = 0


class _Slot:
    """Of one slot: what is under way and what waits. `place` is where it was last said to be."""

    __slots__ = ("asked", "held", "holding", "number", "place", "server", "timer", "turned_away", "under_way")

    def __init__(self, number: int) -> None:
        self.number = number
        self.place: Place | None = None
        self.server: Redis | None = None  # where commands are under way
        self.under_way = 0
        self.holding = False
        self.held: deque[_Request] = deque()
        self.turned_away: list[_Request] = []
        self.asked: Place | None = None  # for one command
        self.timer: Later | None = None


class Cluster(Client):
    """Connections to all masters. `scripts` are loaded on each."""

    together = False

    def __init__(self, address: ClusterAddress, scripts: Sequence[Script] = ()) -> None:
        self.address = address
        self._scripts = scripts
        self._template = address.seeds[0]
        self._slots: dict[int, _Slot] = {}
        self._places: list[Place | None] = [None] * SLOTS
        self._masters: set[Place] = set()
        self._servers: dict[Place, Redis] = {}
        self._refreshing: Any = None
        self._trouble = "its servers are not known yet"
        self._closed = False
        self._sweeper = Every(engine.SWEEP, self._sweep)
        self._refresh()

    # ---- commands

    def command(self, done: Done, *args: Any) -> None:
        if args == ("TIME",):
            self._time(done)
            return
        key = args[args.index("STREAMS") + 1] if args[0] == "XREADGROUP" else args[_KEY_AT.get(args[0], 1)]
        self._start(key if isinstance(key, str) else key.decode(), done, args)

    def evaluate(self, done: Done, script: Script, keys: Sequence[str], args: Sequence[Any]) -> None:
        absent = f"{tag_of(keys[0])}:-"
        self._start(keys[0], done, ("EVALSHA", script.sha, len(keys) + 1, *keys, absent, *args))

    def command_all(self, done: DoneAll, commands: Sequence[Sequence[Any]]) -> None:
        came = _collect(done, len(commands))
        for n, command in enumerate(commands):
            self.command(partial(came, n), *command)

    def evaluate_all(self, done: DoneAll, calls: Sequence[Call]) -> None:
        came = _collect(done, len(calls))
        for n, (script, keys, args) in enumerate(calls):
            self.evaluate(partial(came, n), script, keys, args)

    def parts(self, items: Sequence[T], tag_of: Callable[[T], str]) -> Collection[Sequence[T]]:
        found: dict[str, list[T]] = {}
        for item in items:
            found.setdefault(tag_of(item), []).append(item)
        return found.values()

    def servers(self) -> Sequence[Redis]:
        if None in self._places:
            raise StoreUnavailable(f"{self.address}: {self._trouble}")
        return [self._server(place) for place in sorted(self._masters)]

    def close(self) -> None:
        self._closed = True
        self._sweeper.stop()
        if self._refreshing is not None:
            self._refreshing.kill(block=False)
        for server in list(self._servers.values()):
            server.close()
        for slot in self._slots.values():
            self._fail(slot, "the client was closed")

    # ---- sending

    def _time(self, done: Done) -> None:
        """The earliest of the servers' times."""
        up = [server for place in self._masters if (server := self._server(place)).connected]
        missing = len(up) < len(self._masters)

        def came(times: list[Any] | None, error: Exception | None) -> None:
            if times is None:
                done(None, error)
                return
            earliest = min(int(seconds) * 1_000_000 + int(micros) for seconds, micros in times)
            done(divmod(earliest - SKEW_US * missing, 1_000_000), None)

        if not up:
            post(done, None, StoreUnavailable(f"{self.address}: {self._trouble}"))
            return
        one_came = _collect(came, len(up))
        for n, server in enumerate(up):
            server.command(partial(one_came, n), "TIME")

    def _start(self, key: str, done: Done, args: Sequence[Any]) -> None:
        number = key_slot(key)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot(number)
        request = _Request(slot, done, pack(tuple(args)), now() + engine.DEADLINE)
        if slot.holding:
            if len(slot.held) >= engine.MAX_WAITING:
                post(done, None, StoreUnavailable(f"{engine.MAX_WAITING} commands wait for Redis"))
            else:
                slot.held.append(request)
            return
        self._send(request)

    def _send(self, request: _Request) -> None:
        """To where the slot's commands are under way, else to where the slot is."""
        slot = request.slot
        if not slot.under_way:
            place = slot.asked or self._places[slot.number]
            if place is None:
                self._hold(slot)
                slot.held.appendleft(request)
                return
            slot.server = self._server(place)
            if slot.asked is not None:
                slot.server.send(_ignore, _ASKING, request.deadline)
        assert slot.server is not None
        slot.under_way += 1
        slot.server.send(partial(self._came, request), request.packed, request.deadline)

    def _came(self, request: _Request, reply: Any, error: Exception | None) -> None:
        slot = request.slot
        slot.under_way -= 1
        asked, slot.asked = slot.asked, None
        if isinstance(error, StoreRefused) and str(error).startswith(_TURNED_AWAY):
            self._turn_away(request, str(error))
        else:
            if isinstance(error, StoreUnavailable):
                self._refresh()
                self._fail(slot, "what was sent before it got no answer")
            elif slot.holding and asked is None and not slot.turned_away:
                slot.holding = False  # it is there again
            request.done(reply, error)
        if slot.under_way or self._closed:
            return
        if slot.turned_away:
            slot.held.extendleft(reversed(slot.turned_away))
            pause = (slot.asked is None and slot.place is None) or slot.turned_away[0].redirects > QUICK_REDIRECTS
            slot.turned_away.clear()
            self._go_on(slot, RETRY_SECONDS if pause else 0.0)
        elif slot.held:
            self._go_on(slot, 0.0)
        else:
            slot.holding = False

    def _turn_away(self, request: _Request, text: str) -> None:
        slot = request.slot
        slot.holding, slot.asked, slot.place = True, None, None
        request.redirects += 1
        slot.turned_away.append(request)
        kind, *rest = text.split()
        if kind in ("MOVED", "ASK"):
            host, _, port = rest[1].rpartition(":")
            if host in _UNKNOWN:  # the server does not know its own
                host = slot.server.address.host if slot.server is not None else self._template.host
            slot.place = host, int(port)
            if kind == "ASK":
                slot.asked = slot.place
            else:
                self._places[slot.number] = slot.place
        if kind != "ASK":
            self._refresh()

    def _hold(self, slot: _Slot) -> None:
        slot.holding = True
        self._refresh()
        self._go_on(slot, RETRY_SECONDS)

    def _go_on(self, slot: _Slot, pause: float) -> None:
        """Send the first that waits; all of them when the slot is not held any more."""
        if pause:
            if slot.timer is None:
                slot.timer = Later(pause, self._try_again, slot)
            return
        while slot.held:
            self._send(slot.held.popleft())
            if slot.holding:
                return

    def _try_again(self, slot: _Slot) -> None:
        assert slot.timer is not None
        slot.timer.stop()
        slot.timer = None
        if not slot.under_way and not self._closed:
            if not slot.held:
                slot.holding = False
            self._go_on(slot, 0.0)

    def _sweep(self) -> None:
        time = now()
        for slot in self._slots.values():
            if slot.held and slot.held[0].deadline <= time and not slot.under_way:
                self._fail(slot, self._trouble if None in self._places else "the slot is not served")

    def _fail(self, slot: _Slot, why: str) -> None:
        """All that waits, so that nothing overtakes."""
        held, slot.held = slot.held, deque()
        error = StoreUnavailable(f"{self.address}: slot {slot.number}: {why}")
        for request in held:
            request.done(None, error)

    # ---- which slot is where

    def _server(self, place: Place) -> Redis:
        server = self._servers.get(place)
        if server is None:
            server = self._servers[place] = Redis(self._template.at(*place), self._scripts)
        return server

    def _refresh(self) -> None:
        """Ask where the slots are, unless that is under way."""
        if self._refreshing is None and not self._closed:
            self._refreshing = gevent.spawn(self._look)

    def _look(self) -> None:
        try:
            while not self._closed:
                if self._look_once() and None not in self._places:
                    return
                gevent.sleep(REFRESH_SECONDS)
        finally:
            self._refreshing = None

    def _look_once(self) -> bool:
        known = [server.address for server in self._servers.values() if server.connected]
        troubles = []
        for address in dict.fromkeys((*known, *self.address.seeds)):
            try:
                (rows,) = query(address, ("CLUSTER", "SLOTS"))
            except (OSError, hiredis.HiredisError, StoreRefused) as error:
                troubles.append(f"{address.host}:{address.port}: {error}")
                continue
            self._learn(rows, address)
            return True
        self._trouble = "; ".join(troubles)
        return False

    def _learn(self, rows: Sequence[Any], asked: Address) -> None:
        places = table(rows, asked.host)
        self._places, self._masters = places, {place for place in places if place is not None}
        if None in places:
            self._trouble = f"{places.count(None)} of {SLOTS} slots are not served"
        for place in self._masters:
            self._server(place)
        used = {id(slot.server) for slot in self._slots.values() if slot.under_way}
        for place in [p for p in self._servers if p not in self._masters]:
            if not self._servers[place].waiting and id(self._servers[place]) not in used:
                self._servers.pop(place).close()


def table(rows: Sequence[Any], host: str) -> list[Place | None]:
    """The place of each slot, from the answer to CLUSTER SLOTS; a server that does not know its own host is `host`."""
    found: list[Place | None] = [None] * SLOTS
    for first, last, master, *_ in rows:
        named = (master[0] or b"").decode()
        place = host if named in _UNKNOWN else named, int(master[1])
        found[first : last + 1] = [place] * (last - first + 1)
    return found


def _collect(done: DoneAll, count: int) -> Callable[[int, Any, Exception | None], None]:
    """Completions for `count` things that come in any order; `done` gets all of them in theirs."""
    replies: list[Any] = [None] * count
    failed: list[Exception] = []
    left = count

    def came(n: int, reply: Any, error: Exception | None) -> None:
        nonlocal left
        replies[n] = reply
        if error is not None:
            failed.append(error)
        left -= 1
        if not left:
            done(None if failed else replies, failed[0] if failed else None)

    if not count:
        post(done, [], None)
    return came


def _ignore(reply: Any, error: Exception | None) -> None:
    """The outcome of ASKING, which says nothing: that of the command behind it does."""
