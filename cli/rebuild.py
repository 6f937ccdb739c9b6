"""`imesh rebuild`: an emptied Redis is filled again from the archive."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from mesh.cli import Subparsers, add_command, add_topology_options, load_topology, require_running
from mesh.directories import check_run_dir
from mesh.errors import MeshError
from packs.ids import business_session, parties, single_session
from store.archive import carried, dataset
from store.archive.database import Archive
from store.archive.sessions import undrained
from store.client import wait_until_ready
from store.errors import StoreError
from store.hot import HotStore
from store.marks import Pairs
from store.rebuild import Rebuild

CONNECT_SECONDS = 10.0


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    examples = (
        "  imesh rebuild\n\nRun it when Redis has lost its data: until then the nodes of a system with an archive\n"
        "wait, or refuse messages (code 7). An embedded Redis is filled by itself when the system starts."
    )
    parser = add_command(subparsers, "rebuild", "fill an emptied Redis again from the archive", examples)
    parser.add_argument("--force", action="store_true", help="also when Redis is not empty")
    add_topology_options(parser)
    parser.set_defaults(run=_rebuild)


def _rebuild(options: argparse.Namespace) -> int:
    topology = load_topology(options)
    settings = topology.section("store")
    if settings.redis == "embedded":
        require_running(topology)
    else:
        check_run_dir(topology)
    store = HotStore(settings, topology.data_dir, topology.run_dir, archived=True)
    archive = Archive(settings.archive_address(topology.data_dir))
    try:
        wait_until_ready(store.writes, CONNECT_SECONDS)
        _run(store, archive, options.force)
    except StoreError as error:
        raise MeshError(str(error)) from None
    finally:
        archive.close()
        store.close()
    return 0


def _run(store: HotStore, archive: Archive, force: bool) -> None:
    here, there = store.dataset(), archive.read(dataset.read)
    if not there:
        raise MeshError(f"{archive.address!r} holds nothing yet")
    if here and not force:
        raise MeshError("Redis has its data: nothing to rebuild (--force does it all the same)")
    if here not in ("", there):
        raise MeshError(f"{archive.address!r} belongs to other data ({there}) than Redis ({here})")
    for waiting in archive.read(undrained):
        when = datetime.fromtimestamp(waiting.time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        print(f"not archived when {waiting.process} looked last, {when}: {waiting.rows} rows", file=sys.stderr)
    Rebuild(
        store.writes, store.keys, archive, pairs=Pairs(single_session, business_session), parties_of=parties,
        progress=lambda what, count: print(f"restored {count:>10} {what}"),
    ).run()  # fmt: skip
    store.mark_dataset(there)
    archive.write(carried.forget)
