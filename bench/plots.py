"""Plots of results, for the docs: drawn where matplotlib (extra `bench`) is installed, else left out with a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure import Figures, Rounds, progress

FOLDER = Path(__file__).parents[1] / "docs" / "img"
_OURS, _THEIRS = "#1f6f8b", "#b8b8b8"


def suite(rounds: Rounds) -> None:
    """What single chats cost in each setting."""
    for load, name in (("window 8", "settings-window-8"), ("5,000/s", "settings-5000")):
        labels = _labels(rounds, f", {load}")
        _bars(rounds, labels, "us", f"CPU µs per message, single chats, {load}", name, ours="")


def peers(rounds: Rounds) -> None:
    """What the same loads cost in each system."""
    for load, figure, title, name in (
        ("window 8", "us", "CPU µs per message, single chats, window 8", "peers-window-8"),
        ("group", "us", "CPU µs per delivery, group of 200", "peers-group"),
        ("login", "us", "CPU µs per login", "peers-login"),
        ("idle", "kib", "KiB of RSS per idle connection", "peers-idle"),
        ("catch-up", "us", "CPU µs per message fetched after an absence", "peers-catch-up"),
    ):
        _bars(rounds, _labels(rounds, f"; {load}"), figure, title, name, ours="imesh")


def soak(slices: list[Figures]) -> None:
    """Memory of every process over the minutes."""
    pyplot = _pyplot()
    if pyplot is None:
        return
    chart, axes = pyplot.subplots(figsize=(8, 3.2))
    minutes = [one["minute"] for one in slices]
    for name in slices[0]:
        if name.startswith("MiB "):
            axes.plot(minutes, [one[name] for one in slices], label=name[4:])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=3)
    _save(pyplot, chart, axes, "MiB of RSS by process, 1,000 messages a second", "soak")


def _labels(rounds: Rounds, end: str) -> dict[str, str]:
    """What all keys that end so say before: the label of each, with its key."""
    return {key.removesuffix(end): key for key in rounds.figures if key.endswith(end)}


def _bars(rounds: Rounds, labels: dict[str, str], figure: str, title: str, name: str, *, ours: str) -> None:
    """Horizontal bars: medians with their ranges."""
    pyplot = _pyplot()
    if pyplot is None or not labels:
        return
    found = [rounds.of(key, figure) for key in labels.values()]
    chart, axes = pyplot.subplots(figsize=(8, 0.45 * len(labels) + 1))
    errors = [[one.median - one.low for one in found], [one.high - one.median for one in found]]
    colours = [_OURS if label.startswith(ours) else _THEIRS for label in labels]
    medians = [one.median for one in found]
    bars = axes.barh(list(labels), medians, xerr=errors, color=colours, ecolor="#555555", capsize=2)
    axes.bar_label(bars, [f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in medians], padding=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    _save(pyplot, chart, axes, title, name)


def _save(pyplot: Any, chart: Any, axes: Any, title: str, name: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    chart.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
    chart.savefig(FOLDER / f"{name}.png", dpi=110, metadata={"Software": None})
    pyplot.close(chart)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        progress("no plots: pip install matplotlib (or the extra `bench`)")
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
