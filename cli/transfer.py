"""`imesh export`, `import`, `backup`, `restore`: the archive as JSON Lines, to move it, to keep it, to look into it."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from cli.progress import Progress
from mesh.cli import Subparsers, add_command, add_topology_options, load_topology, require_running
from mesh.errors import ConfigError, MeshError
from store.archive import carried, migrations, transfer
from store.archive.database import Archive
from store.archive.transfer import BadLine, Counts, Selection
from store.client import wait_until_ready
from store.drained import wait_archived
from store.errors import StoreError
from store.hot import HotStore

CONNECT_SECONDS = 10.0
STANDARD = "-"
GZIP = ".gz"


def register_export(subparsers: Subparsers) -> None:
    """Add `imesh export`."""
    examples = (
        "  imesh export all.jsonl.gz\n"
        "  imesh export --table messages --session SC_ann_ben --since 2026-11-01 - | jq -r .payload.content\n\n"
        "The export is of one instant and disturbs nobody. What the log holds and the archive does not have yet is\n"
        "not in it (`imesh status` says how far behind the archive is)."
    )
    parser = add_command(subparsers, "export", "write the archive as JSON Lines", examples)
    parser.add_argument("file", metavar="FILE", help="where to; - is stdout; compressed when it ends in .gz")
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="only this one; may be given several times"
    )
    parser.add_argument("--session", default="", metavar="ID", help="messages of this session, and nothing else")
    parser.add_argument(
        "--since", type=_moment, default=0, metavar="TIME", help="messages stored from then on (UTC), and nothing else"
    )
    parser.add_argument(
        "--until", type=_moment, default=0, metavar="TIME", help="messages stored before (UTC), and nothing else"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    add_topology_options(parser)
    parser.set_defaults(run=_export, what="export")


def register_import(subparsers: Subparsers) -> None:
    """Add `imesh import`."""
    examples = (
        "  imesh import all.jsonl.gz\n\n"
        "What is there already stays: of two revisions of a message the later one, of other rows with the same key the "
        "imported.\nAn import that was cut off is simply made again."
    )
    parser = add_command(subparsers, "import", "read JSON Lines into the archive", examples)
    parser.add_argument(
        "file", metavar="FILE", help="what `imesh export` wrote; - is stdin; compressed when it ends in .gz"
    )
    add_topology_options(parser)
    parser.set_defaults(run=_import, what="import")


def register_backup(subparsers: Subparsers) -> None:
    """Add `imesh backup`."""
    examples = (
        "  imesh backup /backups/$(date +%F).jsonl.gz\n\n"
        "The system goes on meanwhile. What was stored when the command was given is in the backup, and all of it is\n"
        "of one instant. Of the data directory only `secrets/` and `keys/` are to be kept beside it."
    )
    parser = add_command(subparsers, "backup", "write all data of a running system to a file", examples)
    parser.add_argument("file", metavar="FILE", help="where to; compressed when it ends in .gz")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    add_topology_options(parser)
    parser.set_defaults(run=_backup, what="backup")


def register_restore(subparsers: Subparsers) -> None:
    """Add `imesh restore`."""
    examples = (
        "  imesh restore /backups/2026-11-29.jsonl.gz && imesh up\n\n"
        "Into an empty archive, and an empty Redis: an embedded one is filled when the system starts, for another\n"
        "one run `imesh rebuild` then."
    )
    parser = add_command(subparsers, "restore", "read a backup into an empty system", examples)
    parser.add_argument("file", metavar="FILE", help="what `imesh backup` wrote")
    add_topology_options(parser)
    parser.set_defaults(run=_restore, what="restore")


def _backup(options: argparse.Namespace) -> int:
    topology = require_running(load_topology(options))
    store = HotStore(topology.section("store"), topology.data_dir, topology.run_dir, archived=True)
    try:
        wait_until_ready(store.writes, CONNECT_SECONDS)
        wait_archived(store)
        brought = list(carried.read(store.writes))
    except StoreError as error:
        raise MeshError(str(error)) from None
    finally:
        store.close()
    return _write(options, Selection(), brought)


def _restore(options: argparse.Namespace) -> int:
    with _archive(options) as archive:
        archive.write(migrations.migrate)
        if not archive.read(transfer.empty):
            raise MeshError(f"{archive.address!r} is not empty: a backup is restored into an empty system")
    return _import(options)


def _moment(text: str) -> int:
    """µs since the epoch of an ISO date or time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a date like 2026-11-01 or 2026-11-01T12:30, got {text!r}") from None
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1_000_000)


@contextmanager
def _archive(options: argparse.Namespace) -> Iterator[Archive]:
    topology = load_topology(options)
    archive = Archive(topology.section("store").archive_address(topology.data_dir))
    try:
        yield archive
    except StoreError as error:
        raise MeshError(str(error)) from None
    except OSError as error:
        raise MeshError(f"{error.filename or options.file}: {error.strerror or error}") from None
    finally:
        archive.close()


def _export(options: argparse.Namespace) -> int:
    try:
        transfer.check(options.table)
    except StoreError as error:
        raise ConfigError(f"--table: {error}") from None
    narrowed = options.session or options.since or options.until
    tables = tuple(options.table) or (("messages",) if narrowed else ())
    return _write(options, Selection(tables, options.session, options.since, options.until), [])


def _write(options: argparse.Namespace, chosen: Selection, brought: list[tuple[str, bytes]]) -> int:
    progress = Progress(options.what, "rows")

    def tell(done: Counts, total: Counts) -> None:
        progress.tell(sum(done.values()), sum(total.values()))

    with _archive(options) as archive, _target(options.file, options.force) as target:
        if not archive.read(migrations.status)[0].time:
            raise MeshError("there is no archive yet: it is made by `imesh up` or `imesh db migrate`")
        done = archive.read(transfer.export, chosen, brought, target.write, tell)
    progress.end(sum(done.values()))
    return 0


@contextmanager
def _target(name: str, force: bool) -> Iterator[BinaryIO]:
    """Where an export goes. A file has its name only once it is whole."""
    if name == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.exists() and not force:
        raise MeshError(f"{path} is there already: --force replaces it")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch(0o600)  # the messages of all users
        with gzip.open(part, "wb", 6) if path.suffix == GZIP else part.open("wb") as opened:
            yield cast(BinaryIO, opened)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _import(options: argparse.Namespace) -> int:
    progress = Progress(options.what, "rows")
    done = 0
    with _archive(options) as archive, _source(options.file) as source:
        archive.write(migrations.migrate)
        try:
            head, rows = transfer.read(source)
            archive.write(transfer.adopt, head)
            total = sum(head["rows"].values())
            while batch := list(islice(rows, transfer.BATCH)):
                done += sum(archive.write(transfer.load, batch).values())
                progress.tell(done, total)
        except BadLine as error:
            raise MeshError(f"{options.file}: {error}; {done:,} rows before it are imported") from None
    progress.end(done)
    return 0


@contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdin.buffer
    elif name.endswith(GZIP):
        with gzip.open(name, "rb") as compressed:
            yield cast(BinaryIO, compressed)
    else:
        with open(name, "rb") as plain:
            yield plain
