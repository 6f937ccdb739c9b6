"""Short slices of a core. Each test has a process of its own: what a thread asked for cannot be taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh import slices

ROOT = Path(slices.__file__).parents[1]
TOLD = slices.slices_of(0).ns > 0
told = pytest.mark.skipif(not TOLD, reason="this system does not tell slices (Linux does from 6.12 on)")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def _python(code: str) -> list[str]:
    """What it printed."""
    done = _run(sys.executable, "-c", f"import os, threading\nfrom mesh import slices\n{code}")
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


@told
def test_a_thread_gets_short_slices_and_what_it_starts_does_not() -> None:
    before, taken, after, thread = _python(
        "show = lambda: print(*slices.slices_of(0))\n"
        "show(); print(slices.shorten()); show()\n"
        "thread = threading.Thread(target=show); thread.start(); thread.join()"
    )
    ns, reset = before.split()
    assert int(ns) > slices.SHORT_NS and reset == "False"
    assert (taken, after) == ("True", f"{slices.SHORT_NS} True")
    assert thread == before


@told
def test_who_has_another_policy_keeps_it() -> None:
    """An operator's `chrt` is not undone."""
    found = _python(
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        "print(slices.shorten(), os.sched_getscheduler(0) == os.SCHED_IDLE)"
    )
    assert found == ["False True"]


def test_niceness_below_zero_stays_inherited() -> None:
    if os.geteuid():
        pytest.skip("only root may be less nice")
    assert _python("os.setpriority(os.PRIO_PROCESS, 0, -5)\nprint(slices.shorten(), slices.slices_of(0).reset)") == [
        "False False"
    ]


def test_a_command_gets_the_signals_as_usual() -> None:
    """Python ignores SIGPIPE, and what it becomes would, too."""
    done = _run(sys.executable, "-I", "-S", slices.__file__, "grep", "SigIgn", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) & 1 << signal.SIGPIPE - 1 == 0


def test_where_the_system_does_not_know_slices_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    assert not slices.shorten()
    assert slices.slices_of(0) == slices.Slices(0, False)


def test_a_command_is_run_with_short_slices() -> None:
    show = "from mesh import slices; print(*slices.slices_of(0))"
    done = _run(sys.executable, "-I", "-S", slices.__file__, sys.executable, "-c", show)
    assert (done.stdout, done.stderr) == (f"{slices.SHORT_NS} True\n" if TOLD else "0 False\n", "")


def test_a_command_that_is_not_there_is_named() -> None:
    done = _run(sys.executable, "-I", "-S", slices.__file__, "no-such-server", "--port", "0")
    assert (done.returncode, done.stderr) == (slices.NOT_STARTED, "no-such-server: No such file or directory\n")
