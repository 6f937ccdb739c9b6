"""The hot store that the nodes of one process share."""

from __future__ import annotations

from mesh.process import Process
from store.hot import HotStore
from store.settings import StoreSettings

SECTIONS = {"store": StoreSettings}
"""Topology tables of nodes that use the hot store."""


ARCHIVE_NODE = "olap"
"""Drains the log; without one in the topology the log is cut by age."""


def opened(process: Process) -> HotStore:
    """The store, which answers and keeps what it promises. Raises `ConfigError`. In a greenlet."""
    store = process.shared(_store)
    for trouble in store.open():
        process.log.warning("the store was not checked as a whole", trouble=trouble)
    return store


def _store(process: Process) -> HotStore:
    topology = process.topology
    archived = bool(topology.instances(ARCHIVE_NODE))
    return HotStore(topology.section("store"), topology.data_dir, topology.run_dir, archived=archived)
