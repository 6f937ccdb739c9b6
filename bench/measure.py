"""Clocks, figures and tables: what all benchmarks measure with. Nothing here starts anything.

CPU times are microseconds, memory is bytes, everything else is seconds unless its name says otherwise.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

PACKAGES = ("gevent", "greenlet", "pyzmq", "msgspec", "msgpack", "hiredis", "zerorpc")
"""Packages whose versions belong to a result."""
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Figures = dict[str, float]
"""What one run of one contestant measured, by name."""


# ---- processes


def cpu_us(pid: int) -> float:
    """CPU time of all threads of a process and of its children that have ended (in steps of 10 ms); 0 if it is gone."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    except OSError:
        return 0.0
    total = sum(map(int, ended)) * TICK_US
    for thread in threads:
        try:
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) / 1000
        except OSError:
            continue  # it has just ended
    return total


def machine_us() -> float:
    """CPU time of everything on this machine since its start, time stolen by the hypervisor included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _stat_line().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK_US


def _stat_line() -> str:
    with open("/proc/stat") as stat:
        return stat.readline()


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, shared pages included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def descendants(pid: int) -> list[int]:
    """The process and all below it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue  # it has just ended
            children.setdefault(int(parent), []).append(int(entry))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found


CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, CLIENT_CORES, ALL_CORES = CORES[:1], CORES[1:2] or CORES, CORES


def pin(pid: int, cores: Iterable[int]) -> None:
    """Keep all threads of a process on some cores; what they start inherits it."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


class Clock:
    """CPU time of named groups of processes, and of the rest of the machine, from the start to `stop`."""

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups
        self._machine = machine_us()
        self._begun = time.perf_counter()
        self._before = self._read()

    def _read(self) -> Figures:
        return {name: sum(map(cpu_us, pids)) for name, pids in self._groups.items()}

    def stop(self) -> tuple[float, Figures, float]:
        """Seconds, CPU µs by group, and the share of one core that was used by others (negative: clock steps)."""
        after = self._read()
        seconds = time.perf_counter() - self._begun
        used = {name: after[name] - before for name, before in self._before.items()}
        foreign = (machine_us() - self._machine - sum(used.values())) / (seconds * 1e6)
        return seconds, used, foreign


# ---- figures


class Spread(NamedTuple):
    """The median of some rounds, and their range."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 1) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def spread(values: Iterable[float]) -> Spread:
    """Raises `ValueError` when there are none."""
    found = list(values)
    if not found:
        raise ValueError("no rounds")
    return Spread(statistics.median(found), min(found), max(found))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of `values` do not exceed; 0 without values."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


class Rounds:
    """What each contestant measured in each round, in the order of the rounds."""

    def __init__(self) -> None:
        self.figures: dict[str, list[Figures]] = {}

    def add(self, contestant: str, figures: Figures) -> None:
        self.figures.setdefault(contestant, []).append(figures)

    def of(self, contestant: str, figure: str) -> Spread:
        return spread(run[figure] for run in self.figures[contestant])

    def text(self, contestant: str, figure: str, digits: int = 1) -> str:
        return self.of(contestant, figure).text(digits)

    def ratio(self, above: str, below: str, figure: str) -> Spread:
        """`above` by `below`, each round for itself."""
        pairs = zip(self.figures[above], self.figures[below], strict=True)
        return spread(one[figure] / other[figure] for one, other in pairs)

    def foreign(self) -> str:
        """What others used of this machine meanwhile, in cores."""
        found = spread(run["foreign"] for runs in self.figures.values() for run in runs if "foreign" in run)
        return f"{found.median:.2f} of a core, at most {found.high:.2f}"

    def total(self, figure: str) -> float:
        """Sum over all contestants and rounds, those that lack it left out."""
        return sum(run.get(figure, 0.0) for runs in self.figures.values() for run in runs)


