"""The topology: which nodes run where, how they are grouped into processes, and where each of them is reached.

    [mesh]                  MeshSettings
    [host.NAME]             Host; without any: one host "local" at 127.0.0.1
    [process.GROUP]         Group; its processes are called GROUP-1, GROUP-2, …
    [node.KIND]             the node class's Settings; `class = "pkg.mod:Class"` says where the class is
    [SECTION]               a table that a node class names in its `sections`

Every process reads the same file and so knows every endpoint. On one host links are ipc sockets in a private directory;
between hosts they are TCP with CURVE. Any key of [mesh], of a node and of a section can be given in the environment:
IMESH_<TABLE>_<KEY>, for example IMESH_NODE_BROKER_LISTEN. `load` (in `mesh/topology_file.py`) reports every mistake.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.problems import Problem, TopologyError, suggest

if TYPE_CHECKING:
    from mesh.node import Node

__all__ = ["Group", "Host", "MeshSettings", "Problem", "ProcessSpec", "Topology", "TopologyError", "load"]

LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_COUNT = 256
"""Processes of one group on one host, at most: more is a slip of the finger."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
"""Names of hosts and groups: they become file names, socket names and words in logs."""
Z85_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


class MeshSettings(msgspec.Struct, frozen=True):
    """[mesh]: what concerns all processes. Times in seconds."""

    name: str = "imesh"
    """Of this mesh, for people and monitors."""
    package: str = "nodes"
    """Python package with one module per node kind."""
    heartbeat: float = 0.5
    """Between signs of life on a link."""
    lost_after: float = 2.5
    """Silence after which a peer is given up."""
    stats: str = "127.0.0.1:7190"
    """First PUB endpoint for statistics on each host; process i of a host takes port + i. Port 0 = any, "" = none."""
    drain: float = 10.0
    """How long a stopping process may finish what is under way."""
    log_level: str = "info"
    """"debug", "info", "warning" or "error"."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not all(part.isidentifier() for part in self.package.split(".")):
            yield "package", f'expected the name of a Python package, got "{self.package}"'
        if not 0.01 <= self.heartbeat <= 60:  # written so that nan is refused
            yield "heartbeat", "must be from 0.01 to 60"
        elif not 2 * self.heartbeat <= self.lost_after <= 3600:
            yield "lost_after", f"must be from two heartbeats ({2 * self.heartbeat:g}) to 3600"
        if not 0 <= self.drain <= 3600:
            yield "drain", "must be from 0 to 3600"
        if self.log_level not in LOG_LEVELS:
            yield "log_level", f'unknown level "{self.log_level}"' + suggest(self.log_level, LOG_LEVELS)
        try:
            split_address(self.stats)
        except ValueError:
            yield "stats", f'expected "IPv4:port" or "", got "{self.stats}"'


class Host(msgspec.Struct, frozen=True):
    """[host.NAME]: a machine."""

    address: str
    """IPv4 address at which the other hosts reach it."""
    port: int = 7200
    """First mesh port: process i of the host takes port + 2i for calls and port + 2i + 1 for publications."""
    public_key: str = ""
    """CURVE key in Z85; needed as soon as links leave the machine (`imesh keys`)."""

    @property
    def loopback(self) -> bool:
        return ipaddress.IPv4Address(self.address).is_loopback

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            if ipaddress.IPv4Address(self.address).is_unspecified:
                yield "address", f"others must be able to connect to it, {self.address} is no such address"
        except ValueError:
            yield "address", f'expected an IPv4 address, got "{self.address}"'
        if not 1 <= self.port <= 65535:
            yield "port", "must be from 1 to 65535"
        if self.public_key and not Z85_KEY.fullmatch(self.public_key):
            yield "public_key", "expected 40 characters of Z85 as printed by `imesh keys`"


class Group(msgspec.Struct, frozen=True):
    """[process.GROUP]: nodes that live together in a process."""

    nodes: tuple[str, ...]
    """Node kinds, each at most once."""
    count: int = 1
    """Processes on each of the hosts."""
    hosts: tuple[str, ...] = ()
    """Default: the only host."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.nodes:
            yield "nodes", "must name at least one node"
        for key, names in (("nodes", self.nodes), ("hosts", self.hosts)):
            for name in sorted({n for n in names if names.count(n) > 1}):
                yield key, f'"{name}" stands there twice'
        if not 1 <= self.count <= MAX_COUNT:
            yield "count", f"must be from 1 to {MAX_COUNT}"


