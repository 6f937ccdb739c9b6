"""Supervises the children of a launcher: starts them, watches them, and stops them in order.

- All are started at once; node processes wait for daemons by themselves.
- Each child is in a session of its own, so that Ctrl-C in a terminal reaches the launcher alone. All have the reading
  end of one pipe as stdin: its end of file tells them that the launcher is dead, however it died. They write to the
  launcher's own stdout and stderr, so logs pass through unchanged and go on without it.
- A child that ends is started again, after 0.1 s, then 0.2 s, … 5 s; from 0.1 s again once it lived for 10 s. Not so if
  a node process ends with code 2 before all have been ready: the topology cannot work, and everything stops with 2.
- SIGTERM, SIGINT or SIGHUP: node processes first (they drain), then daemons. A second one: SIGKILL to all.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

import gevent
import gevent.event
import gevent.os
from gevent import subprocess

from mesh.log import get_log
from mesh.loop import now

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds before a child is started again; doubled each time."""
SETTLED_SECONDS = 5.0
"""A child that lived as long is started again without a longer pause."""
DAEMON_TRIES = 3
"""How often a daemon may end before it was ready for the first time."""
READY_POLL_SECONDS = 0.02
IMPATIENT_SECONDS = 5.0
"""Between notes on what is not ready yet."""
KILL_MARGIN = 1.0
"""Seconds beyond its own limit that a child gets before SIGKILL."""
CONFIG_EXIT = 2
NOT_STARTED = 127

Report = Callable[[str], None]


