"""The archive: how fast the log is drained into SQL, what a row costs, how far it lags, and pages of ten million rows.

Per round and database: stored messages of 500 pairs wait in the log of a running system and are drained, then 5,000 a
second are sent while the lag is watched from outside. The same rows are written by others who have them ready: by ours
(which parses entries and takes rows twice), by raw executemany, and by peewee's insert_many. Then a large archive is
made, and a client reads pages of 30 from anywhere in it. All servers share one core.
"""

from __future__ import annotations

import os
import sys

from bench import archive_large, archive_loads
from bench.archive_engines import ENGINES, Engine
from bench.archive_loads import OURS, PEEWEE, RAW, WRITERS
from bench.measure import CLIENT_CORES, Mark, Patience, Report, Rounds, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, Options, make_parser, parse

PAIRS = 500
RATE = 5_000.0
ROWS, FEW_ROWS = 10_000_000, 200_000
PAGE_SECONDS = 20.0
LEAST_RATE = {"sqlite": 20_000.0, "mariadb": 15_000.0}
MOST_US, MOST_LAG, MOST_PAGE_MS = 25.0, 2.0, 10.0
DRAIN, SEARCHED, LAG, PAGES = "from the log to SQL", "the same, until all can be searched", "lag", "pages"
TRIES = 4


class ArchiveOptions(Options):
    engine: list[str] | None
    rows: int | None


def main() -> int:
    parser = make_parser("archive", "Draining, lag and pages.", rounds=3, seconds=4.0, quick=(1, 2.0))
    parser.add_argument("--engine", choices=ENGINES, action="append", help="default: both; may be given twice")
    parser.add_argument("--rows", type=int, metavar="N", help=f"of the large archive (default: {ROWS:,})")
    options = parse(parser)
    engines: list[str] = options.engine or list(ENGINES)  # type: ignore[attr-defined]
    rows: int = options.rows or (FEW_ROWS if options.quick else ROWS)  # type: ignore[attr-defined]
    pin(os.getpid(), CLIENT_CORES)
    rounds, patience = Rounds(), Patience(TRIES)
    for number in range(options.rounds):
        for kind in engines:
            with ENGINES[kind]() as engine:
                _round(rounds, kind, engine, options.seconds)
            progress(f"round {number + 1}/{options.rounds}  {kind}: {rounds.text(f'{kind} {DRAIN}', 'rate', 0)} rows/s")
    for kind in engines:
        with ENGINES[kind]() as engine:
            _large(rounds, patience, kind, engine, rows, min(PAGE_SECONDS, 5 * options.seconds))
    settings = {
        "rounds": f"{options.rounds}, with messages of {options.seconds:g} s, a fresh system in each",
        "load": f"64-byte texts of {PAIRS} pairs; embedded Redis, appendfsync always",
        **{kind: ENGINES[kind].version() for kind in engines},
        **patience.told(rounds),
    }
    report = Report("The archive", settings, rounds=rounds.figures)
    report.tables = _tables(rounds, engines, rows)
    report.marks = _marks(rounds, engines, rows)
    return report.publish(options.json)


def _mesh(url: str) -> Mesh:
    settings = {"IMESH_STORE_ARCHIVE": url, "IMESH_NODE_BROKER_REQUESTS_PER_SECOND": "0"}
    return Mesh(LAYOUTS["default"], {**OPEN_DOOR, **settings})


def _round(rounds: Rounds, kind: str, engine: Engine, seconds: float) -> None:
    url = engine.fresh()
    with _mesh(url) as mesh:
        pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
        pairs.closed_loop(1, 0.5)  # everything is loaded, and tables are there
        drained, searched, stored = archive_loads.drain(mesh, engine, url, pairs, seconds)
        rounds.add(f"{kind} {DRAIN}", drained)
        rounds.add(f"{kind} {SEARCHED}", searched)
        rounds.add(f"{kind} {LAG}", archive_loads.lag(mesh, pairs, RATE, seconds))
        pairs.close()
    for name, figures in archive_loads.writers(engine, stored).items():
        rounds.add(f"{kind} {name}", figures)


