"""From groups to processes: their names, hosts and endpoints, and whether every port is free for its one use."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mesh.tables import Report
from mesh.topology import Group, Host, MeshSettings, ProcessSpec, split_address

MAX_SOCKET_PATH = 100
"""Bytes of a unix socket's path; the kernel takes 107 and ZeroMQ wants some of them."""
RPC_SUFFIX, PUB_SUFFIX, STATS_SUFFIX = ".rpc", ".pub", ".sts"
ANY_ADDRESS = "0.0.0.0"
ANY_PORT = "*"


def process_names(groups: Mapping[str, Group]) -> list[str]:
    """Names of all processes, in the order of the file."""
    return [f"{name}-{i}" for name, g in groups.items() for i in range(1, g.count * len(g.hosts) + 1)]


def choose_run_dir(data_dir: Path, processes: list[str]) -> Path:
    """A directory whose socket paths are short enough: in the data directory, else one named by its hash in /tmp."""
    longest = max((len(name) for name in processes), default=0) + len(RPC_SUFFIX)
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    for candidate in (data_dir / "run", Path(tempfile.gettempdir()) / f"imesh-{digest}"):
        if len(os.fsencode(candidate)) + 1 + longest <= MAX_SOCKET_PATH:
            return candidate
    return Path("/tmp") / f"imesh-{digest}"


def place(
    mesh: MeshSettings, hosts: Mapping[str, Host], groups: Mapping[str, Group], run_dir: Path, secure: bool
) -> dict[str, ProcessSpec]:
    """The processes of all groups; each group's numbering runs through its hosts."""
    stats = split_address(mesh.stats)
    used = dict.fromkeys(hosts, 0)
    found: dict[str, ProcessSpec] = {}
    for group_name, group in groups.items():
        for index, host in enumerate((host for host in group.hosts for _ in range(group.count)), 1):
            name = f"{group_name}-{index}"
            i, used[host] = used[host], used[host] + 1
            rpc, pub = [f"ipc://{run_dir}/{name}{RPC_SUFFIX}"], [f"ipc://{run_dir}/{name}{PUB_SUFFIX}"]
            if secure:
                rpc.append(f"tcp://{hosts[host].address}:{hosts[host].port + 2 * i}")
                pub.append(f"tcp://{hosts[host].address}:{hosts[host].port + 2 * i + 1}")
            where = "" if stats is None else f"tcp://{stats[0]}:{stats[1] + i if stats[1] else ANY_PORT}"
            near = f"ipc://{run_dir}/{name}{STATS_SUFFIX}"
            found[name] = ProcessSpec(name, group_name, index, host, group.nodes, tuple(rpc), tuple(pub), where, near)
    return found


class _Claim(NamedTuple):
    """A TCP endpoint that a process wants."""

    machine: str
    address: str
    port: int
    who: str
    table: str  # the setting it comes from
    key: str

    def clashes(self, other: _Claim) -> bool:
        same = self.address == other.address or ANY_ADDRESS in (self.address, other.address)
        return same and self.port == other.port and self.machine == other.machine


def _claims(hosts: Mapping[str, Host], spec: ProcessSpec) -> list[_Claim]:
    host = hosts[spec.host]
    # Hosts with one address are one machine, and so are all on loopback: a mesh tried on a laptop.
    machine = "loopback" if host.loopback else host.address
    uses = [("calls", endpoint, f"host.{spec.host}", "port") for endpoint in spec.rpc[1:]]
    uses += [("publications", endpoint, f"host.{spec.host}", "port") for endpoint in spec.pub[1:]]
    if spec.stats and not spec.stats.endswith(ANY_PORT):
        uses.append(("stats", spec.stats, "mesh", "stats"))
    found = []
    for use, endpoint, table, key in uses:
        address, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        found.append(_Claim(machine, address, int(port), f"{use} of {spec.name}", table, key))
    return found


def check_ports(report: Report, hosts: Mapping[str, Host], processes: Mapping[str, ProcessSpec]) -> None:
    """Report ports that two want and ports that do not exist, once per settings that lead to it."""
    taken: list[_Claim] = []
    told: set[frozenset[tuple[str, str]]] = set()
    for claim in [claim for spec in processes.values() for claim in _claims(hosts, spec)]:
        other = next((earlier for earlier in taken if earlier.clashes(claim)), None)
        taken.append(claim)
        if other is not None:
            line = report.line(*other.table.split("."), other.key)
            where = f"[{other.table}] line {line}" if line else f"[{other.table}] {other.key}"
            text = f"tcp://{claim.address}:{claim.port} for {claim.who} is taken by {other.who} ({where})"
            settings = frozenset(((claim.table, claim.key), (other.table, other.key)))
        elif claim.port > 65535:
            text = f"{claim.who} would need port {claim.port}, above 65535"
            settings = frozenset(((claim.table, claim.key),))
        else:
            continue
        if settings not in told:
            told.add(settings)
            report.add(claim.table, claim.key, text)
