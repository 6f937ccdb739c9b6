"""Pictures of statistics, with matplotlib, which is optional (`pip install 'imesh[plot]'`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mesh.errors import MeshError

if TYPE_CHECKING:
    from cli.stats import Row

TYPES = ("single", "group", "notice")
CHANGES = ("revoked", "overridden", "deleted")
USERS = ("users", "new_users", "accounts")
WIDTH, PANEL_HEIGHT = 10.0, 2.8
"""Inches."""
LABELS = {"users": "active users", "new_users": "new users (first message)", "accounts": "accounts made"}


def require() -> None:
    """Raise `MeshError` when matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MeshError("--plot needs matplotlib, which is not installed: pip install 'imesh[plot]'") from None


def draw(path: str, title: str, rows: Sequence[Row], span: int) -> None:
    """Numbers over time: messages, then whatever else there is, a panel each. Raises `MeshError`."""
    import matplotlib.figure
    import matplotlib.ticker

    have = {name for row in rows for name, number in row.numbers.items() if number}
    known = {"messages", *TYPES, *CHANGES, *USERS}
    others = sorted(name for name in have - known if not name.startswith("type "))
    pushes = [name for name in others if name.startswith("push.")]
    delivered = [name for name in others if name not in pushes]
    panels: list[tuple[str, Sequence[str]]] = [("messages", ())]
    panels += [("users", [name for name in USERS if name in rows[0].numbers])] * ("users" in rows[0].numbers)
    panels += [("messages changed", CHANGES)] * bool(have & set(CHANGES))
    panels += [("deliveries", delivered)] * bool(delivered) + [("pushes", pushes)] * bool(pushes)
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 0.8 + PANEL_HEIGHT * len(panels)), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    times = [datetime.fromtimestamp(row.start, UTC) for row in rows]
    _bars(axes[0], times, rows, span)
    for axis, (label, names) in zip(axes, panels, strict=True):
        for name in names:
            numbers = [row.numbers[name] for row in rows]
            axis.plot(times, numbers, marker="o", markersize=3, linewidth=1.2, label=LABELS.get(name, name))
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=6))
        axis.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda n, _: f"{n:,.0f}"))
        axis.grid(axis="y", alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _date(axes[-1], *(("hour (UTC)", "%m-%d %H:%M") if span == 3600 else ("day (UTC)", "%Y-%m-%d")))
    _save(figure, path)


def _date(axis: Any, label: str, form: str) -> None:
    import matplotlib.dates as dates

    untyped: Any = dates
    axis.xaxis.set_major_locator(untyped.AutoDateLocator(tz=UTC, maxticks=9))
    axis.xaxis.set_major_formatter(untyped.DateFormatter(form, tz=UTC))
    for text in axis.get_xticklabels():
        text.set(rotation=25, ha="right")  # days at the end of a month lie close together
    axis.set_xlabel(label)


def _bars(axis: Any, times: Sequence[datetime], rows: Sequence[Row], span: int) -> None:
    """Messages, by type where that is known, stacked."""
    width = 0.8 * span / 86_400
    stacked = [name for name in rows[0].numbers if name in TYPES or name.startswith("type ")]
    below = [0] * len(rows)
    for name in stacked or ["messages"]:
        numbers = [row.numbers[name] for row in rows]
        if any(numbers) or name in TYPES:
            axis.bar(times, numbers, width, bottom=below, label=name if stacked else None)
        below = [a + b for a, b in zip(below, numbers, strict=True)]


def draw_top(path: str, title: str, users: Sequence[tuple[str, int]], groups: Sequence[tuple[str, int]]) -> None:
    """Who sent, and had, the most messages. Raises `MeshError`."""
    import matplotlib.figure
    import matplotlib.ticker

    longest = max(len(users), len(groups), 1)
    figure = matplotlib.figure.Figure(figsize=(WIDTH, 1.6 + 0.3 * longest), layout="constrained")
    figure.suptitle(title)
    for axis, heading, found in zip(figure.subplots(1, 2), ("users", "groups"), (users, groups), strict=True):
        axis.barh([name for name, _ in found], [number for _, number in found])
        axis.invert_yaxis()
        axis.set_ylim(longest - 0.5, -0.5)
        axis.set_title(heading)
        axis.set_xlabel("messages")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=5))
        axis.grid(axis="x", alpha=0.3)
        for place, (_, number) in enumerate(found):
            beside = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            axis.annotate(f"{number:,}", (number, place), **beside)
        axis.margins(x=0.2)
    _save(figure, path)


def _save(figure: Any, path: str) -> None:
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise MeshError(f"{path}: {error}") from None