def _large(rounds: Rounds, patience: Patience, kind: str, engine: Engine, rows: int, seconds: float) -> None:
    url = archive_large.make(engine, rows, lambda made: progress(f"{kind}: {made:,} of {rows:,} rows made"))
    with _mesh(url) as mesh:
        archive_large.settle(mesh, rows)
        archive_large.read(mesh, engine, rows, 1.0)  # everything is loaded
        rounds.add(f"{kind} {PAGES}", patience.run(lambda: archive_large.read(mesh, engine, rows, seconds)))
        pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
        rounds.add(f"{kind} {DRAIN}, large", archive_loads.drain(mesh, engine, url, pairs, seconds / 5)[0])
        pairs.close()


# ---- the report


def _tables(rounds: Rounds, engines: list[str], rows: int) -> dict[str, str]:
    heads = ["rows", "CPU µs per row", "of Redis", "of the server", "rows/s", f"rate of {OURS} by theirs",
             f"rate {DRAIN} by theirs"]  # fmt: skip
    writing = []
    for kind in engines:
        for name in (DRAIN, SEARCHED, f"{DRAIN}, large", *WRITERS):
            key = f"{kind} {name}"
            ours = (f"{kind} {OURS}", f"{kind} {DRAIN}") if name in (RAW, PEEWEE) else ()
            ratios = [rounds.ratio(one, key, "rate").text(2) for one in ours] or ["", ""]
            shown = f"{kind}, {name.replace('large', f'which holds {rows:,}')}"
            figures = [rounds.text(key, figure) for figure in ("us", "redis_us", "server_us")]
            writing.append([shown, *figures, rounds.text(key, "rate", 0), *ratios])
    lag = [
        [kind, *(rounds.text(f"{kind} {LAG}", figure, 2) for figure in ("median", "most")),
         rounds.text(f"{kind} {LAG}", "rate", 0), rounds.text(f"{kind} {LAG}", "p99_ms", 0)] for kind in engines
    ]  # fmt: skip
    pages = [
        [kind, *(rounds.text(f"{kind} {PAGES}", figure) for figure in ("p50_ms", "p99_ms", "most_ms")),
         rounds.text(f"{kind} {PAGES}", "us", 0), rounds.text(f"{kind} {PAGES}", "pages", 0)] for kind in engines
    ]  # fmt: skip
    return {
        "Writing": table(heads, writing),
        f"Lag at {RATE:,.0f} messages a second": table(
            ["archive", "median s", "most s", "messages/s", "p99 ms of a message"], lag
        ),
        f"Pages of {archive_large.PAGE} out of {rows:,} rows, one at a time": table(
            ["archive", "p50 ms", "p99 ms", "most ms", "CPU µs, all processes", "pages"], pages
        ),
    }


def _marks(rounds: Rounds, engines: list[str], rows: int) -> list[Mark]:
    marks = [Mark.at_most("lost, doubled, disordered or refused, and wrong pages", rounds.total("wrong"), 0, "")]
    for kind in engines:
        drain, page = f"{kind} {DRAIN}", rounds.of(f"{kind} {PAGES}", "p99_ms").median
        marks += [
            Mark.at_least(f"{kind}, drained", rounds.of(drain, "rate").median, LEAST_RATE[kind], "rows/s"),
            Mark.at_most(f"{kind}, CPU of a row", rounds.of(drain, "us").median, MOST_US, "µs"),
            Mark.at_most(f"{kind}, longest lag", rounds.of(f"{kind} {LAG}", "most").high, MOST_LAG, "s"),
            Mark.at_most(f"{kind}, a page out of {rows:,} rows, p99", page, MOST_PAGE_MS, "ms"),
        ]
    return marks


if __name__ == "__main__":
    sys.exit(main())
