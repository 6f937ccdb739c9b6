"""Order at the server of calls: after a failed call of a lane, those that its caller sent before it knew do not run.

A call may fail here (expired, queue full, store gone) while later ones of its lane are on their way or in the queue
already. Its caller fails them as soon as it hears of it (`mesh.calls`), and what it sends from then on has a newer
*run*. So a server that remembers up to which run a lane failed tells the two apart, whatever the delay between them.
"""

from __future__ import annotations

from typing import Any

LIMIT = 20_000
"""Failed lanes that are remembered; the oldest are forgotten first. A lane that goes on is forgotten at once, so what
is kept is of callers that never tried again."""


class Fences:
    """Failed lanes of one handler."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: dict[Any, int] = {}  # lane -> its newest run in which a call failed here

    def __bool__(self) -> bool:
        return bool(self._runs)

    def close(self, lane: Any, run: int) -> None:
        """A call of this run failed: the later ones of the run must not be run."""
        self._runs[lane] = max(run, self._runs.pop(lane, 0))
        if len(self._runs) > LIMIT:
            del self._runs[next(iter(self._runs))]

    def holds(self, lane: Any, run: int) -> bool:
        """Whether a call must not be run. One of a newer run opens the lane."""
        failed = self._runs.get(lane)
        if failed is None:
            return False
        if run <= failed:
            return True
        del self._runs[lane]
        return False
