"""A plugin for several pytest processes that share the tests: `python -m tests` starts them.

Each takes the tests of one file after the other, and when it is done with them, those of the next file that nobody has
taken. So the processes end together without knowing how long anything takes, and what the tests of a file share, say a
running system, is started once. (Tests that use a fixture of the session with several values are sorted by the value
first, so such a file is taken once for each.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import pytest

TAKEN = "TAKEN_TESTS_DIRECTORY"
"""Names the directory where the processes note what they have taken."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """What pytest does, with the tests that this process takes."""
    if session.testsfailed or session.config.option.collectonly:
        return None  # as pytest does it
    mine = _mine(session.items, Path(os.environ[TAKEN]))
    item = next(mine, None)
    while item is not None:
        following = next(mine, None)  # it decides which fixtures end with this test
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def _mine(items: list[pytest.Item], taken: Path) -> Iterator[pytest.Item]:
    """The tests that this process takes, as it goes on."""
    names = sha256("\n".join(item.nodeid for item in items).encode()).hexdigest()
    if not _take(taken / "all", names) and (taken / "all").read_text() != names:
        raise pytest.UsageError("the processes do not see the same tests in the same order")
    for number, (_, group) in enumerate(groupby(items, key=lambda item: item.path)):
        if _take(taken / str(number)):
            yield from group


def _take(path: Path, content: str = "") -> bool:
    """Whether this process is the first."""
    own = path.with_name(f"{path.name}-{os.getpid()}")
    own.write_text(content)
    try:
        os.link(own, path)  # whole, or not at all
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True
