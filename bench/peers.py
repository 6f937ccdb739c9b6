"""imesh beside its peers: the same loads, in the same run, on the same core.

Missing Debian packages are installed (by root); then ejabberd with its archive in mnesia, in MariaDB and without one,
Prosody, mosquitto and imesh take turns, each a private instance on a free port, started by the benchmark itself. All
processes of a system share one core, the generator has the other one; its share tells whether it was the limit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from bench import plots, workloads
from bench.measure import CLIENT_CORES, Figures, Mark, Report, Rounds, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, make_parser, parse
from bench.systems import System, debian, ejabberd, mosquitto, prosody, version

PAIRS = 500
RATES = (5_000, 1_000, 500)
HEADROOM = 1.2
"""A rate is tried where window 8 reached at least so many times as much."""
ONLINE, LOGINS, AWAY = 200, 500, (20, 200)
MANY_AWAY = (1_000, 5)
IDLE = 1_000
MOST_GENERATOR = 0.9
"""A generator busier than this share of its core may be the limit."""


class Contestant(NamedTuple):
    name: str
    start: Callable[[], System]
    packages: tuple[str, ...] = ()
    keeps: bool = True  # messages for users who are away


def _imesh(**settings: str) -> Callable[[], System]:
    return lambda: Mesh(LAYOUTS["default"], {**OPEN_DOOR, **settings})


def _ejabberd(archive: str) -> Contestant:
    name = f"ejabberd, {archive or 'storing nothing'}"
    return Contestant(name, lambda: ejabberd.Ejabberd(archive), ejabberd.ARCHIVES[archive], bool(archive))


CONTESTANTS = (
    Contestant("imesh, fsync before each ack", _imesh()),
    Contestant("imesh, everysec", _imesh(IMESH_STORE_DURABILITY="everysec")),
    *map(_ejabberd, ejabberd.ARCHIVES),
    Contestant("prosody, internal store", prosody.Prosody, prosody.PACKAGES),
    Contestant("mosquitto, in memory", mosquitto.Mosquitto, mosquitto.PACKAGES),
)
INEQUALITIES = """\
- imesh answers a message when it is in Redis' append-only file and that is fsynced (everysec: before the fsync).
  ejabberd with MariaDB stores it twice, once for each of the two people, and acknowledges after the commits; InnoDB
  fsyncs each, the binary log is off. mnesia and Prosody's files are written without fsync; "storing nothing" and
  mosquitto lose everything when they end.
- An acknowledgement is imesh's answer, MQTT's PUBACK at QoS 1, XMPP's answer of stream management, asked for with every
  stanza. Receivers of MQTT acknowledge what they receive, those of XMPP and imesh do not.
- In rooms of XMPP the sender's own copy stands for the acknowledgement; presence in rooms is off, which spares these
  peers most of what a large room costs. mosquitto has topics instead of groups: nobody's membership is checked.
- XMPP clients have an empty roster and no further sessions; passwords are kept in plain text, so that nobody pays for
  a key derivation. imesh runs in open mode, without passwords.
- Nothing is encrypted. Erlang has one scheduler and does not wait busily.
- After an absence imesh's users fetch recent sessions and pages of history, as an app does; XMPP's and MQTT's users
  get what was kept for them, and it is then gone. Logins are part of it.
- imesh's figures include its archive (SQLite), which is written behind the acknowledgement."""


def main() -> int:
    parser = make_parser(
        "peers", "imesh beside ejabberd, Prosody and mosquitto.", rounds=2, seconds=3.0, quick=(1, 1.0)
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="contestants whose name begins so; repeatable")
    options = parse(parser)
    only: list[str] = options.only or [""]  # type: ignore[attr-defined]
    contestants = [one for one in CONTESTANTS if one.name.startswith(tuple(only))]
    debian.install(package for one in contestants for package in one.packages)
    pin(os.getpid(), CLIENT_CORES)
    workloads.allow_files()
    rounds, failures = Rounds(), list[str]()
    for number in range(options.rounds):
        for one in contestants:
            with _told(failures, one.name), one.start() as system:
                _round(rounds, one, system, options.seconds)
                found = rounds.text(f"{one.name}; window 8", "us")
                progress(f"round {number + 1}/{options.rounds}  {one.name}: {found} µs at window 8")
    for one in contestants:
        with _told(failures, one.name), one.start() as system:
            rounds.add(f"{one.name}; idle", workloads.idle(system, IDLE))
            progress(f"{one.name}: {rounds.text(f'{one.name}; idle', 'kib')} KiB per idle connection")
            if one.keeps:
                rounds.add(f"{one.name}; all at once", workloads.catch_up(system, *MANY_AWAY))
    report = Report("imesh beside its peers", {
        "rounds": f"{options.rounds} of {options.seconds:g} s each, a fresh system in each",
        "load": f"64-byte texts; single chats: {2 * PAIRS:,} connections in {PAIRS} pairs",
        "versions": "; ".join((ejabberd.Ejabberd.version(), prosody.Prosody.version(), mosquitto.Mosquitto.version(),
                               version("mariadbd", "--version"))),
        "others on this machine": rounds.foreign(),
    }, rounds=rounds.figures)  # fmt: skip
    report.tables = {**tables(rounds, contestants), "What is not equal": INEQUALITIES}
    report.marks = [*_marks(rounds), *(Mark("finished", failure, "no failure", False) for failure in failures)]
    code = report.publish(options.json)
    plots.peers(rounds)
    return code


