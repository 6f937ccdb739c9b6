"""Structured logs: one line per event, logfmt, to stderr.

    2026-11-24T10:00:00.123Z info edge-1 broker login user=alice device=1

Values are quoted and escaped, so that what a client sent can never forge a line or reach the terminal as a command.
No message bodies, no secrets: log ids, lengths and reasons. A line is one write of at most `MAX_LINE` bytes. A log must
not stop the system: when nobody reads the other end, lines are left out, and the next one that passes tells how many.
"""

from __future__ import annotations

import logging
import os
import re
import select
import time
import traceback
from typing import Any

from gevent import monkey

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_VALUE = 1000
"""Characters of one value; stacks may be longer."""
MAX_STACK = 3000
"""Characters of a stack. What is innermost stands last and is kept."""
MAX_LINE = 4096
"""Bytes of a line: PIPE_BUF, so that lines of several processes on one pipe stay whole and a ready pipe takes one."""
STALL_MS = 20
"""How long the first line waits for a full pipe; the following ones do not, until it is read again."""
MAX_KEYS = 1000
"""Keys of `Log.limited` that are remembered, per log."""

_poll = monkey.get_original("select", "poll")
_PLAIN = re.compile(r"[A-Za-z0-9._:/@+,#~*%-]+").fullmatch


class _Output:
    """Where and how this process logs: the one thing here that all logs share."""

    def __init__(self, descriptor: int) -> None:
        self.process = "-"
        self.level = LEVELS["info"]
        self._descriptor = descriptor
        self._lost = 0  # lines since somebody read the last time

    def write(self, line: bytes) -> None:
        """One line without its end. Never raises, and blocks for `STALL_MS` at most."""
        if len(line) >= MAX_LINE:
            line = f"{line[: MAX_LINE - 4].decode(errors='ignore')}…".encode()
        try:
            if not self._takes(0 if self._lost else STALL_MS):
                self._lost += 1
                return
            if self._lost:
                lost, self._lost = self._lost, 0
                os.write(self._descriptor, f"{self.head('warning', 'log')} lines lost count={lost}\n".encode())
            os.write(self._descriptor, line + b"\n")
        except OSError:  # closed, full, or nobody is there any more
            self._lost += 1

    def _takes(self, milliseconds: int) -> bool:
        """Whether a line can be written by then. Two threads (watchdog.py) must not share a poll object."""
        poll = _poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(milliseconds))

    def head(self, level: str, name: str) -> str:
        """How each line begins."""
        seconds = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{stamp}.{int(seconds * 1000) % 1000:03d}Z {level} {self.process} {name}"


_output = _Output(2)


def configure(process: str, level: str) -> None:
    """Name this process in its log lines, set the level, and take in the lines and warnings of libraries."""
    _output.process = process
    _output.level = LEVELS[level]
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


class Log:
    """The log of one node or part."""

    __slots__ = ("_least", "_limits", "name")

    def __init__(self, name: str, least: str = "debug") -> None:
        """`least`: the lowest level of a line that is written, where that of the process is lower."""
        self.name = name
        self._least = LEVELS[least]
        self._limits: dict[str, tuple[float, int]] = {}  # key -> (when it was written, how many were left out since)

    def debug(self, event: str, /, **values: Any) -> None:
        """For developers; off unless the level is debug."""
        self.write("debug", event, values)

    def info(self, event: str, /, **values: Any) -> None:
        """What an operator may want to know."""
        self.write("info", event, values)

    def warning(self, event: str, /, **values: Any) -> None:
        """What an operator should look at, some time."""
        self.write("warning", event, values)

    def error(self, event: str, /, exc_info: BaseException | None = None, **values: Any) -> None:
        """What should not happen; with `exc_info`, its stack follows in the same line, escaped."""
        if exc_info is not None:
            values["error"] = exc_info
            values["stack"] = "".join(traceback.format_exception(exc_info))
        self.write("error", event, values)

    def limited(self, key: str, seconds: float, event: str, /, **values: Any) -> None:
        """A warning at most once in `seconds` for each `key`; the next one tells how many were left out."""
        time_now = time.monotonic()
        last, suppressed = self._limits.get(key, (-seconds, 0))
        if time_now - last < seconds:
            self._limits[key] = (last, suppressed + 1)
            return
        if len(self._limits) >= MAX_KEYS:  # keys may come from a peer
            self._limits.clear()
        self._limits[key] = (time_now, 0)
        if suppressed:
            values["suppressed"] = suppressed
        self.write("warning", event, values)

    def write(self, level: str, event: str, values: dict[str, Any]) -> None:
        """A line of any level."""
        if LEVELS[level] < max(_output.level, self._least):
            return
        fields = "".join(f" {name}={_spell(name, value)}" for name, value in values.items())
        _output.write(f"{_output.head(level, _escape(self.name))} {_escape(event)}{fields}".encode())


def get_log(name: str, least: str = "debug") -> Log:
    """The log of a part of this process; see `Log`."""
    return Log(name, least)


def _escape(text: str) -> str:
    """Without line ends, terminal commands, invisible characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _spell(name: str, value: Any) -> str:
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    if _PLAIN(text) and len(text) <= MAX_VALUE:
        return text
    if name == "stack":
        text = text if len(text) <= MAX_STACK else "…" + text[-MAX_STACK:]
    elif len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "…"
    return '"' + _escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


class _Bridge(logging.Handler):
    """What libraries log, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        values = {"stack": "".join(traceback.format_exception(*record.exc_info))} if record.exc_info else {}
        Log(record.name).write(level if level in LEVELS else "error", record.getMessage()[:MAX_VALUE], values)