class Outcome(NamedTuple):
    """What the client of one closed loop measured."""

    calls: int
    wrong: int  # errors, and answers to another question
    seconds: float
    server_us: float  # CPU time in all
    client_us: float
    foreign: float  # share of a core that others used
    p50: float
    p99: float

    def figures(self) -> Figures:
        """Rate per second, CPU µs per call, latencies in ms."""
        calls = max(1, self.calls)
        return {
            "rate": self.calls / self.seconds, "server_us": self.server_us / calls, "client_us": self.client_us / calls,
            "p50_ms": self.p50 * 1e3, "p99_ms": self.p99 * 1e3, "calls": self.calls, "wrong": self.wrong,
            "foreign": self.foreign,
        }  # fmt: skip


MAX_FOREIGN = 0.25
"""Share of a core that others may use during a run."""


class Patience:
    """Runs again what others on this machine disturbed, as often as there are tries left; then takes what comes."""

    def __init__(self, tries: int) -> None:
        self.left = tries
        self.repeated = 0

    def run(self, measure: Callable[[], Figures]) -> Figures:
        """The figures of `measure()`, which tell "foreign"."""
        while True:
            figures = measure()
            if figures["foreign"] <= MAX_FOREIGN or not self.left:
                return figures
            self.left -= 1
            self.repeated += 1
            progress(f"disturbed by others ({figures['foreign']:.2f} of a core); once more")

    def told(self, rounds: Rounds) -> dict[str, str]:
        """Settings for the report."""
        repeated = f"{self.repeated} runs with more than {MAX_FOREIGN:g} were done again"
        return {"others on this machine": f"{rounds.foreign()}; {repeated}"}


# ---- the report


class Mark(NamedTuple):
    """Something that must hold."""

    what: str
    found: str
    must: str
    reached: bool

    @classmethod
    def at_most(cls, what: str, value: float, limit: float, unit: str) -> Mark:
        return cls(what, f"{value:,.2f} {unit}", f"at most {limit:,g} {unit}", value <= limit)

    @classmethod
    def at_least(cls, what: str, value: float, limit: float, unit: str) -> Mark:
        return cls(what, f"{value:,.2f} {unit}", f"at least {limit:,g} {unit}", value >= limit)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table, padded so that it also reads well as text; the first column is text, the others are numbers."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [[cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
              for line in [lines[0], rule, *lines[1:]]]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def machine() -> dict[str, str]:
    """What a result depends on: when, where, and with which versions."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "cpu": f"{_cpu_model()}, {len(CORES)} cores",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(versions),
        "pinned": "servers and generator each to a core" if len(CORES) > 1 else "no: there is one core only",
    }


def commit() -> str:
    """Of the repository this runs from, "-dirty" when it was changed."""
    return _first_line(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"])


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.splitlines()
    except OSError:
        lines = []
    return lines[0] if lines else "unknown"


class Report(msgspec.Struct):
    """The outcome of a benchmark."""

    name: str
    settings: dict[str, str]
    machine: dict[str, str] = msgspec.field(default_factory=machine)
    tables: dict[str, str] = {}
    marks: list[Mark] = []
    rounds: dict[str, list[Figures]] = {}

    def publish(self, json_file: Path | None) -> int:
        """Print it, write `json_file`; the exit code."""
        print(f"# {self.name}\n")
        for key, value in {**self.machine, **self.settings}.items():
            print(f"- {key}: {value}")
        for title, text in self.tables.items():
            print(f"\n## {title}\n\n{text}")
        marks = [[m.what, m.found, m.must, "yes" if m.reached else "NO"] for m in self.marks]
        print(f"\n## Marks\n\n{table(['mark', 'found', 'must be', 'reached'], marks)}", flush=True)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        return 0 if all(mark.reached for mark in self.marks) else 1


def progress(text: str) -> None:
    """One line for the person who waits, on stderr."""
    print(text, file=sys.stderr, flush=True)
