"""The hot store that the nodes of one process share."""

from __future__ import annotations

from functools import partial

import msgspec

from mesh.process import Process
from nodes import cold
from nodes.hook_settings import HooksSettings
from store.hot import HotStore
from store.settings import StoreSettings

SECTIONS: dict[str, type[msgspec.Struct]] = {"store": StoreSettings, "hooks": HooksSettings}
"""Topology tables of nodes that use the hot store."""


ARCHIVE_NODE = "olap"
"""Drains the log; without one in the topology the log is cut by age."""
HOOKS_NODE = "hooks"
"""Makes events of the log for other systems."""


def opened(process: Process) -> HotStore:
    """The store, which answers and keeps what it promises. Raises `ConfigError`. In a greenlet."""
    store = process.shared(_store)
    settles = ARCHIVE_NODE in process.spec.nodes
    for trouble in store.open(partial(cold.settle, process, store) if settles else None):
        process.log.warning("the store was not checked as a whole", trouble=trouble)
    return store


def is_told(process: Process) -> bool:
    """Whether other systems are told of anything. If not, nothing is noted for them."""
    topology = process.topology
    return bool(topology.instances(HOOKS_NODE)) and topology.section("hooks").told


def _store(process: Process) -> HotStore:
    topology = process.topology
    return HotStore(
        topology.section("store"), topology.data_dir, topology.run_dir,
        archived=bool(topology.instances(ARCHIVE_NODE)), told=is_told(process),
    )  # fmt: skip
