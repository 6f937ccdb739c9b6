"""Waiting until the archive has what was stored."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent

from store.errors import StoreUnavailable
from store.hot import HotStore
from store.log import ARCHIVE

LOOK_SECONDS = 0.2
WAIT_SECONDS = 60.0


def wait_archived(store: HotStore, look: Callable[[], None] = lambda: None) -> None:
    """Until all that was stored before this call is in the archive; calls `look` meanwhile. In a greenlet. Raises
    `StoreError` when there is no archive, or it does not get there within a minute."""
    started = time.time()
    consumer = store.consumer(ARCHIVE, "command")
    while True:
        progress = consumer.trim().groups.get(ARCHIVE)
        if progress is None:
            raise StoreUnavailable("this system has no archive: [store] archive, and a process with the node olap")
        if time.time() - progress.lag > started or not progress.lag:
            return
        if time.time() > started + WAIT_SECONDS:
            raise StoreUnavailable(f"the archive is {progress.lag:.0f} s behind: see olap in `imesh status`")
        look()
        gevent.sleep(LOOK_SECONDS)
