"""Log lines: their form, and that nothing forges or stops them."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.log import LEVELS, MAX_LINE, configure, get_log
from tests.logs import own_logs

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    with own_logs("edge-1"):
        yield


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    found = capfd.readouterr().err.splitlines()
    assert all(STAMP.match(line) for line in found), found
    return [STAMP.sub("", line, count=1) for line in found]


def test_form(capfd: pytest.CaptureFixture[str]) -> None:
    log = get_log("broker")
    log.info("login", user="alice", device=1, text="two words", empty="", error=ValueError("no"), nothing=None)
    log.debug("not at this level")
    assert lines(capfd) == [
        'info edge-1 broker login user=alice device=1 text="two words" empty="" error="ValueError: no" nothing=None'
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_levels(level: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure("edge-1", level)
    log = get_log("x")
    for write in (log.debug, log.info, log.warning, log.error):
        write("event")
    assert len(lines(capfd)) == 4 - list(LEVELS).index(level)


def test_a_log_may_say_less_than_its_process(capfd: pytest.CaptureFixture[str]) -> None:
    quiet = get_log("quiet", "error")
    for log in (quiet, get_log("x")):
        log.warning("event")
        log.error("event")
    assert lines(capfd) == [
        "error edge-1 quiet event", "warning edge-1 x event", "error edge-1 x event",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\n2026-11-24T10:00:00.123Z error x y", r'"a\r\n2026-11-24T10:00:00.123Z error x y"'),
        ("\x1b[31mred", r'"\x1b[31mred"'),
        ('a" b="c', r'"a\" b=\"c"'),
        ("back\\slash", r'"back\\slash"'),
        ("a=b", '"a=b"'),
        ("\u2028\u202e\x85\x00", r'"\u2028\u202e\x85\x00"'),
        ("\ud800", r'"\ud800"'),
        ("größe 大", '"größe 大"'),
    ],
)
def test_no_value_forges_a_line(text: str, shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    get_log("x").info("event", value=text)
    get_log("x").info(text)
    first, second = lines(capfd)
    assert first == f"info edge-1 x event value={shown}"
    assert second.startswith("info edge-1 x ")


def test_lines_are_cut(capfd: pytest.CaptureFixture[str]) -> None:
    get_log("x").info("event", **{f"v{i}": "大" * 5000 for i in range(10)})
    written = capfd.readouterr().err.encode()
    assert len(written) <= MAX_LINE
    assert written.count(b"\n") == 1


def test_a_stack_keeps_its_innermost_part(capfd: pytest.CaptureFixture[str]) -> None:
    def ping(depth: int) -> None:
        pong(depth - 1)

    def pong(depth: int) -> None:
        if depth <= 0:
            raise ValueError("at the ground")
        ping(depth - 1)

    try:
        ping(100)
    except ValueError as error:
        get_log("x").error("failed", exc_info=error)
    (line,) = lines(capfd)
    assert line.startswith('error edge-1 x failed error="ValueError: at the ground" stack="…')
    assert line.endswith(r'ValueError: at the ground\n"')


def test_limited(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    log = get_log("x")
    for at, key in [(100, "a"), (101, "a"), (102, "b"), (109, "a"), (110, "a"), (121, "a")]:
        clock[0] = at
        log.limited(key, 10, "event", key=key)
    assert lines(capfd) == [
        "warning edge-1 x event key=a",
        "warning edge-1 x event key=b",
        "warning edge-1 x event key=a suppressed=2",
        "warning edge-1 x event key=a",
    ]


def test_what_libraries_log(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("some.library").warning("odd\n%s", "thing")
    logging.getLogger("some.library").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", UserWarning, stacklevel=1)
    first, second = lines(capfd)
    assert first == r"warning edge-1 some.library odd\nthing"
    assert second.startswith("warning edge-1 py.warnings ")


def test_a_reader_that_sleeps_does_not_stop_the_process() -> None:
    script = (
        "from mesh.log import get_log\nimport sys\nlog = get_log('x')\n"
        "for i in range(5000): log.info('event', text='x' * 100, i=i)\n"
        "print('done', flush=True); sys.stdin.readline(); log.info('last')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stderr is not None and child.stdin is not None
        assert child.stdout.readline() == b"done\n"
        head = child.stderr.read(30_000)
        child.stdin.write(b"\n")
        child.stdin.close()
        written = (head + child.stderr.read()).decode().splitlines()
    assert all(STAMP.match(line) for line in written)
    *_, lost, last = written
    assert last.endswith("info - x last")
    count = re.search(r"warning - log lines lost count=(\d+)$", lost)
    assert count is not None
    assert int(count[1]) + len(written) - 2 == 5000


def test_threads_log_at_the_same_time(tmp_path: Path) -> None:
    script = """
from threading import Thread
from mesh.log import get_log
threads = [Thread(target=lambda: [get_log("x").info("event") for _ in range(2000)]) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", script], stderr=log, check=True)
    found = (tmp_path / "log").read_text().splitlines()
    assert {STAMP.sub("", line, count=1) for line in found} == {"info - x event"} and len(found) == 6000


def test_nobody_reads_any_more() -> None:
    script = "from mesh.log import get_log\nfor i in range(3): get_log('x').info('event')\nprint('done')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None and child.stdout is not None
        child.stderr.close()
        assert child.stdout.read() == b"done\n"
    assert child.returncode == 0
