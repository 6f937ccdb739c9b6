"""Telling other systems what happened: nodes note it here, in the log, and the hooks node makes events of it. Nothing
is noted where none is told."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.process import Process
from nodes import hot
from store.events import Events
from store.log import Noted

_encode = msgspec.json.Encoder().encode


def events_of(process: Process) -> Events | None:
    """The store of events; None where nothing is noted. The process has opened its hot store."""
    if not hot.is_told(process):
        return None
    return hot.opened(process).events(process.topology.section(hot.HOOKS_NODE).keep_events)


class Happenings:
    """What nodes of one process note behind what they did; most is noted by the scripts that do it. `told`: whether
    anybody is told at all."""

    def __init__(self, process: Process) -> None:
        self.told = hot.is_told(process)
        self._noter = hot.opened(process).noter()

    def to_user(self, type_: str, user: str, event_id: str, data: dict[str, Any]) -> None:
        """Note what happened to a user, and wait until it is kept. In a greenlet. Raises `StoreError`."""
        if self.told:
            self._noter.of_user(Noted(user, type_, event_id, _encode(data)))
