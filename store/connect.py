"""The client for an address."""

from __future__ import annotations

from collections.abc import Sequence

from store.address import AnyAddress, ClusterAddress, SentinelAddress
from store.client import Client
from store.cluster import Cluster
from store.redis import Redis
from store.scripts import Script
from store.sentinel import finder


def connect(address: AnyAddress, scripts: Sequence[Script] = ()) -> Client:
    """A client that connects by itself, now and whenever the connection is lost."""
    if isinstance(address, ClusterAddress):
        return Cluster(address, scripts)
    if isinstance(address, SentinelAddress):
        return Redis(address.master, scripts, finder(address))
    return Redis(address, scripts)
