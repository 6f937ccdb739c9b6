"""The statistics of all processes, as one process hears them: see `mesh/stats.py`.

Processes of this host are heard over ipc; others only when `[mesh] stats` names an address that can be reached.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from mesh.link import Sockets
from mesh.loop import now
from mesh.topology import Topology

FRESH_SECONDS = 5.0
"""Statistics come every second; older ones are of a process that is gone or hangs."""
_decode = msgspec.json.Decoder().decode


class State(NamedTuple):
    """A process of the topology. `heard`: how many seconds ago, None for never."""

    process: str
    host: str
    nodes: tuple[str, ...]
    up: bool
    heard: float | None


class Monitor:
    """Listens from its making on. It is shared by the nodes of a process: made by `process.shared(monitor)`."""

    def __init__(self, topology: Topology, sockets: Sockets, host: str) -> None:
        self._topology = topology
        self._newest: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self._socket = sockets.stats_reader(self._came)
        for spec in topology.processes.values():
            if spec.host == host:
                self._socket.connect(spec.stats_ipc)
            elif spec.stats and not spec.stats.endswith("*"):
                self._socket.connect(spec.stats)

    def _came(self, body: bytes) -> None:
        try:
            found = _decode(body)
            self._newest[found["process"], found["node"]] = now(), found
        except (msgspec.DecodeError, KeyError, TypeError):
            return  # nobody of ours

    def newest(self) -> list[dict[str, Any]]:
        """The newest statistics of every node of every process that lives."""
        limit = now() - FRESH_SECONDS
        return [body for at, body in self._newest.values() if at >= limit]

    def states(self) -> list[State]:
        """All processes of the topology."""
        heard: dict[str, float] = {}
        for (process, _), (at, _) in self._newest.items():
            heard[process] = max(at, heard.get(process, 0.0))
        at = now()
        return [
            State(s.name, s.host, s.nodes, at - heard.get(s.name, -FRESH_SECONDS) < FRESH_SECONDS,
                  round(at - heard[s.name], 3) if s.name in heard else None)
            for s in self._topology.processes.values()
        ]  # fmt: skip

    def close(self) -> None:
        """The socket is closed with all others of the process."""
