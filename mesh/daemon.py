"""A server that the launcher runs beside the node processes, for example an embedded database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Daemon:
    """What to run, and how to see that it takes requests. It is stopped by SIGTERM, after all node processes.

    It runs under a guard (`mesh/guard.py`), which ends it when the launcher was killed and the node processes are gone,
    and with short slices of its core (`mesh/slices.py`), since they wait for it.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the launcher's own environment."""
    stop_timeout: float = 10.0
    """Seconds from SIGTERM to SIGKILL."""
