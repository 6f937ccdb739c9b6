"""`imesh stats`: what was sent, by hour or day, as a table, as JSON or as a picture."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mesh.cli import Subparsers, add_command, add_topology_options, load_topology, require_running
from mesh.errors import AppError, MeshError
from mesh.topology import Topology

SPANS = {"hour": 3600, "day": 86_400}
SHOWN = {"hour": 48, "day": 30}
"""Buckets that are shown when no `--since` says otherwise."""
CALL_SECONDS = 10.0
TYPES = {14: "single", 15: "group", 16: "notice"}
EXAMPLES = """\
  imesh stats
  imesh stats --by hour --since 2026-11-01T08:00 --until 2026-11-02
  imesh stats --since 7d --top 10
  imesh stats --group GC_a1 --since 90d --json
  imesh stats --plot month.png

Times are UTC: a day as 2026-11-01, a minute as 2026-11-01T08:00, or 7d or 36h ago. They are widened to whole buckets.
--plot needs matplotlib: pip install 'imesh[plot]'"""


class Row(NamedTuple):
    """A line of the table: when it starts (s since the epoch), and numbers by column."""

    start: int
    numbers: dict[str, int]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "stats", "messages, users and deliveries by hour or day", EXAMPLES)
    parser.add_argument("--since", type=_moment, metavar="TIME", help="default: 30 days or 48 hours before the end")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="default: now")
    parser.add_argument("--by", choices=list(SPANS), default="day", help="default: day")
    of = parser.add_mutually_exclusive_group()
    of.add_argument("--user", metavar="NAME", help="what this user sent")
    of.add_argument("--group", metavar="NAME", help="what was sent in this group")
    of.add_argument("--top", type=int, metavar="N", help="the N users and groups with the most messages")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--plot", metavar="FILE.png", help="draw it (svg and pdf work, too)")
    add_topology_options(parser)
    parser.set_defaults(run=_stats)


def _moment(text: str) -> int:
    """A time of the command line, in s since the epoch."""
    ago = re.fullmatch(r"(\d{1,6})([dh])", text)
    if ago:
        return max(0, int(time.time()) - int(ago[1]) * SPANS["day" if ago[2] == "d" else "hour"])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected 2026-11-01, 2026-11-01T08:00, 7d or 36h") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def _stats(options: argparse.Namespace) -> int:
    if options.plot:
        from cli import plot

        plot.require()
    span = SPANS[options.by]
    until = int(time.time()) + 1 if options.until is None else options.until
    since = until - SHOWN[options.by] * span if options.since is None else options.since
    topology = require_running(load_topology(options))
    if options.top is not None:
        return _top(options, topology, since, until)
    rows = _rows(options, topology, since, until)
    title = f"{options.user or options.group or 'All messages'} per {options.by} (UTC)"
    if options.plot:
        plot.draw(options.plot, title, rows, span)
    if options.json:
        print(json.dumps([{"start": _iso(row.start), **row.numbers} for row in rows], indent=2))
    else:
        everything = options.user is None and options.group is None
        active = str(_call(topology, "active_users", since, until, options.by)) if everything else ""
        _table(rows, options.by, active)
    return 0


def _rows(options: argparse.Namespace, topology: Topology, since: int, until: int) -> list[Row]:
    if options.user is not None:
        found = _call(topology, "user_statistics", options.user, since, until, options.by)
        kinds = [{"single": row[1] - row[5], "group": row[5]} for row in found]
        return [Row(row[0], _sent(row[:5]) | by_kind) for row, by_kind in zip(found, kinds, strict=True)]
    if options.group is not None:
        found = _call(topology, "group_statistics", options.group, since, until, options.by)
        return [Row(row[0], _sent(row[:5]) | {"users": row[5]}) for row in found]
    periods = _call(topology, "statistics", since, until, options.by)
    others = sorted({number for period in periods for number, _ in period[1]} - set(TYPES))
    types = {**TYPES, **{number: f"type {number}" for number in others}}
    outcomes = sorted({name for period in periods for name, _ in period[5]})
    return [_period(period, types, outcomes) for period in periods]


def _period(period: Sequence[Any], types: dict[int, str], outcomes: Sequence[str]) -> Row:
    sent, by_type, users, new_users, accounts, counted = period
    numbers = {"messages": sent[1], **{name: dict(map(tuple, by_type)).get(n, 0) for n, name in types.items()}}
    numbers |= {"users": users, "new_users": new_users, "accounts": accounts}
    numbers |= {name: number for name, number in _sent(sent).items() if name != "messages"}
    numbers |= {name: dict(map(tuple, counted)).get(name, 0) for name in outcomes}
    return Row(sent[0], numbers)


def _sent(sent: Sequence[int]) -> dict[str, int]:
    return dict(zip(("messages", "revoked", "overridden", "deleted"), sent[1:], strict=True))


def _top(options: argparse.Namespace, topology: Topology, since: int, until: int) -> int:
    users, groups = (
        [(name, number) for name, number in _call(topology, method, since, until, options.by, options.top)]
        for method in ("top_users", "top_groups")
    )
    if options.plot:
        from cli import plot

        plot.draw_top(options.plot, f"Most messages, {_iso(since)} to {_iso(until)}", users, groups)
    if options.json:
        print(json.dumps({"users": dict(users), "groups": dict(groups)}, indent=2))
        return 0
    for heading, found in (("users", users), ("groups", groups)):
        print(f"{'messages':>10}  {heading}")
        for name, number in found:
            print(f"{number:>10}  {name}")
    return 0


def _call(topology: Topology, method: str, *args: Any) -> Any:
    from mesh.control import call_method

    try:
        return call_method(topology, f"olap.{method}", list(args), CALL_SECONDS)
    except AppError as error:
        raise MeshError(error.text) from None


def _table(rows: Sequence[Row], by: str, active: str) -> None:
    """Columns as wide as they need. Users of several buckets are partly the same: how many are `active` in all of them
    is no sum."""
    names = list(rows[0].numbers)
    totals = {name: sum(row.numbers[name] for row in rows) for name in names}
    lines = [[f"{by} (UTC)", *names]]
    form = "%Y-%m-%d %H:00" if by == "hour" else "%Y-%m-%d"
    for row in rows:
        lines.append([datetime.fromtimestamp(row.start, UTC).strftime(form), *(str(n) for n in row.numbers.values())])
    lines.append(["total", *(active if name == "users" else str(totals[name]) for name in names)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *cells in lines:
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        print("  ".join([f"{first:<{widths[0]}}", *aligned]))


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
