"""What a stored message costs in Redis: 64-byte texts of 100 pairs, and where the bytes lie.

The whole is the growth of Redis' `used_memory`; the parts are `MEMORY USAGE` of all keys, by kind. History stays; the
digests that recognise repeats and the log expire (`[store] dedup_seconds`, `log_seconds`).
"""

from __future__ import annotations

import os
import sys
from collections import Counter

import redis

from bench.dialects import TEXT_BYTES
from bench.measure import CLIENT_CORES, Report, Rounds, pin, progress, table
from bench.pairs import Pairs
from bench.running import LAYOUTS, OPEN_DOOR, Mesh, make_parser, parse

PAIRS, WINDOW = 100, 8
KINDS = {"h": "history: the message as it was sent, with its numbers", "log": "log, until it is archived or expires",
         "d": "digest by which a repeat is recognised, until it expires"}  # fmt: skip


def main() -> int:
    parser = make_parser("memory", "What a stored message costs in Redis.", rounds=1, seconds=20.0, quick=(1, 3.0))
    options = parse(parser)
    pin(os.getpid(), CLIENT_CORES)
    rounds = Rounds()
    for number in range(options.rounds):
        with Mesh(LAYOUTS["default"], OPEN_DOOR) as mesh:
            pairs = Pairs(mesh.dialect, mesh.address(), PAIRS)
            pairs.closed_loop(1, 0.5)  # keys exist
            server = redis.Redis(unix_socket_path=_socket(mesh))
            before, first = _used(server), _by_kind(server)
            messages = pairs.closed_loop(WINDOW, options.seconds).acked
            after, last = _used(server), _by_kind(server)
            pairs.close()
        parts = {kind: (last[kind] - first[kind]) / messages for kind in last}
        rounds.add("bytes", {"whole": (after - before) / messages, "messages": messages, **parts})
        progress(f"round {number + 1}/{options.rounds}  {rounds.text('bytes', 'whole', 0)} bytes")
    settings = {"load": f"{TEXT_BYTES}-byte texts in {PAIRS} sessions"}
    report = Report("Memory of a message", settings, rounds=rounds.figures)
    report.tables = {"Bytes of Redis per message": _table(rounds)}
    return report.publish(options.json)


def _socket(mesh: Mesh) -> str:
    return next(str(path) for path in mesh.data.rglob("*redis*") if path.is_socket())


def _used(server: redis.Redis) -> int:
    return int(server.info("memory")["used_memory_dataset"])  # type: ignore[index]


def _by_kind(server: redis.Redis) -> Counter[str]:
    """Bytes of all keys, by the letter behind the tag."""
    found: Counter[str] = Counter()
    for key in server.scan_iter(count=1000):
        kind = key.split(b":")[1].decode() if key.startswith(b"{") else "other"
        found[kind if kind in KINDS else "other"] += server.memory_usage(key, samples=0) or 0  # type: ignore[operator]
    return found


def _table(rounds: Rounds) -> str:
    rows = [[text, rounds.text("bytes", kind, 0)] for kind, text in KINDS.items()]
    rows += [["all of it, as Redis' own figure grows", rounds.text("bytes", "whole", 0)]]
    return table(["what", "bytes"], rows)


if __name__ == "__main__":
    sys.exit(main())
