"""Publications: what one more recipient costs, and what a subscription costs.

One process publishes 64-byte texts to a topic; two processes subscribe it, and hand each publication to 2,000 members
between them. Members live in memory (what the mesh costs), or at the other end of TCP connections (what the kernel
adds). Then 100,000 topics are subscribed, half by each subscriber, as logins do: this is also how presence is known.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.fanout_nodes import Burst, Joined, Received
from bench.measure import CLIENT_CORES, Figures, Mark, Patience, Report, Rounds, pin, progress, table
from bench.running import Mesh, make_parser, parse
from mesh.control import call_method
from mesh.topology import load

TOPOLOGY = Path(__file__).parent / "fanout.toml"
SINKS = ("sink0", "sink1")
MEMBERS = 1000
"""Of each sink."""
WINDOWS = (1, 4)
TOPICS = 50_000
"""Of each sink."""
MAX_SECONDS = 5.0
REPEATS = 10
"""Runs done again because others disturbed them, at most."""
IN_MEMORY, OVER_TCP = "in memory", "over TCP"
CALL_SECONDS = 60.0
CONNECT_SECONDS = 10.0
RECV_BYTES = 1 << 20


def main() -> int:
    parser = make_parser("fanout", "Publications and subscriptions.", rounds=5, seconds=2.0, quick=(2, 0.4))
    options = parse(parser)
    rounds, patience = Rounds(), Patience(0 if options.quick else REPEATS)
    with Mesh(TOPOLOGY) as mesh:
        ask = partial(_ask, load(mesh.topology, mesh.data))
        pin(os.getpid(), CLIENT_CORES)
        for number in range(options.rounds):
            for where in (IN_MEMORY, OVER_TCP):
                for window in WINDOWS:
                    figures = patience.run(partial(_fan_out, mesh, ask, where, window, options.seconds))
                    rounds.add(f"{where}, window {window}", figures)
                    rate = f"{figures['rate']:,.0f} deliveries/s"
                    progress(f"round {number + 1}/{options.rounds}  {where}, window {window}: {rate}")
        joined = Rounds()
        joined.add("subscriptions", _join(mesh, ask))
    settings = {
        "rounds": f"{options.rounds} of {options.seconds:g} s each",
        "recipients": f"{MEMBERS * len(SINKS):,} of one topic, {MEMBERS:,} in each of {len(SINKS)} processes",
        **patience.told(rounds),
    }
    report = Report("Publications and subscriptions", settings, rounds={**rounds.figures, **joined.figures})
    report.tables = _tables(rounds, joined.figures["subscriptions"][0])
    report.marks = _marks(rounds, joined.figures["subscriptions"][0])
    return report.publish(options.json)


Ask = Callable[..., Any]


def _ask(topology: Any, method: str, *arguments: Any, result: Any = Any) -> Any:
    """Call a method of a node in the mesh; `result` is its type."""
    return msgspec.convert(call_method(topology, method, list(arguments), CALL_SECONDS), result)


# ---- publications


def _fan_out(mesh: Mesh, ask: Ask, where: str, window: int, seconds: float) -> Figures:
    """One run: open the sinks, publish, close them, and compare what was sent with what came."""
    over_tcp = where == OVER_TCP
    ports = [ask(f"{sink}.open", MEMBERS, over_tcp, result=int) for sink in SINKS]
    readers = Readers(ports) if over_tcp else None
    try:
        limit = time.monotonic() + CONNECT_SECONDS
        while any(ask(f"{sink}.connected", result=int) != MEMBERS for sink in SINKS):
            if time.monotonic() > limit:
                raise RuntimeError(f"not all members are connected after {CONNECT_SECONDS} s")
        pids = [mesh.status[f"{sink}-1"]["pid"] for sink in SINKS]
        burst: Burst = ask("source.run", pids, os.getpid(), window, seconds, result=Burst)
    finally:
        found: list[Received] = [ask(f"{sink}.close", result=Received) for sink in SINKS]
        frames = readers.close() if readers is not None else sum(sink.deliveries for sink in found)
    sent = max(sink.publications for sink in found)
    wrong = burst.missing + sum(sink.gaps for sink in found)
    wrong += abs(sent * MEMBERS * len(SINKS) - frames)
    deliveries = max(1, burst.publications * MEMBERS * len(SINKS))
    return {
        "rate": deliveries / burst.seconds, "publications": burst.publications / burst.seconds,
        "source_us": burst.source_us / deliveries, "sinks_us": burst.sinks_us / deliveries,
        "all_us": (burst.source_us + burst.sinks_us) / deliveries,
        "publication_us": burst.source_us / max(1, burst.publications),
        "wrong": wrong, "foreign": burst.foreign,
    }  # fmt: skip


class Readers:
    """The members at the other end: connections that are read and counted, in a thread."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._frame_bytes = self._bytes = self._frames = 0
        for port in ports:
            for _ in range(MEMBERS):
                sock = socket.create_connection(("127.0.0.1", port))
                sock.setblocking(False)
                self._sockets[sock.fileno()] = sock
                self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._rest: dict[int, bytes] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        """Until the other side has closed all of them."""
        while self._sockets:
            for fd, _ in self._epoll.poll():
                data = self._sockets[fd].recv(RECV_BYTES)
                if data:
                    self._count(fd, data)
                else:
                    self._sockets.pop(fd).close()

    def _count(self, fd: int, data: bytes) -> None:
        data = self._rest.pop(fd, b"") + data
        start, end = 0, len(data)
        while end - start >= 4:
            stop = start + int.from_bytes(data[start : start + 4], "big")
            if stop > end:
                break
            self._frames += 1
            start = stop
        if start < end:
            self._rest[fd] = data[start:]

    def close(self) -> int:
        """Wait for the end of all connections; how many frames came in all."""
        self._thread.join()
        self._epoll.close()
        return self._frames


