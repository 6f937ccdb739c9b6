"""Statistics of all processes in the text format of Prometheus.

    imesh_<counter>_total{process,host,node}     a counter; `x.y` becomes x_y
    imesh_<gauge>{…}                             a gauge
    imesh_<histogram>_seconds_bucket{…,le}       a histogram
    imesh_process_up{process,host}               1 while its statistics come

Counters whose names end in what varies (codes, reasons, methods) have it as the label `kind`: see `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

FAMILIES = (
    "answers", "calls.failed", "connections.closed", "drops", "errors", "fanout.events", "hooks.failed", "links.lost",
    "push.refused",
)  # fmt: skip
_BAD = re.compile(r"[^a-zA-Z0-9_]")


def exposition(bodies: Sequence[dict[str, Any]], processes: Iterable[Any]) -> str:
    """The text."""
    families: dict[tuple[str, str], list[str]] = {}
    for body in bodies:
        labels = f'process="{_text(body["process"])}",host="{_text(body["host"])}",node="{_text(body["node"])}"'
        for name, value in body["counters"].items():
            metric, more = _split(name)
            families.setdefault((f"imesh_{metric}_total", "counter"), []).append(f"{{{labels}{more}}} {value}")
        for name, value in body["gauges"].items():
            metric, more = _split(name)
            families.setdefault((f"imesh_{metric}", "gauge"), []).append(f"{{{labels}{more}}} {value}")
        for name, histogram in body["histograms"].items():
            rows = families.setdefault((f"imesh_{_name(name)}_seconds", "histogram"), [])
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


def _split(name: str) -> tuple[str, str]:
    for family in FAMILIES:
        if name.startswith(f"{family}."):
            return _name(family), f',kind="{_text(name[len(family) + 1 :])}"'
    return _name(name), ""


def _name(name: str) -> str:
    return _BAD.sub("_", name)


def _text(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
