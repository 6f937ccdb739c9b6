"""Nodes for the benchmark of publications; see `fanout.toml`.

One source publishes to one topic; each sink has local members and hands every publication to all of them, as a broker
does for the members of a group. Sinks acknowledge by a cast, so that the source can keep a window unacknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import getpid
from typing import Any, NamedTuple, Protocol

import gevent
import gevent.event
import msgspec

from bench.measure import Clock
from mesh.contract import call, cast, contract
from mesh.loop import now, post
from mesh.node import Node
from mesh.streams import Stream, Streams

ROOM = "g:room"
TEXT = "x" * 64
WARM_UP_SECONDS = 0.2
ANSWER_SECONDS = 10.0
JOINS_IN_FLIGHT = 1000
"""Subscriptions of one sink that wait for their confirmation at once."""
MAX_BUFFER = 16 * 1024 * 1024

_encode = msgspec.msgpack.Encoder().encode


class Burst(NamedTuple):
    """What publishing for a while took."""

    publications: int
    seconds: float
    source_us: float  # CPU time in all
    sinks_us: float
    foreign: float  # share of a core that others used
    missing: int  # publications that some sink has not acknowledged in the end


class Received(NamedTuple):
    """What a sink has got since it opened."""

    publications: int
    deliveries: int
    gaps: int  # publications that were not the next one


class Joined(NamedTuple):
    """What subscribing many topics took."""

    seconds: float  # until the last one was confirmed
    late: int  # confirmed only after the mesh had stopped waiting


@contract
class Source(Protocol):
    @call(timeout=60.0)
    def run(self, sinks: tuple[int, ...], reader: int, window: int, seconds: float) -> Burst:
        """Publish with `window` publications unacknowledged. Pids: of the sinks' processes, and of who reads them."""
        ...

    @call(timeout=30.0)
    def holders(self, prefix: str, count: int) -> int:
        """How many of the topics `prefix`0, `prefix`1, ... have exactly one subscriber."""
        ...

    @cast()
    def got(self, sink: str, number: int) -> None:
        """`sink` has handed publication `number` to its members."""
        ...


@contract
class Sink(Protocol):
    @call(timeout=30.0)
    def open(self, members: int, listen: bool) -> int:
        """Subscribe the room for so many members: in memory, or with `listen` those that connect to the port."""
        ...

    @call(timeout=10.0)
    def connected(self) -> int:
        """How many members are connected."""
        ...

    @call(timeout=10.0)
    def close(self) -> Received:
        """Leave the room."""
        ...

    @call(timeout=60.0)
    def join(self, prefix: str, count: int) -> Joined:
        """Subscribe the topics `prefix`0, `prefix`1, ..., each for itself, as logins do."""
        ...


class SourceNode(Node, Source):
    """Publishes."""

    publishes = True

    def start(self) -> None:
        self._number = 0
        self._window = 0
        self._acknowledged: dict[str, int] = {}

    def run(self, sinks: tuple[int, ...], reader: int, window: int, seconds: float) -> Burst:
        self._number, self._window = 0, window
        self._acknowledged = {f"sink{i}": 0 for i in range(len(sinks))}
        self._fill()
        gevent.sleep(WARM_UP_SECONDS)
        before = min(self._acknowledged.values())
        clock = Clock({"source": [getpid()], "sinks": sinks, "reader": [reader]})
        gevent.sleep(seconds)
        elapsed, used, foreign = clock.stop()
        publications = min(self._acknowledged.values()) - before
        self._window = 0
        limit = now() + ANSWER_SECONDS
        while (missing := self._number - min(self._acknowledged.values())) and now() < limit:
            gevent.sleep(0.01)
        return Burst(publications, elapsed, used["source"], used["sinks"], foreign, missing)

    def got(self, sink: str, number: int) -> None:
        self._acknowledged[sink] = number
        self._fill()

    def _fill(self) -> None:
        last = min(self._acknowledged.values()) + self._window
        while self._number < last:
            self._number += 1
            self.publish(ROOM, (self._number, TEXT))

    def holders(self, prefix: str, count: int) -> int:
        fanout = self.process.fanout
        return sum(fanout.holders(f"{prefix}{i}") == 1 for i in range(count))


class _Member:
    """A member in memory."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0

    def write(self, _data: bytes) -> None:
        self.received += 1


class _Connected(Stream):
    """A member at the other end of a TCP connection; it only listens."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        pass


class SinkNode(Node, Sink):
    """Receives."""

    subscribes = True
    source: Source

    def start(self) -> None:
        self._members: list[_Member] = []
        self._streams: Streams | None = None
        self._received = Received(0, 0, 0)
        self.process.fanout.listen(ROOM[:2], self._publication)

    def open(self, members: int, listen: bool) -> int:
        self._received = Received(0, 0, 0)
        port = 0
        if listen:
            self._streams = Streams(MAX_BUFFER, members)
            _, port = self._streams.listen(("127.0.0.1", 0), _Connected)
        else:
            self._members = [_Member() for _ in range(members)]
        confirmed = gevent.event.AsyncResult()
        self.process.fanout.subscribe([ROOM], confirmed.set)
        if not confirmed.get(timeout=ANSWER_SECONDS):
            raise RuntimeError("the subscription was not confirmed")
        return port

    def connected(self) -> int:
        return len(self._streams.open) if self._streams is not None else len(self._members)

    def close(self) -> Received:
        self.process.fanout.unsubscribe([ROOM])
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.close()
        return self._received

    def _publication(self, _room: str, items: Sequence[Any]) -> None:
        publications, deliveries, gaps = self._received
        members = self._members if self._streams is None else list(self._streams.open.values())
        for number, text in items:
            publications += 1
            if number != publications:
                gaps += 1
            body = _encode((number, text))
            frame = (len(body) + 4).to_bytes(4, "big") + body
            for member in members:
                member.write(frame)
            deliveries += len(members)
        self._received = Received(publications, deliveries, gaps)
        self.source.got(self.kind, publications)

    def join(self, prefix: str, count: int) -> Joined:
        started = now()
        topics = iter([f"{prefix}{i}" for i in range(count)])
        done = gevent.event.Event()
        joining = _Joining(self.process.fanout, topics, count, done)
        for _ in range(min(JOINS_IN_FLIGHT, count)):
            joining.next()
        if not done.wait(timeout=ANSWER_SECONDS * 4):
            raise RuntimeError(f"{joining.left} subscriptions were not confirmed")
        return Joined(now() - started, joining.late)


class _Joining:
    """Subscribes one topic after the other: each confirmation lets the next one go, in a call of its own."""

    def __init__(self, fanout: Any, topics: Iterator[str], left: int, done: gevent.event.Event) -> None:
        self._fanout = fanout
        self._topics = topics
        self._done = done
        self.left = left
        self.late = 0

    def next(self) -> None:
        topic = next(self._topics, None)
        if topic is not None:
            self._fanout.subscribe([topic], self._answered, self._confirmed)

    def _answered(self, whole: bool) -> None:
        if whole:
            self._confirmed()
        else:
            self.late += 1

    def _confirmed(self) -> None:
        self.left -= 1
        if self.left:
            post(self.next)
        else:
            self._done.set()
