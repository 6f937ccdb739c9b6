"""The archive that the nodes of one process share, and whether it and Redis hold the same data."""

from __future__ import annotations

import gevent

from mesh.errors import ConfigError
from mesh.log import Log
from mesh.process import Process
from packs.ids import business_session, parties, single_session
from store.archive import carried, dataset, migrations
from store.archive.database import Archive
from store.archive.sessions import undrained
from store.errors import StoreRefused, StoreUnavailable
from store.hot import HotStore
from store.marks import Pairs
from store.rebuild import Rebuild

LOOK_SECONDS = 0.5
TELL_SECONDS = 30.0


def cold_store(process: Process) -> Archive:
    """For `process.shared`."""
    topology = process.topology
    return Archive(topology.section("store").archive_address(topology.data_dir))


def settle(process: Process, store: HotStore) -> None:
    """See to it that Redis and the archive hold the same data: both new, or both marked with the same id. An embedded
    Redis that lost its data is filled again; for another one somebody must say so (`imesh rebuild`).

    While SQL is away, this waits; others serve what is hot meanwhile. Only a system that is new cannot begin so.
    """
    while True:
        try:
            _compare(process.shared(cold_store), store, process.log)
            return
        except StoreRefused as error:
            raise ConfigError(f"[store] archive: {error}") from None
        except StoreUnavailable as error:
            if not store.dataset():
                raise ConfigError(f"[store] archive: {error}") from None
            process.log.limited("archive", TELL_SECONDS, "waiting for the archive", error=error)
            gevent.sleep(LOOK_SECONDS)


def _compare(archive: Archive, store: HotStore, log: Log) -> None:
    for migration in archive.write(migrations.migrate):
        log.info("the archive was migrated", number=migration.number, name=migration.name)
    here, there = store.dataset(), archive.read(dataset.read)
    if not here and there and archive.read(dataset.has_messages):
        if store.settings.redis == "embedded":
            log.warning("Redis is empty: it is filled from the archive")
            rebuild(store, archive, log)
        here = _wait_for_rebuild(store, log)
    if not here:
        here = store.mark_dataset(there)
    if not there:
        store.set_archived(False)
        archive.write(dataset.write, here, store.settings.shards)
    elif here != there:
        raise ConfigError(
            f"[store] archive: {archive.address!r} belongs to other data ({there}) than Redis ({here})"
        )


def rebuild(store: HotStore, archive: Archive, log: Log) -> None:
    """Fill an emptied Redis. In a greenlet. Raises `StoreError`."""
    for waiting in archive.read(undrained):
        if waiting.rows:
            log.warning("rows were not archived", process=waiting.process, rows=waiting.rows, time=waiting.time)
    work = Rebuild(
        store.writes, store.keys, archive, pairs=Pairs(single_session, business_session), parties_of=parties,
        progress=lambda what, count: log.info("restored", what=what, count=count),
    )  # fmt: skip
    work.run()
    store.mark_dataset(archive.read(dataset.read))
    archive.write(carried.forget)


def _wait_for_rebuild(store: HotStore, log: Log) -> str:
    while not (found := store.dataset()):
        log.limited("rebuild", TELL_SECONDS, "Redis is empty and the archive is not: run imesh rebuild")
        gevent.sleep(LOOK_SECONDS)
    return found