@contextmanager
def _told(failures: list[str], name: str) -> Iterator[None]:
    """What a system does not survive is told, and the others go on."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        failures.append(f"{name}: {error}")
        progress(f"failed: {failures[-1]}")


def _round(rounds: Rounds, one: Contestant, system: System, seconds: float) -> None:
    def add(load: str, figures: Figures) -> None:
        rounds.add(f"{one.name}; {load}", figures)

    add("login", workloads.logins(system, workloads.users(LOGINS)))
    pairs = Pairs(system.dialect, system.address(), PAIRS)
    pairs.closed_loop(1, workloads.WARM_SECONDS)
    fastest = workloads.closed(system, pairs, 8, seconds)
    add("window 8", fastest)
    add("window 1", workloads.closed(system, pairs, 1, seconds))
    for rate in RATES:
        known = f"{one.name}; {rate:,}/s" in rounds.figures
        if known or fastest["rate"] > rate * HEADROOM:
            add(f"{rate:,}/s", workloads.steady(system, pairs, rate, seconds))
    pairs.close()
    add("group", workloads.group(system, ONLINE, seconds))
    if one.keeps:
        add("catch-up", workloads.catch_up(system, *AWAY))


def tables(rounds: Rounds, contestants: list[Contestant]) -> dict[str, str]:
    names = [one.name for one in contestants]
    heads = ["system", "CPU µs per delivery", "deliveries/s", "p50 ms", "p99 ms", "servers", "generator"]
    found = {}
    titles = {"window 8": "Single chats, 8 unacknowledged by each of 500 senders",
              "window 1": "Single chats, 1 unacknowledged by each of 500 senders",
              **{f"{rate:,}/s": f"Single chats, {rate:,} messages a second" for rate in RATES},
              "group": f"Group of {ONLINE}, {workloads.ONLINE_WRITERS} writing"}  # fmt: skip
    for load, title in titles.items():
        rows = [_row(rounds, name, f"{name}; {load}") for name in names if f"{name}; {load}" in rounds.figures]
        if rows:
            found[title] = table(heads, rows)
    heads = ["system", "login, CPU µs", f"catch-up, {AWAY[0]} × {AWAY[1]}, µs per message",
             f"{MANY_AWAY[0]:,} × {MANY_AWAY[1]}, µs per message", "the same, s until all have all",
             "KiB per idle connection"]  # fmt: skip
    found["Logins, absences, idle connections"] = table(heads, [_others(rounds, name) for name in names])
    return found


def _row(rounds: Rounds, name: str, key: str) -> list[str]:
    return [
        name, rounds.text(key, "us"), rounds.text(key, "rate", 0), rounds.text(key, "p50_ms"),
        rounds.text(key, "p99_ms"), f"{rounds.of(key, 'servers').median:.0%}",
        f"{rounds.of(key, 'generator').median:.0%}",
    ]  # fmt: skip


def _others(rounds: Rounds, name: str) -> list[str]:
    def cell(load: str, figure: str, digits: int) -> str:
        key = f"{name}; {load}"
        return rounds.text(key, figure, digits) if key in rounds.figures else "-"

    return [
        name, cell("login", "us", 0), cell("catch-up", "us", 1), cell("all at once", "us", 1),
        cell("all at once", "seconds", 2), cell("idle", "kib", 1),
    ]  # fmt: skip


def _marks(rounds: Rounds) -> list[Mark]:
    busiest = max((run["generator"] for runs in rounds.figures.values() for run in runs), default=0.0)
    found = [Mark.at_most("share of its core that the generator used, at most", busiest, MOST_GENERATOR, "")]
    for key, runs in rounds.figures.items():
        if wrong := sum(run.get("wrong", 0.0) for run in runs):
            found.append(Mark.at_most(f"{key}: lost, doubled, disordered or refused", wrong, 0, ""))
    if len(found) == 1:
        found.append(Mark.at_most("lost, doubled, disordered or refused, all systems and runs", 0, 0, ""))
    return found


if __name__ == "__main__":
    sys.exit(main())