class Child:
    """A process that is started again whenever it ends."""

    def __init__(
        self, name: str, command: Sequence[str], about: str = "", *, env: Mapping[str, str] | None = None,
        stop_seconds: float, ready: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.about = about
        self.stop_seconds = stop_seconds  # from SIGTERM to SIGKILL
        self.asked = ready  # asked whether it is ready; None: it tells by itself through --ready-fd
        self.ready = False
        self.was_ready = False
        self.starts = 0
        self._command = list(command)
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_daemon(self) -> bool:
        return self.asked is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Of the running process, 0 before the first start."""
        return self._process.pid if self._process is not None else 0

    def start(self, stdin: int) -> int | None:
        """Start it; the descriptor on which it will write `ready`, or None when it is to be asked."""
        self.starts += 1
        self.ready = False
        if self.is_daemon:
            self._process = self._popen(self._command, stdin, ())
            return None
        readable, writable = os.pipe()
        try:
            self._process = self._popen([*self._command, "--ready-fd", str(writable)], stdin, (writable,))
        except BaseException:
            os.close(readable)
            raise
        finally:
            os.close(writable)
        return readable

    def _popen(self, command: list[str], stdin: int, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._env}
        return subprocess.Popen(command, stdin=stdin, pass_fds=fds, env=environment, start_new_session=True)

    def wait(self) -> int:
        """Until it ends: its exit code, negative for a signal."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return int(self._process.wait())

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.running and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class Supervisor:
    """Supervises children until it is told to stop."""

    def __init__(self, children: Sequence[Child], report: Report, all_ready: Callable[[float], None]) -> None:
        self.children = children
        self._report = report
        self._all_ready = all_ready  # called once, with the seconds that it took
        self._log = get_log("supervisor")
        self._started_at = now()
        self._was_ready = False
        self._stopping = gevent.event.Event()
        self._hurry = False
        self._exit_code = 0
        self._changed = gevent.event.Event()
        self._keepers: dict[str, gevent.Greenlet] = {}
        self._lifeline, self._lifeline_end = os.pipe()

    def run(self) -> int:
        """Start all, supervise until `stop`, stop all in order; the exit code."""
        try:
            for child in self.children:
                self._keepers[child.name] = gevent.spawn(self._keep, child)
            impatience = gevent.spawn(self._tell_who_is_late)
            self._stopping.wait()
            impatience.kill()
            self._end([c for c in self.children if not c.is_daemon])
            self._end([c for c in self.children if c.is_daemon])
            return self._exit_code
        finally:
            os.close(self._lifeline)
            os.close(self._lifeline_end)

    @property
    def stopping(self) -> bool:
        return bool(self._stopping.is_set())

    def stop(self, exit_code: int = 0) -> None:
        """Begin to stop; the second time: at once. Safe in signal handlers of gevent."""
        if self._stopping.is_set():
            self._hurry = True
            self._changed.set()
            return
        self._exit_code = exit_code
        self._stopping.set()

    def _end(self, children: Sequence[Child]) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        limit = now() + max((c.stop_seconds for c in children), default=0.0) + KILL_MARGIN
        while any(c.running for c in children) and not self._hurry and now() < limit:
            self._changed.clear()
            self._changed.wait(max(limit - now(), 0.0))
        for child in children:
            if child.running:
                self._log.warning("killed", process=child.name, pid=child.pid)
                child.signal(signal.SIGKILL)
        gevent.joinall([self._keepers[c.name] for c in children])

    # ---- one child

    def _keep(self, child: Child) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = now()
            code = self._run_once(child)
            child.ready = False
            self._changed.set()
            if self._stopping.is_set() or self._is_fatal(child, code):
                return
            if now() - started >= SETTLED_SECONDS:
                pause = FIRST_PAUSE
            self._log.warning("ended, starts again", process=child.name, pid=child.pid, exit=_spell(code), pause=pause)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _run_once(self, child: Child) -> int:
        """From start to end; the exit code."""
        try:
            readable = child.start(self._lifeline)
        except OSError as error:  # no memory, no processes left, no such program
            self._log.error("cannot be started", process=child.name, error=error)
            return NOT_STARTED
        if self._stopping.is_set():  # it came between
            child.signal(signal.SIGTERM)
        if child.starts == 1:
            self._report(f"  {child.name:<10} pid {child.pid:<8} {child.about}".rstrip())
        else:
            self._log.info("started again", process=child.name, pid=child.pid)
        if readable is None:
            gevent.spawn(self._ask_ready, child, child.starts)
        else:
            gevent.spawn(self._read_ready, child, readable)
        return child.wait()

    def _is_fatal(self, child: Child, code: int) -> bool:
        if not child.is_daemon and code == CONFIG_EXIT and not self._was_ready:
            self._report(f"{child.name} cannot run with this topology (see above); everything stops")
            self.stop(CONFIG_EXIT)
        elif child.is_daemon and not child.was_ready and child.starts >= DAEMON_TRIES:
            self._report(f"{child.name} did not start, {DAEMON_TRIES} times (exit: {_spell(code)}); everything stops")
            self.stop(1)
        else:
            return False
        return True

    # ---- readiness

    def _read_ready(self, child: Child, readable: int) -> None:
        try:
            gevent.os.make_nonblocking(readable)
            if gevent.os.nb_read(readable, 64).startswith(b"ready"):
                self._mark_ready(child)
        finally:
            os.close(readable)

    def _ask_ready(self, child: Child, start: int) -> None:
        while child.running and child.starts == start and child.asked is not None:
            if child.asked():
                self._mark_ready(child)
                return
            gevent.sleep(READY_POLL_SECONDS)

    def _mark_ready(self, child: Child) -> None:
        child.ready = child.was_ready = True
        if not self._was_ready and all(c.ready for c in self.children):
            self._was_ready = True
            self._all_ready(now() - self._started_at)

    def _tell_who_is_late(self) -> None:
        while not self._was_ready:
            gevent.sleep(IMPATIENT_SECONDS)
            late = [child.name for child in self.children if not child.was_ready]
            if late:
                self._report(f"waiting for {', '.join(late)} ({now() - self._started_at:.0f} s)")


def _spell(code: int) -> str:
    if code >= 0:
        return str(code)
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
