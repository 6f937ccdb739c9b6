"""The archive that the nodes of one process share."""

from __future__ import annotations

from mesh.process import Process
from store.archive.database import Archive


def cold_store(process: Process) -> Archive:
    """For `process.shared`."""
    topology = process.topology
    return Archive(topology.section("store").archive_address(topology.data_dir))
