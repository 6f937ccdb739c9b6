"""Two people chat, five hundred times: what a stored, fsynced, acknowledged and delivered message costs all processes.

1,000 connections in 500 pairs, 64-byte texts, windows 1 and 8, the append-only file fsynced before each ack; then 1,000
messages a second whatever comes back; then 10,000 idle logged-in connections; and the time from `imesh up` to a login.
"""

from __future__ import annotations

import os
import sys
import time

from bench import workloads
from bench.measure import CLIENT_CORES, Mark, Report, Rounds, Spread, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, Options, make_parser, parse

PAIRS = 500
WINDOWS = (8, 1)
OPEN_RATE = 1000.0
IDLE = 10_000
MOST_US, MOST_KIB, MOST_START = 60.0, 4.0, 3.0
P99_MS = 5.0


class ChatOptions(Options):
    layout: list[str] | None
    idle: int


def main() -> int:
    parser = make_parser("chat", "Two people chat, five hundred times.", rounds=3, seconds=5.0, quick=(1, 2.0))
    parser.add_argument("--layout", choices=LAYOUTS, action="append", help="default: all; may be given several times")
    parser.add_argument("--idle", type=int, default=IDLE, metavar="N", help=f"idle connections (default: {IDLE:,})")
    options = parse(parser)
    layouts = options.layout or list(LAYOUTS)  # type: ignore[attr-defined]
    pin(os.getpid(), CLIENT_CORES)
    rounds = Rounds()
    for number in range(options.rounds):
        for layout in layouts:
            _round(rounds, layout, options.seconds)
            progress(f"round {number + 1}/{options.rounds}  {layout}: {rounds.text(f'{layout}, window 8', 'us')} µs")
    _idle(rounds, layouts[0], options.idle)  # type: ignore[attr-defined]
    settings = {
        "rounds": f"{options.rounds} of {options.seconds:g} s each, a fresh system in each",
        "load": f"{2 * PAIRS} connections in {PAIRS} pairs, 64-byte texts; embedded Redis, appendfsync always",
    }
    report = Report("Single chat", settings, rounds=rounds.figures)
    report.tables = _tables(rounds, layouts)
    report.marks = _marks(rounds, layouts)
    return report.publish(options.json)


def _round(rounds: Rounds, layout: str, seconds: float) -> None:
    started = time.perf_counter()
    with Mesh(LAYOUTS[layout], OPEN_DOOR) as mesh:
        mesh.dialect.connect(mesh.address(), ["first"])[0].sock.close()
        rounds.add(f"{layout}, start", {"seconds": time.perf_counter() - started})
        rounds.add(f"{layout}, login", workloads.logins(mesh, workloads.users(2 * PAIRS)))
        pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
        pairs.closed_loop(1, workloads.WARM_SECONDS)
        for window in WINDOWS:
            rounds.add(f"{layout}, window {window}", workloads.closed(mesh, pairs, window, seconds))
        rounds.add(f"{layout}, {OPEN_RATE:g}/s", workloads.steady(mesh, pairs, OPEN_RATE, seconds))
        pairs.close()


def _idle(rounds: Rounds, layout: str, count: int) -> None:
    count = min(count, workloads.allow_files() - 200)
    with Mesh(LAYOUTS[layout], OPEN_DOOR) as mesh:
        rounds.add("idle", workloads.idle(mesh, count))


def _tables(rounds: Rounds, layouts: list[str]) -> dict[str, str]:
    heads = ["load", "CPU µs per message", "of it Python", "of it Redis", "messages/s", "p50 ms", "p99 ms", "generator"]
    rows = []
    for layout in layouts:
        for load in (*(f"window {w}" for w in WINDOWS), f"{OPEN_RATE:g}/s"):
            key = f"{layout}, {load}"
            rows.append([
                key, rounds.text(key, "us"), rounds.of(key, "python_us").text(), rounds.of(key, "store_us").text(),
                rounds.text(key, "rate", 0), rounds.text(key, "p50_ms", 1), rounds.text(key, "p99_ms", 1),
                f"{rounds.of(key, 'generator').median:.0%} of a core",
            ])  # fmt: skip
    others = [[f"{layout}, login, CPU µs", rounds.text(f"{layout}, login", "us", 0)] for layout in layouts]
    for layout in layouts:
        others.append([f"{layout}, `imesh up` to login, s", rounds.text(f"{layout}, start", "seconds", 2)])
    idle = rounds.figures["idle"][0]
    count = int(idle["connections"])
    for name, kib in idle.items():
        if name.startswith("kib"):
            of = name.partition(" ")[2] or "sum"
            others.append([f"idle connection, KiB of RSS, {of} ({count:,} connections)", f"{kib:.2f}"])
    return {"Messages": table(heads, rows), "Other": table(["what", "found"], others)}


def _marks(rounds: Rounds, layouts: list[str]) -> list[Mark]:
    first = layouts[0]
    open_loop = f"{first}, {OPEN_RATE:g}/s"

    def low(key: str, figure: str) -> Spread:
        return rounds.of(key, figure)

    return [
        Mark.at_most("lost, doubled, disordered or refused", rounds.total("wrong"), 0, ""),
        Mark.at_most(f"{first}, window 8", low(f"{first}, window 8", "us").median, MOST_US, "µs"),
        Mark.at_most(f"{first}, p99 at {OPEN_RATE:g}/s", low(open_loop, "p99_ms").median, P99_MS, "ms"),
        Mark.at_most("idle connection", rounds.figures["idle"][0]["kib"], MOST_KIB, "KiB"),
        Mark.at_most(f"{first}, start to login", low(f"{first}, start", "seconds").median, MOST_START, "s"),
    ]


if __name__ == "__main__":
    sys.exit(main())
