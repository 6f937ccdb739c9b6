"""The hot store that the nodes of one process share."""

from __future__ import annotations

from mesh.process import Process
from store.hot import HotStore
from store.settings import StoreSettings

SECTIONS = {"store": StoreSettings}
"""Topology tables of nodes that use the hot store."""


ARCHIVE_NODE = "olap"


def hot_store(process: Process) -> HotStore:
    """For `process.shared`."""
    topology = process.topology
    archived = bool(topology.instances(ARCHIVE_NODE))
    return HotStore(topology.section("store"), topology.data_dir, topology.run_dir, archived=archived)
