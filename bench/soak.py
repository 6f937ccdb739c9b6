"""A day in ten minutes: a steady load, logins that come and go, and the memory of every process all the while.

What Redis keeps for a while (digests of repeats, the log, the window of history) is kept for a minute or a few hundred
messages here, so that all of it is full, turned over many times, and must stop growing.
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median

from bench import plots, workloads
from bench.measure import CLIENT_CORES, Figures, Mark, Report, Rounds, percentile, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, make_parser, parse

SETTINGS = {
    **OPEN_DOOR, "IMESH_STORE_DEDUP_SECONDS": "60", "IMESH_STORE_LOG_SECONDS": "60", "IMESH_STORE_HOT_MESSAGES": "200",
    "IMESH_NODE_BROKER_HEARTBEAT": "1200",  # the half that receives sends nothing, not even that
}  # fmt: skip
PAIRS, RATE, COMERS = 100, 1_000.0, 50
SLICE_SECONDS = 10.0
SETTLED = 0.4
"""Memory is compared from this share of the time on."""
MOST_GROWTH = 0.05
"""Of a process' memory, from there to the end."""


def main() -> int:
    parser = make_parser("soak", "A day in ten minutes.", rounds=1, seconds=600.0, quick=(1, 60.0))
    options = parse(parser)
    pin(os.getpid(), CLIENT_CORES)
    rounds = Rounds()
    with Mesh(LAYOUTS["default"], SETTINGS) as mesh:
        pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
        comers = workloads.users(COMERS)  # always the same: each further user is a KiB of Redis for ever
        begun = time.perf_counter()
        while (at := time.perf_counter() - begun) < options.seconds:
            rounds.add("soak", {**_slice(mesh, pairs, comers), "minute": at / 60})
            if len(rounds.figures["soak"]) % 6 == 0:
                progress(f"minute {at / 60:.0f}: {rounds.figures['soak'][-1]}")
        pairs.close()
    report = Report("Soak", {
        "load": f"{RATE:,.0f} messages a second in {PAIRS} sessions, {COMERS} logins every {SLICE_SECONDS:g} s",
        "others on this machine": rounds.foreign(),
    }, rounds=rounds.figures)  # fmt: skip
    slices = rounds.figures["soak"]
    report.tables = {"MiB by process": _table(slices)}
    report.marks = _marks(rounds, slices)
    code = report.publish(options.json)
    plots.soak(slices)
    return code


def _slice(mesh: Mesh, pairs: Pairs, comers: list[str]) -> Figures:
    wrong = workloads.logins(mesh, comers).get("wrong", 0)
    clock = mesh.clock(generator=os.getpid())
    result = pairs.open_loop(RATE, SLICE_SECONDS)
    _, used, foreign = clock.stop()
    del used["generator"]
    memory = {f"MiB {name}": size / 2**20 for name, size in mesh.memory().items()}
    return {
        **memory, "us": sum(used.values()) / max(1, result.delivered), "wrong": wrong + result.wrong,
        "p99_ms": percentile(result.latencies, 0.99) * 1e3, "foreign": foreign,
    }  # fmt: skip


def _table(slices: list[Figures]) -> str:
    names = [name for name in slices[0] if name.startswith("MiB ")]
    every = max(1, len(slices) // 10)
    rows = []
    for one in [*slices[::every], slices[-1]]:
        sizes = [f"{one[name]:.1f}" for name in names]
        rows.append([f"{one['minute']:.1f}", *sizes, f"{one['us']:.0f}", f"{one['p99_ms']:.1f}"])
    return table(["minute", *(name[4:] for name in names), "CPU µs per message", "p99 ms"], rows)


def _marks(rounds: Rounds, slices: list[Figures]) -> list[Mark]:
    begin, span = int(len(slices) * SETTLED), max(1, len(slices) // 10)
    settled = slices[begin]
    found = [Mark.at_most("lost, doubled or disordered", rounds.total("wrong"), 0, "")]
    for name in settled:
        if name.startswith("MiB "):  # what expires comes and goes: a tenth of the time each, and its median
            before, after = (median([one[name] for one in some]) for some in (slices[begin:][:span], slices[-span:]))
            growth = (after / before - 1) * 100
            what = f"{name[4:]} grew from minute {settled['minute']:.0f} on"
            found.append(Mark.at_most(what, growth, MOST_GROWTH * 100, "%"))
    return found


if __name__ == "__main__":
    sys.exit(main())
