"""A look at the hot paths in less than a minute, to notice what made them slower.

CPU times are told as ratios to a loop of calibration that runs between them, so that machines and their moods hardly
matter. The last recorded figures stand beside them; `--record` adds today's to the history that the repository keeps.
It never fails because something is slow.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import workloads
from bench.measure import CLIENT_CORES, SERVER_CORES, Rounds, commit, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, make_parser, parse
from packs import structs as s
from packs.codec import decode_payload, encode_payload

HISTORY = Path(__file__).parent / "history.jsonl"
PAIRS, LOGINS, ONLINE = 500, 500, 200
CODEC_TURNS = 30_000
CALIBRATION_TURNS = 400
OPERATIONS = {"window 8": "single chat, window 8, a message", "1,000/s": "single chat, 1,000/s, a message",
              "group": "group of 200, a delivery", "login": "login", "catch-up": "catch-up, a message",
              "codec": "a message encoded and decoded"}  # fmt: skip


class Entry(msgspec.Struct):
    """A line of the history."""

    date: str
    commit: str
    calibration_us: float
    """CPU µs of one turn of the loop of calibration, median."""
    ratios: dict[str, float]
    """By operation: its CPU time in turns of that loop."""


def main() -> int:
    parser = make_parser("quick", "The hot paths, in less than a minute.", rounds=3, seconds=1.5, quick=(1, 1.0))
    parser.add_argument("--record", action="store_true", help=f"add the figures to {HISTORY.name}")
    options = parse(parser)
    pin(os.getpid(), CLIENT_CORES)
    rounds = Rounds()
    for number in range(options.rounds):
        _round(rounds, options.seconds)
        progress(f"round {number + 1}/{options.rounds}")
    calibration = rounds.of("calibration", "us").median
    ratios = {name: round(rounds.of(name, "us").median / calibration, 4) for name in OPERATIONS}
    entry = Entry(datetime.now(UTC).strftime("%Y-%m-%d"), commit(), round(calibration, 2), ratios)
    history = [msgspec.json.decode(line, type=Entry) for line in _lines()]
    print(_table(rounds, entry, history[-1] if history else None))
    print(f"\nA turn of calibration took {calibration:.1f} µs; others used {rounds.foreign()}.")
    if wrong := rounds.total("wrong"):
        print(f"{wrong:g} messages were lost, doubled or out of order.")
    if options.record:  # type: ignore[attr-defined]
        with HISTORY.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
    return 0


def _round(rounds: Rounds, seconds: float) -> None:
    rounds.add("calibration", {"us": _calibration()})
    with Mesh(LAYOUTS["default"], OPEN_DOOR) as mesh:
        rounds.add("login", workloads.logins(mesh, workloads.users(LOGINS)))
        pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
        pairs.closed_loop(1, workloads.WARM_SECONDS)
        rounds.add("window 8", workloads.closed(mesh, pairs, 8, seconds))
        rounds.add("1,000/s", workloads.steady(mesh, pairs, 1000.0, seconds))
        pairs.close()
        rounds.add("group", workloads.group(mesh, ONLINE, seconds))
        rounds.add("catch-up", workloads.catch_up(mesh, 20, 100))
    rounds.add("calibration", {"us": _calibration()})
    rounds.add("codec", {"us": _codec()})


def _calibration() -> float:
    """CPU µs of a turn of fixed work of the kind that servers do, on their core: dictionaries, bytes, system calls."""
    pin(os.getpid(), SERVER_CORES)
    read, write = os.pipe()
    begun = time.process_time()
    for turn in range(CALIBRATION_TURNS):
        table_of = {f"key{n}": bytes((n, turn & 255)) for n in range(100)}
        joined = b"".join(table_of[key] for key in sorted(table_of))
        for _ in range(10):
            os.write(write, joined)
            os.read(read, 1000)
    used = time.process_time() - begun
    os.close(read)
    os.close(write)
    pin(os.getpid(), CLIENT_CORES)
    return used * 1e6 / CALIBRATION_TURNS


def _codec() -> float:
    begun = time.process_time()
    message = s.MsgReq(to="somebody", content="x" * 64, content_type=1)
    for _ in range(CODEC_TURNS):
        decode_payload(s.MsgReq, encode_payload(message))
    return (time.process_time() - begun) * 1e6 / CODEC_TURNS


def _lines() -> list[bytes]:
    return HISTORY.read_bytes().splitlines() if HISTORY.exists() else []


def _table(rounds: Rounds, entry: Entry, last: Entry | None) -> str:
    rows = []
    for name, what in OPERATIONS.items():
        before = last.ratios.get(name) if last is not None else None
        change = f"{entry.ratios[name] / before - 1:+.0%}" if before else "-"
        rows.append([what, rounds.text(name, "us", 2), f"{entry.ratios[name]:.3f}", change])
    since = f"since {last.date} ({last.commit})" if last is not None else "nothing recorded"
    return table(["operation", "CPU µs", "in turns of calibration", since], rows)


if __name__ == "__main__":
    sys.exit(main())
