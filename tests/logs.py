"""The logs of the test process, which commands and processes that run inside it configure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.log import configure


@contextmanager
def own_logs(process: str = "-") -> Iterator[None]:
    """Whatever the block does to the logs of this process, afterwards they are as they were."""
    handlers, level = list(logging.root.handlers), logging.root.level
    configure(process, "info")
    try:
        yield
    finally:
        configure("-", "info")
        logging.captureWarnings(False)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