# ---- subscriptions


def _join(mesh: Mesh, ask: Ask) -> Figures:
    """Subscribe all topics, at both sinks at the same time."""
    before = mesh.memory()
    clock = mesh.clock()
    begun = time.perf_counter()

    def join(sink: str) -> Joined:
        joined: Joined = ask(f"{sink}.join", f"u:{sink}-", TOPICS, result=Joined)
        return joined

    with ThreadPoolExecutor(len(SINKS)) as threads:  # a command's connection to the mesh belongs to its thread
        found = list(threads.map(join, SINKS))
    seconds = time.perf_counter() - begun
    _, used, _ = clock.stop()
    after = mesh.memory()
    total = TOPICS * len(SINKS)
    known = sum(ask("source.holders", f"u:{sink}-", TOPICS, result=int) for sink in SINKS)
    sinks = [f"{sink}-1" for sink in SINKS]
    return {
        "seconds": seconds, "unknown": total - known, "late": sum(one.late for one in found),
        "source_bytes": (after["source-1"] - before["source-1"]) / total,
        "sink_bytes": sum(after[sink] - before[sink] for sink in sinks) / total,
        "source_us": used["source-1"] / total, "sink_us": sum(used[sink] for sink in sinks) / total,
    }  # fmt: skip


# ---- the report


def _tables(rounds: Rounds, joined: Figures) -> dict[str, str]:
    heads = ["members, unacknowledged", "deliveries/s", "publisher µs", "subscribers µs", "both µs",
             "publisher µs per publication"]  # fmt: skip
    rows = [
        [name, rounds.text(name, "rate", 0), rounds.text(name, "source_us", 3), rounds.text(name, "sinks_us", 3),
         rounds.text(name, "all_us", 3), rounds.text(name, "publication_us")]
        for name in rounds.figures
    ]  # fmt: skip
    subscriptions = [
        ["seconds until all were confirmed", f"{joined['seconds']:.2f}"],
        ["CPU µs each, publisher", f"{joined['source_us']:.1f}"],
        ["CPU µs each, subscriber", f"{joined['sink_us']:.1f}"],
        ["bytes of RSS each, publisher", f"{joined['source_bytes']:,.0f}"],
        ["bytes of RSS each, subscriber", f"{joined['sink_bytes']:,.0f}"],
        ["confirmed later than 0.5 s", f"{joined['late']:,.0f}"],
    ]
    return {
        "CPU µs per delivery": table(heads, rows),
        f"{TOPICS * len(SINKS):,} subscriptions": table(["what", "found"], subscriptions),
    }


def _marks(rounds: Rounds, joined: Figures) -> list[Mark]:
    return [
        Mark.at_most("publications and deliveries lost, doubled or out of order", rounds.total("wrong"), 0, ""),
        Mark.at_most("subscriptions that the publisher does not know", joined["unknown"], 0, ""),
        Mark.at_most(f"{TOPICS * len(SINKS):,} subscriptions confirmed", joined["seconds"], MAX_SECONDS, "s"),
    ]


if __name__ == "__main__":
    sys.exit(main())