@dataclass(frozen=True)
class ProcessSpec:
    """One process of the topology. Endpoints as ZeroMQ spells them: first for this host, then for the others."""

    name: str
    group: str
    index: int  # from 1, in its group
    host: str
    nodes: tuple[str, ...]
    rpc: tuple[str, ...]
    pub: tuple[str, ...]
    stats: str  # "" = none
    stats_ipc: str  # the same for monitors on this host


@dataclass(frozen=True, repr=False, eq=False)
class Topology:
    """A topology without a mistake. Its text form shows no settings, because they may hold secrets."""

    path: Path  # as given
    data_dir: Path  # absolute
    run_dir: Path  # private: sockets and lock files; made by `mesh.directories`
    mesh: MeshSettings
    hosts: dict[str, Host]
    processes: dict[str, ProcessSpec]  # in the order of the file
    secure: bool  # links leave the machine: CURVE, and TCP endpoints beside the ipc ones
    _classes: Mapping[str, type[Node]]
    _settings: Mapping[str, Any]
    _sections: Mapping[str, Any]
    _instances: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        instances: dict[str, tuple[str, ...]] = {}
        for name, spec in self.processes.items():
            for kind in spec.nodes:
                instances[kind] = (*instances.get(kind, ()), name)
        object.__setattr__(self, "_instances", instances)

    def __repr__(self) -> str:
        return f"<Topology {self.path}: {', '.join(self.processes)}>"

    def instances(self, kind: str) -> tuple[str, ...]:
        """Names of the processes that hold a node of this kind, in the order of the file; empty without any."""
        return self._instances.get(kind, ())

    def kinds(self) -> tuple[str, ...]:
        """Node kinds that run somewhere."""
        return tuple(self._instances)

    def node_class(self, kind: str) -> type[Node]:
        """The class of a kind. Raises `KeyError` for one that the topology does not have."""
        return self._classes[kind]

    def settings(self, kind: str) -> Any:
        """The Settings of a kind. Raises `KeyError` for one that the topology does not have."""
        return self._settings[kind]

    def section(self, name: str) -> Any:
        """The Struct of a section. Raises `KeyError` for one that no node class declares."""
        return self._sections[name]

    def sections(self) -> Mapping[str, Any]:
        """All sections that node classes declare."""
        return self._sections

    def binds(self, process: str) -> tuple[list[str], list[str]]:
        """Where a process listens: for calls, for subscriptions."""
        spec = self.processes[process]
        return list(spec.rpc), list(spec.pub)

    def rpc_endpoint(self, from_process: str, to_process: str) -> str:
        """Where one process connects to call another."""
        return self._nearest(from_process, to_process, self.processes[to_process].rpc)

    def pub_endpoint(self, from_process: str, to_process: str) -> str:
        """Where one process connects to subscribe to another."""
        return self._nearest(from_process, to_process, self.processes[to_process].pub)

    def _nearest(self, from_process: str, to_process: str, endpoints: tuple[str, ...]) -> str:
        same = self.processes[from_process].host == self.processes[to_process].host
        return endpoints[0] if same else endpoints[1]


def load(path: str | Path, data_dir: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Topology:
    """Read a topology file, with overrides from `environ` (default: the process's).

    `data_dir` defaults to IMESH_DATA, else to `data` beside the file. Node modules are imported; the directory of the
    file is appended to `sys.path` for them. Raises `TopologyError` with every problem at once.
    """
    from mesh.topology_file import read  # it needs the node classes, and they need nothing of it

    environ = os.environ if environ is None else environ
    path = Path(path)
    data = Path(data_dir or environ.get("IMESH_DATA") or path.parent / "data").resolve()
    return read(path, data, environ)


def split_address(text: str) -> tuple[str, int] | None:
    """IPv4:port as a pair, None for an empty text. Raises `ValueError` for anything else."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    ipaddress.IPv4Address(host)
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(text)
    return host, int(port)
