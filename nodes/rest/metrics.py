"""Statistics of all processes in the text format of Prometheus.

    imesh_<node>_<counter>_total{process,host}        a counter; `x.y` becomes x_y
    imesh_<node>_<gauge>{…}                           a gauge
    imesh_<node>_<histogram>_seconds_bucket{…,le}     a histogram
    imesh_process_up{process,host}                    1 while its statistics come

<node> is the kind of node, or "process" for what is of the whole process. Names that end in what varies (codes,
reasons, methods) have it as the label `kind`: see `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

FAMILIES = (
    "answers", "calls.failed", "connections.closed", "drops", "errors", "fanout.events", "links.lost", "passed",
    "queue", "waiting", "age_seconds",
)  # fmt: skip
METHODS = "calls"
"""Of nodes: calls by method. Of a process: what became of the calls that it made, under names of their own."""
PROCESS = "process"
_BAD = re.compile(r"[^a-zA-Z0-9_]")


def exposition(bodies: Sequence[dict[str, Any]], processes: Iterable[Any]) -> str:
    """The text."""
    families: dict[tuple[str, str], list[str]] = {}
    for body in bodies:
        node, labels = body["node"], f'process="{_text(body["process"])}",host="{_text(body["host"])}"'
        for name, value in body["counters"].items():
            metric, more = _split(node, name)
            families.setdefault((f"{metric}_total", "counter"), []).append(f"{{{labels}{more}}} {value}")
        for name, value in body["gauges"].items():
            metric, more = _split(node, name)
            families.setdefault((metric, "gauge"), []).append(f"{{{labels}{more}}} {value}")
        for name, histogram in body["histograms"].items():
            rows = families.setdefault((f"{_split(node, name)[0]}_seconds", "histogram"), [])
            rows += _histogram(histogram, labels)
    up = families.setdefault(("imesh_process_up", "gauge"), [])
    up += [f'{{process="{_text(p.process)}",host="{_text(p.host)}"}} {int(p.up)}' for p in processes]
    lines = []
    for (metric, kind), rows in sorted(families.items()):
        lines.append(f"# TYPE {metric} {kind}")
        lines += [f"{metric}{row}" for row in rows]
    return "\n".join(lines) + "\n"


def _histogram(histogram: dict[str, Any], labels: str) -> list[str]:
    rows, total = [], 0
    for bound, count in zip([*histogram["bounds_ms"], None], histogram["counts"], strict=True):
        total += count
        le = "+Inf" if bound is None else f"{bound / 1000:g}"
        rows.append(f'_bucket{{{labels},le="{le}"}} {total}')
    rows.append(f"_sum{{{labels}}} {histogram['total_ms'] / 1000:.6f}")
    rows.append(f"_count{{{labels}}} {total}")
    return rows


def _split(node: str, name: str) -> tuple[str, str]:
    """The metric that a name becomes, and its label more."""
    for family in FAMILIES if node == PROCESS else (*FAMILIES, METHODS):
        if name.startswith(f"{family}."):
            return _name(node, family), f',kind="{_text(name[len(family) + 1 :])}"'
    return _name(node, name), ""


def _name(node: str, name: str) -> str:
    return _BAD.sub("_", f"imesh_{node}_{name}")


def _text(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
