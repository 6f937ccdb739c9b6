"""Whether others want the core that this thread runs on: work that nobody waits for steps back then."""

from __future__ import annotations

from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Of the thread that reads it: ns that it ran, ns that it could have run and waited for a core, and turns."""


class Contention:
    """Asked now and then, by one thread."""

    def __init__(self) -> None:
        self._before = _read()

    def share(self) -> float:
        """Of the time since the last call in which this thread could have run, the part in which it waited for a core,
        0 to 1. 0 where the system does not tell (it is no Linux, or one without scheduler statistics)."""
        ran, waited = _read()
        before, self._before = self._before, (ran, waited)
        ran, waited = ran - before[0], waited - before[1]
        return waited / (ran + waited) if ran + waited > 0 else 0.0


def _read() -> tuple[int, int]:
    try:
        ran, waited, _ = _SCHEDSTAT.read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(ran), int(waited)
