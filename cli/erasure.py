"""`imesh user erase`: has all data of a user deleted, and shows how far it is. The system does it, and goes on when
the command is stopped."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import gevent

from cli.progress import Progress
from mesh.control import Caller
from mesh.topology import Topology

LOOK_SECONDS = 0.2


class Erasure(NamedTuple):
    """How it is going: as the olap node says it (`nodes/contracts_erasure.py`)."""

    user: str
    state: str
    started: int
    ended: int
    seen: int
    total: int
    messages: int
    notices: int
    groups: int
    friends: int
    trouble: str


def erase(topology: Topology, user: str) -> Erasure:
    """Erase a user of a running system, and wait until it is done. Raises `MeshError`."""
    caller = Caller(topology)
    progress, trouble = Progress("erase", "messages looked at"), ""
    try:
        found = Erasure(*caller.call("olap.erase", [user]))
        while found.state != "done":
            if found.trouble != trouble and found.trouble:
                print(f"imesh: it waits: {found.trouble}", file=sys.stderr)
            trouble = found.trouble
            progress.tell(found.seen, found.total)
            gevent.sleep(LOOK_SECONDS)
            row: list[Any] | None = caller.call("olap.erasure", [user])
            found = Erasure(*row) if row is not None else found
        progress.end(found.seen)
        return found
    finally:
        caller.close()
