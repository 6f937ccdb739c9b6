"""Loads of the archive: a log that is drained, writers that have the same rows already, and the lag under a load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import peewee
import redis

from bench.archive_engines import Engine, opened
from bench.measure import CLIENT_CORES, SERVER_CORES, Clock, Figures, percentile, pin
from bench.pairs import Pairs
from bench.running import Mesh
from store.archive import messages, unindexed
from store.archive.database import MYSQL, kind_of
from store.archive.models import Message
from store.keys import DATASET, Keys
from store.log import ARCHIVE, rows_of

ARCHIVER = "cold-1"
"""The process with the olap node."""
WINDOW = 8
BATCH = 1000
"""Rows of one transaction, as the drain has them."""
LOOK_SECONDS, LAG_SECONDS = 0.02, 0.1
"""Between two looks at a log that is drained, and at one that should not get long."""
DRAIN_SECONDS = 300.0

Stored = list[tuple[str, bytes]]
"""Session and entry of each message."""


class Log:
    """The log of a running mesh, seen from outside."""

    def __init__(self, mesh: Mesh) -> None:
        socket = next(str(path) for path in mesh.data.rglob("*redis*") if path.is_socket())
        self.redis = redis.Redis(unix_socket_path=socket)
        self.redis.set_response_callback("XRANGE", lambda reply, **_: reply)  # fields as they are, repeated ones too
        self.keys = Keys(int(self.redis.hget(DATASET, "shards")))
        self._logs = [f"{tag}:log" for tag in self.keys.session_tags()]

    def _each(self, ask: Callable[[Any, str], object]) -> list[Any]:
        pipeline = self.redis.pipeline(transaction=False)
        for key in self._logs:
            ask(pipeline, key)
        return pipeline.execute(raise_on_error=False)

    def rows(self) -> Stored:
        """All that is in it."""
        found = self._each(lambda pipeline, key: pipeline.xrange(key))
        rows = [row for some in found for name, fields in some for row in rows_of("", name, fields)]
        return [(row.fields[1].decode(), row.fields[3]) for row in rows]

    def lag(self) -> float:
        """Seconds since the oldest row that the archive has not acknowledged; 0 when there is none."""
        groups = self._each(lambda pipeline, key: pipeline.xinfo_groups(key))
        pipeline = self.redis.pipeline(transaction=False)
        for key, found in zip(self._logs, groups, strict=True):
            for group in found if isinstance(found, list) else ():
                if group["name"] == ARCHIVE.encode():
                    pipeline.xpending(key, ARCHIVE)
                    pipeline.xrange(key, min=b"(" + group["last-delivered-id"], count=1)
        oldest = []
        for reply in pipeline.execute():
            if isinstance(reply, dict):
                oldest += [reply["min"]] if reply["pending"] else []
            else:
                oldest += [row for row, _ in reply]
        stored = min((int(row.partition(b"-")[0]) for row in oldest), default=0)
        return max(0.001, time.time() - stored / 1000) if stored else 0.0


def drain(mesh: Mesh, engine: Engine, url: str, pairs: Pairs, seconds: float) -> tuple[Figures, Figures, Stored]:
    """Let messages of `seconds` wait in the log, then have them drained: what that took, what it took until they could
    be searched as well, and the messages."""
    log = Log(mesh)
    pid = mesh.groups()[ARCHIVER][0]
    os.kill(pid, signal.SIGSTOP)
    try:
        wrong = pairs.closed_loop(WINDOW, seconds).wrong
        rows = log.rows()
        clock = Clock({**mesh.groups(), **engine.pids()})
    finally:
        os.kill(pid, signal.SIGCONT)
    _wait(lambda: not log.lag(), "the log to be drained")
    drained = _figures(len(rows), clock, ARCHIVER)
    archive = opened(url)
    _wait(lambda: not archive.read(unindexed.count), "the search index")
    searched = _figures(len(rows), clock, ARCHIVER)
    archive.close()
    return {**drained, "wrong": wrong}, searched, rows


def _wait(done: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + DRAIN_SECONDS
    while not done():
        if time.monotonic() > limit:
            raise RuntimeError(f"waited {DRAIN_SECONDS:g} s for {what}")
        time.sleep(LOOK_SECONDS)


def _figures(rows: int, clock: Clock, writer: str) -> Figures:
    """CPU µs per row: of the process that writes (`us`), of Redis, of the database server."""
    seconds, used, foreign = clock.stop()
    return {
        "us": used[writer] / rows, "redis_us": used.get("redis", 0.0) / rows, "rows": rows, "rate": rows / seconds,
        "server_us": used.get("mariadb", 0.0) / rows, "foreign": foreign,
    }  # fmt: skip


def lag(mesh: Mesh, pairs: Pairs, rate: float, seconds: float) -> Figures:
    """How far the archive is behind while `rate` messages a second are sent."""
    log = Log(mesh)
    lags: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LAG_SECONDS):
            lags.append(log.lag())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = pairs.open_loop(rate, seconds)
    finally:
        over.set()
        watcher.join()
    return {
        "most": max(lags), "median": percentile(lags, 0.5), "rate": result.delivered / result.seconds,
        "wrong": result.wrong, "p99_ms": percentile(result.latencies, 0.99) * 1e3,
    }  # fmt: skip


# ---- others with the same rows


def _ours(db: peewee.Database, rows: Stored) -> None:
    messages.put(db, [messages.row_of(session, entry, "") for session, entry in rows])


def _raw(db: peewee.Database, rows: Sequence[messages.Row]) -> None:
    columns = Message._meta.sorted_field_names
    mark = "%s" if kind_of(db) == MYSQL else "?"
    sql = f"INSERT INTO messages ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})"
    with db.atomic():
        db.cursor().executemany(sql, rows)


def _peewee(db: peewee.Database, rows: Sequence[messages.Row]) -> None:
    with db.atomic():
        Message.insert_many(rows, fields=Message._meta.sorted_fields).execute(db)


OURS, RAW, PEEWEE = "messages.put", "raw executemany", "peewee insert_many"
WRITERS: dict[str, tuple[Callable[[peewee.Database, Any], None], bool]] = {
    OURS: (_ours, False), RAW: (_raw, True), PEEWEE: (_peewee, True),
}  # fmt: skip
"""Each with whether it gets rows that are parsed already. Only ours takes a row twice."""


def writers(engine: Engine, rows: Stored) -> dict[str, Figures]:
    """What it costs only to write these rows, each in the same batches into an empty table."""
    parsed = [messages.row_of(session, entry, "") for session, entry in rows]
    pin(os.getpid(), SERVER_CORES)
    try:
        return {name: _written(engine, write, parsed if ready else rows) for name, (write, ready) in WRITERS.items()}
    finally:
        pin(os.getpid(), CLIENT_CORES)


def _written(engine: Engine, write: Callable[[peewee.Database, Any], None], rows: Sequence[Any]) -> Figures:
    with engine.tables() as archive:
        clock = Clock({"self": [os.getpid()], **engine.pids()})
        for i in range(0, len(rows), BATCH):
            archive.write(write, rows[i : i + BATCH])
        figures = _figures(len(rows), clock, "self")
        found = archive.read(lambda db: Message.select().count(db))
    if found != len(rows):
        raise RuntimeError(f"{found} rows were written of {len(rows)}")
    return figures
