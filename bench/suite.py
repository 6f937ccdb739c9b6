"""The whole suite, in about twelve minutes: every load against every setting of imesh.

In each round every setting gets a fresh system and its loads: single chats at window 8 and 1 and at 5,000 and 1,000
messages a second, groups of 200 and 2,000, logins, users who come back to what was sent while they were away, pages of
history; then, once, idle connections. The others than `default` and `split` get the loads on which they matter.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import pages, plots, workloads
from bench.dialects.imesh import Imesh
from bench.dialects.imesh_web import ImeshWeb
from bench.measure import CLIENT_CORES, Figures, Mark, Report, Rounds, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, make_parser, parse
from bench.systems import free_port
from bench.systems.debian import redis_7

PAIRS = 500
WINDOWS, RATES = (8, 1), (5_000, 1_000)
TIMES = 3
"""A setting with all loads runs at these rates so many times as long: the archive commits every 1.5 s and indexes words
every 5 s."""
GROUPS = (200, 2_000)
LOGINS = 1_000
AWAY, MANY_AWAY = (20, 200), (1_000, 5)
"""Users and messages for each."""
IDLE = (1_000, 10_000)
SCALES = (2, 4)
MAX_US = {"window 8": (50, 35), "5,000/s": (90, 60), "group of 200": (4, 2), "login": (250, 120), "catch-up": (5, 2)}
"""Of the default layout: what a step may cost at most, in CPU µs, and what is aimed at."""
BEHIND = ("us cold", "us push")
"""Figures of processes that nobody waits for."""
MAX_SPLIT_US, MAX_KIB, MAX_P99_MS = (70, 50), (4, 2), 5.0


class Setting(NamedTuple):
    """A way to run imesh. `full`: all loads, and not only those of single chats."""

    name: str
    mesh: Callable[[], Mesh]
    full: bool = False


def main() -> int:
    parser = make_parser("suite", "The whole suite.", rounds=3, seconds=2.0, quick=(1, 1.0))
    options = parse(parser)
    pin(os.getpid(), CLIENT_CORES)
    workloads.allow_files()
    rounds = Rounds()
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder))
        for number in range(options.rounds):
            for setting in settings:
                _round(rounds, setting, options.seconds)
                found = rounds.text(f"{setting.name}, window 8", "us")
                progress(f"round {number + 1}/{options.rounds}  {setting.name}: {found} µs at window 8")
            _cold_pages(rounds)
        for setting in settings:
            if setting.full or setting.name in ("TLS", "WebSocket"):
                _idle(rounds, setting)
    report = Report("imesh", {
        "rounds": f"{options.rounds} of {options.seconds:g} s each, a fresh system in each",
        "load": f"64-byte texts; single chats: {2 * PAIRS:,} connections in {PAIRS} pairs",
        "durability": "Redis' append-only file, fsynced before each ack, unless the setting says otherwise",
        "others on this machine": rounds.foreign(),
    }, rounds=rounds.figures)  # fmt: skip
    report.tables = tables(rounds, settings)
    report.marks = marks(rounds)
    code = report.publish(options.json)
    plots.suite(rounds)
    return code


# ---- what is measured


def _settings(folder: Path) -> list[Setting]:
    tls = _certificate(folder)
    trusting = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    default = LAYOUTS["default"]

    def mesh(**settings: str) -> Callable[[], Mesh]:
        return lambda: Mesh(default, {**OPEN_DOOR, **settings})

    def scaled(count: int) -> Callable[[], Mesh]:
        topology = folder / f"{count}.toml"
        topology.write_text(_changed(default, "[process.main]\n", f"[process.main]\ncount = {count}\n"))
        ports = {f"IMESH_NODE_{node}_LISTEN": f"127.0.0.1:{free_port()}" for node in ("BROKER", "HTTP")}
        return lambda: Mesh(topology, {**OPEN_DOOR, **ports})  # nodes of one kind share a port that is given

    forgetful = folder / "no-archive.toml"
    forgetful.write_text(_changed(default, '"olap", ', ""))
    return [
        Setting("default", mesh(), full=True),
        Setting("split", lambda: Mesh(LAYOUTS["split"], OPEN_DOOR), full=True),
        Setting("no archive", lambda: Mesh(forgetful, OPEN_DOOR)),
        Setting("everysec", mesh(IMESH_STORE_DURABILITY="everysec")),
        Setting("Redis 7", mesh(**redis_7())),
        Setting("TLS", lambda: Mesh(default, {**OPEN_DOOR, **tls}, dialect=Imesh(trusting))),
        Setting("WebSocket", lambda: Mesh(default, OPEN_DOOR, dialect=ImeshWeb())),
        *(Setting(f"{n} processes", scaled(n)) for n in SCALES),
    ]


def _changed(topology: Path, before: str, after: str) -> str:
    """The text of a topology with something else in one place. Raises `ValueError` when that is not there."""
    text = topology.read_text()
    if text.count(before) != 1:
        raise ValueError(f"{topology} has {before!r} {text.count(before)} times")
    return text.replace(before, after)


def _certificate(folder: Path) -> dict[str, str]:
    """A certificate for localhost that is its own authority, and the settings of a broker that has it."""
    key, pem = folder / "tls.key", folder / "tls.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-keyout", key, "-out", pem, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return {
        "IMESH_NODE_BROKER_TLS_LISTEN": "127.0.0.1:0", "IMESH_NODE_BROKER_TLS_CERTIFICATE": str(pem),
        "IMESH_NODE_BROKER_TLS_KEY": str(key),
    }  # fmt: skip


def _round(rounds: Rounds, setting: Setting, seconds: float) -> None:
    with setting.mesh() as mesh:
        add = partial(_add, rounds, setting.name)
        add("login", workloads.logins(mesh, workloads.users(LOGINS)))
        pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
        pairs.closed_loop(1, workloads.WARM_SECONDS)
        for window in WINDOWS:
            add(f"window {window}", workloads.closed(mesh, pairs, window, seconds))
        for rate in RATES:
            times = TIMES if setting.full else 1
            add(f"{rate:,}/s", workloads.steady(mesh, pairs, rate, times * seconds))
        pairs.close()
        if setting.full:
            for online in GROUPS:
                add(f"group of {online:,}", workloads.group(mesh, online, seconds))
            add("catch-up", workloads.catch_up(mesh, *AWAY))
            add("all at once", workloads.catch_up(mesh, *MANY_AWAY))
            add("pages", pages.read(mesh))


def _cold_pages(rounds: Rounds) -> None:
    with Mesh(LAYOUTS["default"], {**OPEN_DOOR, "IMESH_STORE_HOT_MESSAGES": str(pages.HOT)}) as mesh:
        _add(rounds, "default", "cold pages", pages.read(mesh, archived=True))


def _idle(rounds: Rounds, setting: Setting) -> None:
    for count in IDLE:
        with setting.mesh() as mesh:
            _add(rounds, setting.name, f"{count:,} idle", workloads.idle(mesh, count))
        progress(f"{setting.name}: {count:,} idle connections")


def _add(rounds: Rounds, setting: str, load: str, figures: Figures) -> None:
    rounds.add(f"{setting}, {load}", figures)


# ---- the report


def tables(rounds: Rounds, settings: list[Setting]) -> dict[str, str]:
    heads = ["setting and load", "CPU µs per delivery", "of it Redis", "archive, push", "and later", "deliveries/s",
             "p50 ms", "p99 ms", "servers", "generator"]  # fmt: skip
    chats = [f"window {w}" for w in WINDOWS] + [f"{rate:,}/s" for rate in RATES]
    loads = {
        "Single chats": [f"{setting.name}, {load}" for load in chats for setting in settings],
        "Groups": [f"{s.name}, group of {n:,}" for n in GROUPS for s in settings if s.full],
    }
    found = {title: table(heads, [_row(rounds, key) for key in keys]) for title, keys in loads.items()}
    full = [setting.name for setting in settings if setting.full]
    rows = [[f"login, {s.name}", *(rounds.text(f"{s.name}, login", figure, 0) for figure in ("us", "rate"))]
            for s in settings]  # fmt: skip
    for name in full:
        for load, what, digits in (
            ("catch-up", f"message fetched, {AWAY[0]} users with {AWAY[1]} each", 2),
            ("all at once", f"message fetched, {MANY_AWAY[0]:,} users with {MANY_AWAY[1]} each", 1),
            ("pages", f"message of a page of {pages.PAGE} that Redis holds", 2),
        ):
            key = f"{name}, {load}"
            rows.append([f"{what}, {name}", rounds.text(key, "us", digits), rounds.text(key, "rate", 0)])
    cold = [rounds.text("default, cold pages", figure, digits) for figure, digits in (("us", 2), ("rate", 0))]
    rows.append([f"message of a page of {pages.PAGE} that the archive holds, default", *cold])
    found["Logins and history"] = table(["operation", "CPU µs each", "a second"], rows)
    found["Idle connections"] = table(["connections", "KiB of RSS each", "of it by process"], _idle_rows(rounds))
    return found


def _row(rounds: Rounds, key: str) -> list[str]:
    digits = 2 if "group" in key else 1
    return [
        key, rounds.text(key, "us", digits), rounds.text(key, "store_us", digits),
        f"{_behind(rounds, key):,.{digits}f}", _later(rounds, key),
        rounds.text(key, "rate", 0),
        rounds.text(key, "p50_ms"), rounds.text(key, "p99_ms"), f"{rounds.of(key, 'servers').median:.0%}",
        f"{rounds.of(key, 'generator').median:.0%}",
    ]  # fmt: skip


def _later(rounds: Rounds, key: str) -> str:
    """What was left to do when the load ended, until it was done, all that an idle system does included."""
    return f"{rounds.of(key, 'later_us').median:,.1f}" if "later_us" in rounds.figures[key][0] else ""


def _behind(rounds: Rounds, key: str) -> float:
    """What the nodes that work behind the acknowledgement took: archive and push."""
    names = [name for name in rounds.figures[key][0] if name.startswith(BEHIND)]
    return sum(rounds.of(key, name).median for name in names)


def _idle_rows(rounds: Rounds) -> list[list[str]]:
    rows = []
    for key, runs in rounds.figures.items():
        if key.endswith(" idle"):
            parts = [
                f"{name[4:]} {kib:.2f}" for name, kib in runs[0].items() if name.startswith("kib ") and kib > 0.005
            ]
            rows.append([key, f"{runs[0]['kib']:.2f}", ", ".join(parts)])
    return rows


def marks(rounds: Rounds) -> list[Mark]:
    """What must be reached; what is aimed at stands beside it."""
    found = [Mark.at_most("lost, doubled, disordered or refused", rounds.total("wrong"), 0, "")]
    limits = {f"default, {load}": limit for load, limit in MAX_US.items()}
    for key, (must, aim) in {**limits, "split, window 8": MAX_SPLIT_US}.items():
        found.append(_aimed(key, rounds.of(key, "us").median, must, aim, "µs"))
    idle = f"default, {IDLE[-1]:,} idle"
    found.append(_aimed(idle, rounds.figures[idle][0]["kib"], *MAX_KIB, "KiB"))
    open_loop = "default, 1,000/s"
    found.append(Mark.at_most(f"{open_loop}, p99", rounds.of(open_loop, "p99_ms").median, MAX_P99_MS, "ms"))
    return found


def _aimed(what: str, value: float, must: float, aim: float, unit: str) -> Mark:
    reached = "reached" if value <= aim else "missed"
    return Mark(what, f"{value:,.2f} {unit}", f"at most {must:g} {unit} (aim {aim:g}: {reached})", value <= must)


if __name__ == "__main__":
    sys.exit(main())
