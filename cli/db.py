"""`imesh db`: the tables of the archive."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import peewee

from mesh.cli import Subparsers, add_command, add_topology_options, load_topology
from mesh.errors import MeshError
from mesh.topology import Topology
from store.archive import migrations, poison, unindexed
from store.archive.database import Archive
from store.errors import StoreError

R = TypeVar("R")
SHOWN = 10
"""Rows set aside that `status` shows."""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = "  imesh db status\n  imesh db migrate --topology topologies/split.toml"
    parser = add_command(subparsers, "db", "the tables of the archive ([store] archive)", examples)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    migrate = actions.add_parser("migrate", help="make the migrations that are missing (an olap node does it, too)")
    migrate.set_defaults(run=_migrate)
    reindex = actions.add_parser("reindex", help="make the search index again, while it is in use, from the newest on")
    reindex.set_defaults(run=_reindex)
    status = actions.add_parser("status", help="which migrations were made, and which rows of the log were set aside")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)
    for action in (migrate, reindex, status):
        add_topology_options(action)


def ask(topology: Topology, function: Callable[[peewee.Database], R]) -> R:
    """What the archive says. Raises `MeshError` when it cannot."""
    archive = Archive(topology.section("store").archive_address(topology.data_dir))
    try:
        return archive.write(function)
    except StoreError as error:
        raise MeshError(str(error)) from None
    finally:
        archive.close()


def _migrate(options: argparse.Namespace) -> int:
    made = ask(load_topology(options), migrations.migrate)
    for migration in made:
        print(f"migrated: {migration.number} {migration.name}")
    if not made:
        print("nothing to migrate")
    return 0


def _reindex(options: argparse.Namespace) -> int:
    ask(load_topology(options), unindexed.restart)
    print("the olap node indexes all messages again; imesh status tells how far it is")
    return 0


def _status(options: argparse.Namespace) -> int:
    found = ask(load_topology(options), migrations.status)
    aside = ask(load_topology(options), _set_aside) if found[0].time else (0, [])
    if options.json:
        rows = [{"tag": t, "id": i, "time": ms, "error": e} for t, i, ms, e in aside[1]]
        steps = [{"number": m.number, "name": m.name, "time": m.time} for m in found]
        print(json.dumps({"migrations": steps, "set_aside": aside[0], "newest": rows}, indent=2))
        return 0
    for step in found:
        print(f"{step.number:>4} {step.name:<20} {_when(step.time) if step.time else 'missing: imesh db migrate'}")
    if aside[0]:
        print(f"{aside[0]} rows of the log are set aside in the table poison; the newest:")
        for tag, row, ms, error in aside[1]:
            print(f"  {_when(ms)}  {tag} {row}  {error}")
    return 0


def _set_aside(db: peewee.Database) -> tuple[int, list[tuple[str, str, int, str]]]:
    return poison.count(db), poison.newest(db, SHOWN)


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
