"""What is wrong with a topology: every problem is collected, with its place, and reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from mesh.errors import ConfigError

ENVIRONMENT = "environment"
"""Source of problems that stand in an environment variable and not in the file."""


class Problem(NamedTuple):
    """One mistake. `table` is empty for what belongs to no table, `line` None for what stands on none."""

    line: int | None
    table: str
    text: str
    source: str  # the file as the user named it, or ENVIRONMENT

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: [{self.table}] {self.text}" if self.table else f"{place}: {self.text}"


class TopologyError(ConfigError):
    """A topology cannot be used. `problems` are all that were found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.source == ENVIRONMENT, p.line is None, p.line or 0))
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        total = f"{count} problem{'' if count == 1 else 's'}, nothing was started."
        return "\n".join([*map(str, self.problems), total])


def suggest(wrong: str, known: Iterable[str], *, quote: str = '"{}"', list_all: bool = True) -> str:
    """What to put behind `unknown …`: the nearest known name, else all of them when `list_all`."""
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1)
    if near:
        return f"; did you mean {quote.format(near[0])}?"
    return f"; known: {', '.join(quote.format(name) for name in names)}" if names and list_all else ""
