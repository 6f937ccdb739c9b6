"""Reads a topology file: every check that `imesh check` makes, in one pass that does not stop at the first problem.

Order: TOML, [mesh], hosts, processes, node classes (imported), overrides from the environment, settings and sections,
what nodes need of each other, ports. A check is left out only where an earlier problem took away what it looks at.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mesh import node_classes
from mesh.node import Node, dependencies_of
from mesh.placement import check_ports, choose_run_dir, place, process_names
from mesh.problems import Problem, TopologyError, suggest
from mesh.tables import Report, override, read_table
from mesh.toml_positions import Positions
from mesh.topology import (
    NAME,
    Group,
    Host,
    MeshSettings,
    Topology,
)

RESERVED = frozenset(("IMESH_DATA", "IMESH_CURVE_SECRET_FILE"))
"""Environment variables of the project that override no key."""
GENERIC = ("mesh", "host", "process", "node")
LOCAL_HOST = "local"

Tables = dict[str, Any]


def read(path: Path, data_dir: Path, environ: Mapping[str, str]) -> Topology:
    """See `mesh.topology.load`; `data_dir` is absolute."""
    text = _text(path)
    document = _parse(path, text)
    reader = _Reader(path, Report(str(path), Positions(text)), document)
    topology = reader.read(data_dir, environ)
    if reader.report.problems or topology is None:
        raise TopologyError(reader.report.problems)
    return topology


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TopologyError([Problem(line, "", "not UTF-8 text", str(path))]) from None
    except OSError as error:
        raise TopologyError([Problem(None, "", f"cannot be read: {error.strerror}", str(path))]) from None


def _parse(path: Path, text: str) -> Tables:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        line, what = (int(found[2]), found[1]) if found else (None, str(error))
        what = what[:1].lower() + what[1:]
        raise TopologyError([Problem(line, "", f"not valid TOML: {what}", str(path))]) from None


class _Reader:
    """The state of one reading."""

    def __init__(self, path: Path, report: Report, document: Tables) -> None:
        self.path = path
        self.report = report
        self.document = document
        self.classes: dict[str, type[Node]] = {}
        self.unknown_kinds: set[str] = set()

    def read(self, data_dir: Path, environ: Mapping[str, str]) -> Topology | None:
        tables = {"mesh": self._table("mesh")}
        self._find_classes(self._package(environ))
        structs = self._structs()
        for name in structs:
            tables[name] = self._table(*name.split("."))
        for name in tables:
            if name.startswith("node."):
                tables[name].pop("class", None)
        override(self.report, tables, {"mesh": MeshSettings, **structs}, environ, RESERVED)
        mesh = read_table(self.report, "mesh", tables.pop("mesh"), MeshSettings)
        read_in = {name: read_table(self.report, name, values, structs[name]) for name, values in tables.items()}
        self._unknown_tables(structs)
        hosts = self._hosts()
        groups = self._groups(hosts)
        if mesh is None or hosts is None or groups is None:
            return None
        secure = len(hosts) > 1 or not all(host.loopback for host in hosts.values())
        if secure:
            self._check_keys(hosts)
        run_dir = choose_run_dir(data_dir, process_names(groups))
        processes = place(mesh, hosts, groups, run_dir, secure)
        check_ports(self.report, hosts, processes)
        self._check_needs(groups)
        if self.report.problems:
            return None
        settings = {kind: read_in[f"node.{kind}"] for kind in self.classes}
        sections = {name: value for name, value in read_in.items() if not name.startswith("node.")}
        topology = Topology(
            self.path, data_dir, run_dir, mesh, hosts, processes, secure, self.classes, settings, sections
        )
        self._ask_the_project(topology, structs)
        return topology

    # ---- tables

    def _table(self, *path: str) -> Tables:
        """A copy of a table, empty when it is absent or no table (`_unknown_tables` tells of the latter)."""
        value: Any = self.document
        for part in path:
            value = value.get(part, {}) if isinstance(value, dict) else {}
        return dict(value) if isinstance(value, dict) else {}

    def _named(self, kind: str) -> dict[str, Any]:
        """The tables [kind.NAME], by name."""
        tables = self._table(kind)
        for name in tables:
            if not isinstance(tables[name], dict):
                self.report.add(f"{kind}.{name}", "", "must be a table")
        return {name: values for name, values in tables.items() if isinstance(values, dict)}

    def _unknown_tables(self, structs: Mapping[str, Any]) -> None:
        known = [*GENERIC, *(name for name in structs if not name.startswith("node."))]
        for name, value in self.document.items():
            if name in known:
                if not isinstance(value, dict):
                    self.report.top(name, f'"{name}" must be a table')
            elif isinstance(value, dict | list):
                # A node that could not be imported may be the one that declares it.
                if not self.unknown_kinds:
                    text = "unknown table: no node of this topology reads it"
                    self.report.add(name, "", text + suggest(name, known, quote="[{}]"))
            else:
                self.report.top(name, f'unknown key "{name}" outside of all tables')

    # ---- node classes

    def _package(self, environ: Mapping[str, str]) -> str:
        """[mesh] package, before [mesh] is checked as a whole."""
        package = environ.get("IMESH_MESH_PACKAGE") or self._table("mesh").get("package", MeshSettings().package)
        return package if isinstance(package, str) else ""

    def _find_classes(self, package: str) -> None:
        directory = str(self.path.parent.resolve())
        if directory not in sys.path:
            sys.path.append(directory)
        wanted: dict[str, tuple[str, str]] = {}  # kind -> where it stands: (table, key)
        for group, values in self._table("process").items():
            nodes = values.get("nodes") if isinstance(values, dict) else None
            for kind in nodes if isinstance(nodes, list) else ():
                if isinstance(kind, str):
                    wanted.setdefault(kind, (f"process.{group}", "nodes"))
        tables = self._named("node")
        for kind in tables:
            wanted.setdefault(kind, (f"node.{kind}", ""))
        for kind, (table, key) in wanted.items():
            path = tables.get(kind, {}).get("class")
            try:
                if path is not None:
                    table, key = f"node.{kind}", "class"
                    self.classes[kind] = node_classes.named(str(path))
                else:
                    self.classes[kind] = node_classes.find(package, kind)
            except LookupError as error:
                self.unknown_kinds.add(kind)
                self.report.add(table, key, str(error.args[0]))

    def _structs(self) -> dict[str, type[msgspec.Struct]]:
        """The Struct of every table that the node classes declare."""
        structs: dict[str, type[msgspec.Struct]] = {f"node.{kind}": cls.Settings for kind, cls in self.classes.items()}
        for kind, cls in self.classes.items():
            for name, struct in cls.sections.items():
                if name in GENERIC or structs.setdefault(name, struct) is not struct:
                    self.report.add(f"node.{kind}", "", f"{cls.__name__} declares [{name}] as {struct.__name__}: taken")
        return structs

    def _check_needs(self, groups: Mapping[str, Group]) -> None:
        """Whether every service that a node calls is there."""
        placed = {kind: name for name, group in reversed(list(groups.items())) for kind in group.nodes}
        for kind, name in placed.items():
            if kind not in self.classes:
                continue
            for service, (_, optional) in dependencies_of(self.classes[kind]).items():
                if not optional and service not in placed:
                    text = f'"{kind}" needs a node "{service}", and no process has one'
                    self.report.add(f"process.{name}", "nodes", text)

    def _ask_the_project(self, topology: Topology, structs: Mapping[str, type[msgspec.Struct]]) -> None:
        """Node classes and section Structs may define `check(topology)`: it yields (table, key, text)."""
        sections = [struct for name, struct in structs.items() if not name.startswith("node.")]
        for asked in [*(self.classes[kind] for kind in topology.kinds()), *sections]:
            for table, key, text in getattr(asked, "check", _no_problems)(topology):
                self.report.add(table, key, f"{key}: {text}" if key else text)

    # ---- hosts and processes

    def _hosts(self) -> dict[str, Host] | None:
        tables = self._named("host")
        if not tables:
            return {LOCAL_HOST: Host("127.0.0.1")} if not self.document.get("host") else None
        found = {}
        for name, values in tables.items():
            self._check_name("host", name)
            found[name] = read_table(self.report, f"host.{name}", values, Host)
        whole = {name: host for name, host in found.items() if host is not None}
        return whole if len(whole) == len(found) else None

    def _groups(self, hosts: Mapping[str, Host] | None) -> dict[str, Group] | None:
        tables = self._named("process")
        if not tables:
            if not self.document.get("process"):
                self.report.add("process", "", "no process: at least one table [process.NAME] with nodes is needed")
            return None
        found = {}
        for name, values in tables.items():
            self._check_name("process", name)
            group = read_table(self.report, f"process.{name}", values, Group)
            if group is not None and hosts is not None:
                group = self._placed(name, group, hosts)
            found[name] = group
        whole = {name: group for name, group in found.items() if group is not None}
        return whole if len(whole) == len(found) else None

    def _placed(self, name: str, group: Group, hosts: Mapping[str, Host]) -> Group | None:
        if not group.hosts and len(hosts) > 1:
            self.report.add(f"process.{name}", "", f'"hosts" is missing, and there are several: {", ".join(hosts)}')
            return None
        unknown = [host for host in group.hosts if host not in hosts]
        for host in unknown:
            self.report.add(f"process.{name}", "hosts", f'unknown host "{host}"' + suggest(host, hosts))
        if unknown:
            return None
        return group if group.hosts else Group(group.nodes, group.count, tuple(hosts))

    def _check_name(self, kind: str, name: str) -> None:
        if not NAME.fullmatch(name):
            self.report.add(f"{kind}.{name}", "", f'"{name}" is no name: expected {NAME.pattern}')

    def _check_keys(self, hosts: Mapping[str, Host]) -> None:
        owners: dict[str, str] = {}
        for name, host in hosts.items():
            table = f"host.{name}"
            if not host.public_key:
                self.report.add(table, "", f'"public_key" is missing: links leave the machine (try: imesh keys {name})')
            elif host.public_key in owners:
                self.report.add(table, "public_key", f"is also the key of [host.{owners[host.public_key]}]")
            owners.setdefault(host.public_key, name)


def _no_problems(_: Topology) -> list[tuple[str, str, str]]:
    return []
