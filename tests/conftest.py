"""What all tests share: the standard library patched as in a node, a deadline for each test, nothing left behind."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from types import FrameType  # noqa: E402

import gevent  # noqa: E402
import gevent.util  # noqa: E402
import pytest  # noqa: E402

# Tests start some thousand processes. Where this is set (images of containers), each would compile all modules again,
# which is a third of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# As a background job (of a shell, of nohup) we would ignore it, and so would all that we start and want to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gevent.get_hub().loop  # noqa: B018  # made now, so that its descriptors are there before any test counts them

FAILED = "FAILED_TESTS_FILE"
"""Names a file to which failed tests are written."""
TEST_SECONDS = 120
"""Longest that a test may take; `@pytest.mark.seconds(n)` gives it another limit."""


class HungTest(Exception):
    """The test ran into its deadline; the stacks of all greenlets are on stderr."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell `tests.__main__` what failed."""
    if report.failed and FAILED in os.environ:
        with open(os.environ[FAILED], "a") as file:
            file.write(f"{report.nodeid}\n")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "seconds(n): how long this test may take")


@pytest.fixture(autouse=True)
def deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a hung test, showing where every greenlet is."""
    mark = request.node.get_closest_marker("seconds")
    main = gevent.getcurrent()

    def ring(_signal: int, _frame: FrameType | None) -> None:
        print("\n".join(gevent.util.format_run_info()), file=sys.stderr)
        if gevent.getcurrent() is main:
            raise HungTest("the test takes too long")
        gevent.get_hub().loop.run_callback(main.throw, HungTest("the test hangs"))

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, mark.args[0] if mark else TEST_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
