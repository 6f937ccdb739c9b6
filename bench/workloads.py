"""The loads, the same for every system: each runs against what `bench.systems` has started, and gives figures."""

from __future__ import annotations

import itertools
import os
import resource
import time
from collections.abc import Callable

from bench.crowd import Crowd
from bench.dialects import Peer, text_of
from bench.measure import Figures, percentile
from bench.pairs import Pairs, Result
from bench.systems import System

ONLINE_WRITERS, GROUP_WINDOW = 4, 4
WARM_SECONDS = 0.5
WRITERS = 100
"""Users who write to those who are away, at most."""
BURST = 20
"""Messages to each of them that are on their way at once."""
REST_SECONDS = 1.0
"""So long a system may go on storing what it has acknowledged, before somebody fetches it."""
REST_MOST_SECONDS, REST_PAUSE = 60.0, 0.2
_names = itertools.count(1)


def allow_files() -> int:
    """Have as many open connections as the system permits; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def measured(system: System, run: Callable[[], Result]) -> Figures:
    """CPU µs per delivery (`us`), by process and per message sent; rate, latencies; what the generator needed."""
    clock = system.clock(generator=os.getpid())
    result = run()
    seconds, used, foreign = clock.stop()
    generator = used.pop("generator")
    stored = used.pop(system.store, 0.0)
    total = sum(used.values()) + stored
    delivered, sent = max(1, result.delivered), max(1, result.sent)
    return {
        "us": total / delivered, "python_us": (total - stored) / delivered, "store_us": stored / delivered,
        "message_us": total / sent, "message_store_us": stored / sent,
        "rate": result.delivered / result.seconds, "wrong": result.wrong, "foreign": foreign,
        "p50_ms": percentile(result.latencies, 0.5) * 1e3, "p99_ms": percentile(result.latencies, 0.99) * 1e3,
        "generator": generator / (seconds * 1e6), "servers": total / (seconds * 1e6),
        **{f"us {name}": spent / delivered for name, spent in used.items()},
    }  # fmt: skip


def _rest(system: System) -> float:
    """CPU µs until nothing is left to do."""
    clock = system.clock()
    limit = time.monotonic() + REST_MOST_SECONDS
    behind = False
    while time.monotonic() < limit and system.is_behind():
        behind = True
        time.sleep(REST_PAUSE)
    return sum(clock.stop()[1].values()) if behind else 0.0


def closed(system: System, pairs: Pairs, window: int, seconds: float) -> Figures:
    """Every sender keeps `window` messages unacknowledged."""
    return _to_the_end(system, seconds, lambda: pairs.closed_loop(window, seconds))


def steady(system: System, pairs: Pairs, rate: float, seconds: float) -> Figures:
    """`rate` messages a second, whatever comes back."""
    return _to_the_end(system, seconds, lambda: pairs.open_loop(rate, seconds))


def _to_the_end(system: System, seconds: float, run: Callable[[], Result]) -> Figures:
    """`measured`; and what the servers needed behind the load for what they had acknowledged (`later_us`), so that the
    next load has them for itself."""
    figures = measured(system, run)
    return {**figures, "later_us": _rest(system) / (figures["rate"] * seconds)}


def group(system: System, online: int, seconds: float) -> Figures:
    """Members all online, some of whom write without pause."""
    crowd = Crowd(system.dialect, system.address(), f"crowd{next(_names)}", online)
    try:
        crowd.closed_loop(ONLINE_WRITERS, GROUP_WINDOW, WARM_SECONDS)
        return measured(system, lambda: crowd.closed_loop(ONLINE_WRITERS, GROUP_WINDOW, seconds))
    finally:
        crowd.close()


def logins(system: System, names: list[str]) -> Figures:
    """Known users log in, as fast as they are let, and leave again."""
    count = len(names)
    system.dialect.register(system.address(), names)
    peers = system.dialect.connect(system.address(), names[:1])  # everything is loaded
    clock = system.clock(generator=os.getpid())
    peers += system.dialect.connect(system.address(), names[1:])
    figures = figures_of(clock, count - 1)
    _close(peers)
    return figures


def idle(system: System, count: int) -> Figures:
    """Resident KiB that a logged-in connection adds, by group of processes and in `sum`; and CPU µs of its login."""
    names = users(count)
    system.dialect.register(system.address(), names)
    first = system.dialect.connect(system.address(), names[:1])
    before = system.memory()
    clock = system.clock(generator=os.getpid())
    peers = system.dialect.connect(system.address(), names[1:])
    figures = figures_of(clock, count - 1)
    time.sleep(REST_SECONDS)
    after = system.memory()
    _close(first + peers)
    grown = {f"kib {name}": (after[name] - was) / (count - 1) / 1024 for name, was in before.items()
             if name not in (system.store, "launcher")}  # fmt: skip
    return {**figures, **grown, "kib": sum(grown.values()), "connections": count}


def catch_up(system: System, count: int, messages: int) -> Figures:
    """Users were away while each got `messages`; all come back at the same time and fetch them.

    CPU µs by message (`us`) and by user (`user_us`), the logins among it; `seconds` until the last one has all.
    """
    names = users(count)
    system.dialect.away(system.address(), names)
    _, sent = write(system, names, messages)
    time.sleep(REST_SECONDS)
    clock = system.clock(generator=os.getpid())
    came = system.dialect.catch_up(system.address(), names, messages)
    figures = figures_of(clock, count * messages)
    wrong = sum(
        a != b for user, texts in zip(names, came, strict=True) for a, b in zip(sent[user], texts, strict=False)
    )
    wrong += sum(abs(messages - len(texts)) for texts in came)
    return {**figures, "user_us": figures["us"] * messages, "wrong": wrong}


def write(system: System, readers: list[str], messages: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Everybody gets `messages` from somebody, and all is acknowledged: who that is for each, and what he must have."""
    system.dialect.register(system.address(), names := users(min(len(readers), WRITERS)))
    writers = system.dialect.connect(system.address(), names)
    system.dialect.acknowledge(writers)
    sent: dict[str, list[str]] = {reader: [] for reader in readers}
    writer_of = dict(zip(readers, itertools.cycle(writers)))
    for start in range(0, messages, BURST):
        for _ in range(start, min(messages, start + BURST)):
            for reader, writer in writer_of.items():
                text = text_of(writer, time.perf_counter())
                sent[reader].append(text)
                writer.out.append(system.dialect.single(writer, reader, text))
        for writer in writers:
            _acknowledged(system, writer)
    _close(writers)
    return {reader: writer.user for reader, writer in writer_of.items()}, sent


def _acknowledged(system: System, writer: Peer) -> None:
    """Send what waits, and wait until all of it is acknowledged."""
    missing = len(writer.out)
    writer.flush()
    while missing > 0:
        took = system.dialect.take(writer, writer.read())
        if took.refused:
            raise RuntimeError(f"{system.name} refused a message to an absent user")
        missing -= took.acked


def users(count: int) -> list[str]:
    """Names that nobody had before."""
    number = next(_names)
    return [f"user{number}x{n}" for n in range(count)]


def figures_of(clock, count: int) -> Figures:  # type: ignore[no-untyped-def]
    """Of `count` operations since the clock's start."""
    seconds, used, foreign = clock.stop()
    generator = used.pop("generator")
    return {
        "us": sum(used.values()) / count, "rate": count / seconds, "seconds": seconds, "foreign": foreign,
        "generator": generator / (seconds * 1e6),
    }  # fmt: skip


def _close(peers: list[Peer]) -> None:
    for peer in peers:
        peer.sock.close()
