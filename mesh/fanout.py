"""Publish and subscribe between processes, with presence: a subscription says that somebody is there.

A publication is one frame: topic, NUL, one letter, body. Topics are text without NUL, so none is a prefix of another.
    topic NUL "m" [item, ...]                        publications of this turn
    topic NUL "c" [process]                          confirmation: this publisher has seen the subscription
    "!"   NUL "b" [process, start, beacons, lossy]   beacon, every second
    "~p#s" NUL "k" [process, start, lossy]           answer to the marker of subscriber process p, start s

Losses. PUB/SUB loses without a word when a link is cut or a pipe is full. Each such loss becomes a *link event* at the
subscriber: a marker answered again (the link was re-made), a new start id, a gap in the beacons, a raised lossy count.
The node that hears it must treat what it got from that publisher as incomplete.

Start. A subscriber's marker sorts after all its topics and is subscribed last, so when a publisher has seen the marker
it has seen them all (a SUB resends in sorted order). Until it has the markers of all subscriber processes, or waited
`MARKER_SECONDS` for one, a publisher does not know who is absent (`complete` is False).

Publisher and subscriber of one process hand publications over directly, in the same loop turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mesh.link import Publisher, Sockets
from mesh.log import Log
from mesh.loop import Later, Tick, now
from mesh.stats import Stats

BEACON_SECONDS = 1.0
DEAD_AFTER = 3.0
"""Seconds without a beacon after which a publisher is not waited for."""
CONFIRM_SECONDS = 0.5
"""How long at most a subscription waits for its confirmations."""
MARKER_SECONDS = 10.0
"""How long a new publisher waits for the markers of subscribers before it believes in absence."""

_BEACON_TOPIC = b"!"
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple).decode
_unpack_items = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode

Publication = tuple[Any, ...]
"""An item: what msgpack can hold."""
Listener = Callable[[str, Sequence[Publication]], None]
"""(topic, items): called on the hub for each frame; the topic without its prefix."""
Confirmed = Callable[[bool], None]
"""Called with True when all live publishers confirmed, or with False when the wait was cut off."""


class _Publisher:
    """A publisher as its subscribers know it."""

    __slots__ = ("beacons", "heard", "lossy", "marker_pending", "start")

    def __init__(self) -> None:
        self.start = ""
        self.beacons = -1  # number of the last beacon; -1: any is good
        self.lossy = 0
        self.heard = 0.0
        self.marker_pending = True  # the answer to our marker is expected, not an event


class _Join:
    """Subscriptions that wait for their confirmations."""

    __slots__ = ("done", "late", "missing", "timer")

    def __init__(self, done: Confirmed, late: Callable[[], None] | None) -> None:
        self.done: Confirmed | None = done
        self.late = late
        self.missing = 0  # confirmations not yet seen
        self.timer: Later | None = None


class Fanout:
    """Both ends of publish/subscribe in one process."""

    def __init__(
        self, process: str, start: str, sockets: Sockets, stats: Stats, log: Log, *, binds: list[str] | None,
        subscriber_processes: frozenset[str],
    ) -> None:  # fmt: skip
        self.process = process
        self.start = start
        self.stats = stats
        self._log = log
        # publishing
        self._socket: Publisher | None = sockets.publisher(binds, self._subscription) if binds is not None else None
        self._remote: dict[bytes, int] = {}  # topic -> subscriber processes, this one not counted
        self._out: dict[bytes, list[Publication]] = {}
        self._tick = Tick(self._flush)
        self._markers_missing = set(subscriber_processes) - {process}
        self._own = [f"{process}/{start}"] if process in subscriber_processes else []
        self._starts: set[str] = set()  # of the subscriber processes whose markers are here
        self._started = now()
        self._beacons = 0
        self._observers: dict[bytes, Callable[[str, int], None]] = {}
        # subscribing
        self._sub = sockets.subscriber(self._receive)
        self._local: dict[bytes, int] = {}  # topic -> holders in this process
        self._listeners: dict[bytes, Listener] = {}
        self._events: list[Callable[[str, str], None]] = []
        self._publishers: dict[str, _Publisher] = {}
        self._unconfirmed: dict[bytes, dict[str, list[_Join]]] = {}
        self._marker = f"~{process}#{start}".encode()
        stats.gauge("fanout.topics", lambda: len(self._remote))
        stats.gauge("fanout.lossy", lambda: self._socket.lossy if self._socket else 0)

    # ---- publishing

    def publish(self, topic: str, item: Publication) -> None:
        """Send `item`, which stays as it is, to all subscribers of `topic` at the end of this turn. Best effort."""
        key = topic.encode()
        items = self._out.get(key)
        if items is None:
            self._out[key] = [item]
            self._tick.arm()
        else:
            items.append(item)

    def holders(self, topic: str) -> int:
        """How many processes subscribe `topic`. 0 is certain only when `complete`."""
        key = topic.encode()
        return self._remote.get(key, 0) + (key in self._local)

    def observe(self, prefix: str, observer: Callable[[str, int], None]) -> None:
        """Have `observer(topic, holders)` called whenever a process begins or ceases to subscribe a topic that begins
        with `prefix` (two letters); the topic without its prefix."""
        assert len(prefix) == 2
        self._observers[prefix.encode()] = observer

    def topics(self, prefix: str) -> set[str]:
        """All topics with this prefix that somebody subscribes, without it. Looks at every topic."""
        key = prefix.encode()
        held = (*self._remote, *self._local)
        return {topic[len(key) :].decode() for topic in held if topic.startswith(key)}

    def is_connected(self, process: str, start: str) -> bool:
        """Whether this start of a process subscribes here now."""
        return f"~{process}#{start}".encode() in self._remote or (process, start) == (self.process, self.start)

    def subscribers(self) -> set[str]:
        """The "process/start" of all processes with subscribing nodes that are connected now, or are this one."""
        return {*self._starts, *self._own}

    def _observed(self, topic: bytes) -> None:
        observer = self._observers.get(topic[:2])
        if observer is not None:
            observer(topic[2:].decode(), self._remote.get(topic, 0) + (topic in self._local))

    @property
    def complete(self) -> bool:
        """Whether this publisher knows all subscriptions (see Start above)."""
        return not self._markers_missing or now() - self._started > MARKER_SECONDS

    def _flush(self) -> None:
        out, self._out = self._out, {}
        socket = self._socket
        for key, items in out.items():
            if key in self._remote and socket is not None:
                socket.send(b"%b\0m%b" % (key, _pack(items)))
            if key in self._local:
                self._deliver(key, items)
        if socket is not None:
            socket.check()
        self.stats.counts["fanout.published"] += len(out)

    def _subscription(self, topic: bytes, subscribed: bool) -> None:
        assert self._socket is not None
        topic = topic.removesuffix(b"\0")
        holders = self._remote.get(topic, 0)
        if not subscribed:
            if holders > 1:
                self._remote[topic] = holders - 1
            else:
                self._remote.pop(topic, None)
                if topic.startswith(b"~"):
                    self._starts.discard(_start_of(topic))
            self._observed(topic)
            return
        self._remote[topic] = holders + 1
        self._observed(topic)
        if topic.startswith(b"~"):
            self._markers_missing.discard(topic[1:].split(b"#")[0].decode())
            self._starts.add(_start_of(topic))
            self._socket.send(topic + b"\0k" + _pack((self.process, self.start, self._socket.lossy)))
        elif topic != _BEACON_TOPIC:
            self._socket.send(topic + b"\0c" + _pack((self.process,)))

    def beacon(self) -> None:
        """Every `BEACON_SECONDS`."""
        if self._socket is not None:
            self._beacons += 1
            body = _pack((self.process, self.start, self._beacons, self._socket.lossy))
            self._socket.send(_BEACON_TOPIC + b"\0b" + body)
            self._socket.check()

    # ---- subscribing

    def listen(self, prefix: str, listener: Listener) -> None:
        """Have `listener` called for publications on topics that begin with `prefix` (two letters)."""
        assert len(prefix) == 2
        self._listeners[prefix.encode()] = listener

    def on_link_event(self, function: Callable[[str, str], None]) -> None:
        """Have `function(publisher process, reason)` called when publications may have been lost."""
        self._events.append(function)

    def connect(self, publishers: dict[str, tuple[str, bytes | None]]) -> None:
        """Subscribe at these processes: name -> (endpoint, CURVE key). To be called once, with all of them."""
        for process, (endpoint, server_key) in publishers.items():
            self._publishers[process] = _Publisher()
            self._sub.connect(endpoint, server_key)
        self._sub.subscribe(_BEACON_TOPIC + b"\0")
        self._sub.subscribe(self._marker + b"\0")  # last: see Start above
        self._sub.check()

    @property
    def settled(self) -> bool:
        """Whether every publisher has answered our marker once."""
        return not any(p.marker_pending for p in self._publishers.values())

    def live_publishers(self) -> list[str]:
        limit = now() - DEAD_AFTER
        return [name for name, p in self._publishers.items() if p.heard > limit]

    def subscribe(self, topics: list[str], done: Confirmed, late: Callable[[], None] | None = None) -> None:
        """Subscribe `topics`; `done` is called once, when every live publisher confirmed each, or after half a second.

        After such a cut-off, `late` is called when the missing confirmations have come.
        """
        join = _Join(done, late)
        live: list[str] | None = None
        for topic in topics:
            key = topic.encode()
            holders = self._local.get(key, 0)
            self._local[key] = holders + 1
            if holders == 0:
                if live is None:
                    live = self.live_publishers()
                self._observed(key)
                self._sub.subscribe(key + b"\0")
                if live:
                    self._unconfirmed[key] = {process: [] for process in live}
            for joins in self._unconfirmed.get(key, {}).values():
                joins.append(join)
                join.missing += 1
        if join.missing == 0:
            join.done = None
            done(True)
            return
        join.timer = Later(CONFIRM_SECONDS, self._cut_off, join)
        self._sub.check()

    def unsubscribe(self, topics: list[str]) -> None:
        """Give up one hold on each topic; the last one unsubscribes."""
        for topic in topics:
            key = topic.encode()
            holders = self._local.get(key, 0)
            if holders > 1:
                self._local[key] = holders - 1
            elif holders == 1:
                del self._local[key]
                self._unconfirmed.pop(key, None)
                self._observed(key)
                self._sub.unsubscribe(key + b"\0")
        self._sub.check()

    def _confirmed(self, key: bytes, process: str) -> None:
        waiting = self._unconfirmed.get(key)
        if waiting is None:
            return
        joins = waiting.pop(process, ())
        if not waiting:
            del self._unconfirmed[key]  # before the completions, which may subscribe and unsubscribe
        for join in joins:
            join.missing -= 1
            if join.missing == 0:
                self._joined(join)

    def _joined(self, join: _Join) -> None:
        if join.done is not None:
            if join.timer is not None:
                join.timer.stop()
            done, join.done = join.done, None
            done(True)
        elif join.late is not None:
            join.late()

    def _cut_off(self, join: _Join) -> None:
        done, join.done = join.done, None
        if done is not None:
            self.stats.counts["fanout.unconfirmed"] += 1
            done(False)

    # ---- receiving

    def _receive(self, frame: bytes) -> None:
        key, _, rest = frame.partition(b"\0")
        kind = rest[:1]
        if kind == b"m":
            if key in self._local:
                self._deliver(key, _unpack_items(rest[1:]))
            return
        item = _unpack(rest[1:])
        if kind == b"c":
            self._confirmed(key, item[0])
        elif kind == b"b":
            self._beacon_came(*item)
        elif kind == b"k" and key == self._marker:
            self._marker_answered(*item)

    def _deliver(self, key: bytes, items: Sequence[Publication]) -> None:
        listener = self._listeners.get(key[:2])
        if listener is not None:
            listener(key[2:].decode(), items)

    def _beacon_came(self, process: str, start: str, beacons: int, lossy: int) -> None:
        publisher = self._publishers.get(process)
        if publisher is None:
            return
        publisher.heard = now()
        if publisher.start and start != publisher.start:
            self._event(process, "restarted")
        elif publisher.beacons >= 0 and beacons != publisher.beacons + 1:
            self._event(process, "gap")
        elif publisher.start and lossy > publisher.lossy:
            self._event(process, "lossy")
        publisher.start, publisher.beacons, publisher.lossy = start, beacons, lossy

    def _marker_answered(self, process: str, start: str, lossy: int) -> None:
        publisher = self._publishers.get(process)
        if publisher is None:
            return
        publisher.heard = now()
        first, publisher.marker_pending = publisher.marker_pending, False
        publisher.start, publisher.beacons, publisher.lossy = start, -1, lossy
        # Topics resent with the marker are confirmed by it.
        for key in [k for k, waiting in self._unconfirmed.items() if process in waiting]:
            self._confirmed(key, process)
        if not first or self._local:
            self._event(process, "connected late" if first else "reconnected")

    def _event(self, process: str, reason: str) -> None:
        self.stats.counts[f"fanout.events.{reason}"] += 1
        self._log.info("publications may be lost", publisher=process, reason=reason)
        for function in self._events:
            function(process, reason)


def _start_of(marker: bytes) -> str:
    """The "process/start" of a marker."""
    process, _, start = marker[1:].decode().partition("#")
    return f"{process}/{start}"
