"""Progress of long work, on stderr: a line that changes on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

TERMINAL_SECONDS, LOG_SECONDS = 0.2, 10.0
"""At most so often."""


class Progress:
    """Tells how far something is. `unit`: what is counted, in the plural."""

    def __init__(self, what: str, unit: str, target: TextIO | None = None) -> None:
        self._what = what
        self._unit = unit
        self._target = target or sys.stderr
        self._live = self._target.isatty()
        self._every = TERMINAL_SECONDS if self._live else LOG_SECONDS
        self._started = self._told = time.monotonic()

    def tell(self, done: int, total: int) -> None:
        """So many are done, of so many (0: nobody knows)."""
        time_ = time.monotonic()
        if time_ - self._told < self._every:
            return
        self._told = time_
        rate = done / (time_ - self._started)
        text = f"{self._what}: {done:,} {self._unit}"
        if total:
            text += f" of {total:,} ({done / total:.0%})"
        text += f", {rate:,.0f}/s"
        if total and rate:
            text += f", {_duration((total - done) / rate)} left"
        self._write(text)

    def end(self, done: int) -> None:
        """All is done."""
        seconds = time.monotonic() - self._started
        self._write(f"{self._what}: {done:,} {self._unit} in {_duration(seconds)}")
        if self._live:
            print(file=self._target)

    def _write(self, text: str) -> None:
        if self._live:
            print(f"\r\033[K{text}", end="", file=self._target, flush=True)
        else:
            print(text, file=self._target, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60)} s"
