"""Calls between two processes: the mesh, beside blocking pyzmq and zerorpc, with 1, 64 and 1000 callers waiting.

Every contestant echoes 100 bytes over loopback sockets and checks that each caller gets its own bytes back. The callers
of the mesh and of zerorpc are greenlets that block in the call. pyzmq is what one writes by hand without gevent: one
ROUTER and one DEALER with `recv_multipart` and `send_multipart`, as many requests in flight as the others have callers,
no encoding, no matching of answers, no deadlines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import msgspec

from bench import peers
from bench.closed_loop import BLOB_BYTES
from bench.measure import CLIENT_CORES, Figures, Mark, Outcome, Patience, Report, Rounds, pin, progress, table
from bench.nodes import BATCH, PLAIN
from bench.running import Mesh, make_parser, parse
from mesh.control import call_method
from mesh.topology import load

TOPOLOGY = Path(__file__).parent / "rpc.toml"
REPEATS = 15
"""Runs done again because others disturbed them, at most."""
WAITERS = (1, 64, 1000)
MARKED = (64, 1000)
ABOVE_RAW, ABOVE_ZERORPC = 1.2, 40.0
"""How many times the rate of the others must be reached, with as many waiters as in MARKED."""
MESH_PLAIN, MESH_BATCH, RAW, ZERORPC = "imesh, plain handler", "imesh, batch handler", "blocking pyzmq", "zerorpc"
Contest = Callable[[int, float], Outcome]


def main() -> int:
    parser = make_parser("rpc", "Calls between two processes.", rounds=5, seconds=1.5, quick=(2, 0.4))
    options = parse(parser)
    rounds, patience = Rounds(), Patience(0 if options.quick else REPEATS)
    with ExitStack() as stack:
        contest = _contestants(stack)
        for number in range(options.rounds):
            for waiters in WAITERS:
                for name, run in contest.items():
                    figures = patience.run(partial(_figures, run, waiters, options.seconds))
                    rounds.add(f"{name}, {waiters}", figures)
                    rate = f"{figures['rate']:,.0f}/s"
                    progress(f"round {number + 1}/{options.rounds}  {name}, {waiters} waiting: {rate}")
    settings = {
        "rounds": f"{options.rounds} of {options.seconds:g} s each",
        "blob": f"{BLOB_BYTES} bytes",
        **patience.told(rounds),
    }
    report = Report("Calls between two processes", settings, rounds=rounds.figures)
    report.tables = _tables(rounds)
    report.marks = _marks(rounds)
    return report.publish(options.json)


def _figures(run: Contest, waiters: int, seconds: float) -> Figures:
    return run(waiters, seconds).figures()


def _contestants(stack: ExitStack) -> dict[str, Contest]:
    """All of them, running until the stack ends."""
    mesh = stack.enter_context(Mesh(TOPOLOGY))
    front, back = mesh.status["front-1"]["pid"], mesh.status["back-1"]["pid"]
    pin(front, CLIENT_CORES)
    raw = stack.enter_context(closing(peers.Pair(peers.RAW)))
    zerorpc = stack.enter_context(closing(peers.Pair(peers.ZERORPC)))

    topology = load(mesh.topology, mesh.data)

    def ask(handler: str) -> Contest:
        def run(waiters: int, seconds: float) -> Outcome:
            answer = call_method(topology, "caller.run", [handler, waiters, seconds, back], timeout=seconds + 20)
            return msgspec.convert(answer, Outcome)

        return run

    return {MESH_PLAIN: ask(PLAIN), MESH_BATCH: ask(BATCH), RAW: raw.run, ZERORPC: zerorpc.run}


def _tables(rounds: Rounds) -> dict[str, str]:
    tables = {}
    heads = ["contestant", "calls/s", "server µs", "client µs", "both µs", "p50 ms", "p99 ms", "rate of imesh, batch"]
    for waiters in WAITERS:
        rows = []
        for name in (MESH_BATCH, MESH_PLAIN, RAW, ZERORPC):
            key = f"{name}, {waiters}"
            ratio = rounds.ratio(f"{MESH_BATCH}, {waiters}", key, "rate")
            both = rounds.of(key, "server_us").median + rounds.of(key, "client_us").median
            rows.append([
                name, rounds.text(key, "rate", 0), rounds.text(key, "server_us"), rounds.text(key, "client_us"),
                f"{both:,.1f}", rounds.text(key, "p50_ms", 2), rounds.text(key, "p99_ms", 2),
                f"{ratio.median:.2f} times",
            ])  # fmt: skip
        tables[f"{waiters} waiting"] = table(heads, rows)
    return tables


def _marks(rounds: Rounds) -> list[Mark]:
    marks = [Mark.at_most("wrong answers and errors", rounds.total("wrong"), 0, "")]
    for waiters in MARKED:
        for handler in (MESH_BATCH, MESH_PLAIN):
            for other, factor in ((RAW, ABOVE_RAW), (ZERORPC, ABOVE_ZERORPC)):
                ratio = rounds.ratio(f"{handler}, {waiters}", f"{other}, {waiters}", "rate").median
                marks.append(Mark.at_least(f"{handler}, {waiters} waiting, by {other}", ratio, factor, "times"))
    return marks


if __name__ == "__main__":
    sys.exit(main())
