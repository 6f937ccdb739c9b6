"""Telling other systems what happened: nodes note it here, in the log, and the hooks node makes events of it. Without
such a node in the topology nothing is noted."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.process import Process
from nodes import hot
from nodes.hook_settings import HooksSettings
from store.events import Events
from store.log import Noted

NODE = "hooks"
SECTIONS = {"hooks": HooksSettings}
"""Topology tables of nodes that note events, or ask before messages."""
_encode = msgspec.json.Encoder().encode


def events_of(process: Process) -> Events | None:
    """The store of events; None where nothing is noted. The process has opened its hot store."""
    if not process.topology.instances(NODE):
        return None
    return hot.opened(process).events(process.topology.section(NODE).keep_events)


class Happenings:
    """What nodes of one process note. `told`: whether anybody is told at all."""

    def __init__(self, process: Process) -> None:
        self.told = bool(process.topology.instances(NODE))
        self._noter = hot.opened(process).noter()
        self._log = process.log

    def note(self, type_: str, key: str, event_id: str, data: dict[str, Any]) -> None:
        """Note what happened, and wait until it is kept. In a greenlet. Raises `StoreError`."""
        if self.told:
            self._noter.note(Noted(key, type_, event_id, _encode(data)))

    def note_soon(self, type_: str, key: str, event_id: str, data: dict[str, Any]) -> None:
        """The same on the hub, without waiting; what is answered after it may be answered although it was not kept."""
        if self.told:
            self._noter.note_soon(Noted(key, type_, event_id, _encode(data)), self._noted)

    def _noted(self, _: object, error: Exception | None) -> None:
        if error is not None:
            self._log.limited("event", 10, "an event was not kept", error=error)
