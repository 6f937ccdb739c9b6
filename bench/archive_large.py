"""A large archive, made by SQL itself, and pages of its sessions as a client reads them.

One reader has a session with each of many users, whose messages lie between those of all others, as if they had been
written over months. Redis holds of them what is left there when everything is in the archive: their newest numbers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import peewee

from bench.archive_engines import Engine, run
from bench.archive_loads import Log
from bench.dialects.imesh import ask
from bench.measure import Clock, Figures, percentile
from bench.running import Mesh
from packs import structs as s
from packs import table as t
from packs.flags import COUNTER
from packs.ids import single_session
from packs.message import stored_payload
from store.archive import messages, migrations
from store.archive.database import MYSQL, SQLITE, kind_of

READER = "reader"
PAGE = 30
IN_SESSION = 500
"""Messages of a session, two pages more than what a client keeps of it."""
STEP_US = 864_000
"""Between two messages: a day has 100,000."""
FIRST = 1_750_000_000_000_000
"""seqId of the first one."""
AT_ONCE = 500_000
"""Rows made by one statement."""
INDEX = "messages_known_by"
_STEM = single_session(READER, "u")

_ROWS = """
INSERT INTO messages (session, seq, prev, n, type, flags, sender, pack_id, known_by, payload, state, revision, changed,
content, operator)
SELECT {name}, at, CASE WHEN place = 0 THEN 0 ELSE at - {between} END, place + 1, {type}, {flags}, '{reader}',
{pack_id}, ((at {div} {day}) << {bits}) + {noise}, {payload}, 0, 0, 0, '', ''
FROM (SELECT number, place, {first} + (place * {sessions} + number) * {step} AS at
FROM (SELECT {number} AS number, {place} AS place FROM ({source}) AS made) AS placed) AS timed
"""
_WORDS = {
    SQLITE: {
        "source": "WITH RECURSIVE s(seq) AS (VALUES({begin}) UNION ALL SELECT seq + 1 FROM s WHERE seq < {last}) "
        "SELECT seq FROM s",
        "number": "seq % {sessions}", "place": "seq / {sessions}", "div": "/",
        "name": "'{stem}' || printf('%07d', number)", "pack_id": "'p' || at",
        "noise": "(random() & ((1 << {bits}) - 1))",
    },
    MYSQL: {
        "source": "SELECT seq FROM seq_{begin}_to_{last}", "number": "seq DIV {each}", "place": "seq MOD {each}",
        "div": "DIV", "name": "CONCAT('{stem}', LPAD(number, 7, '0'))", "pack_id": "CONCAT('p', at)",
        "noise": "FLOOR(RAND() * (1 << {bits}))",
    },
}  # fmt: skip
"""What differs. Rows are made in the order in which the table keeps them: of writing in SQLite, of sessions in
MariaDB."""


def make(engine: Engine, rows: int, tell: Callable[[int], object]) -> str:
    """Make an archive of `rows`, and tell how many there are again and again; its URL."""
    url = engine.fresh()
    run(url, migrations.migrate)
    run(url, lambda db: _say(db, f"DROP INDEX {INDEX}{' ON messages' if kind_of(db) == MYSQL else ''}"))
    for begin in range(0, rows, AT_ONCE):
        end = min(rows, begin + AT_ONCE)
        run(url, lambda db, a=begin, b=end: _insert(db, a, b, rows // IN_SESSION))  # type: ignore[misc]
        tell(end)
    run(url, lambda db: _say(db, f"CREATE INDEX {INDEX} ON messages (known_by)"))
    return url


def _say(db: peewee.Database, sql: str) -> None:
    db.execute_sql(sql)


def _insert(db: peewee.Database, begin: int, end: int, sessions: int) -> None:
    if kind_of(db) == SQLITE:
        _say(db, "PRAGMA synchronous = off")
    payload = stored_payload(s.MsgReq(sender=READER, to="u0000000", content="x" * 64, content_type=1))
    values: dict[str, object] = {
        "begin": begin, "last": end - 1, "sessions": sessions, "each": IN_SESSION, "stem": _STEM, "reader": READER,
        "first": FIRST, "step": STEP_US, "between": sessions * STEP_US, "day": messages.US_PER_DAY,
        "bits": messages.DIGEST_BITS, "type": t.MSG_SINGLE_CHAT, "flags": int(COUNTER),
        "payload": f"X'{payload.hex()}'",
    }  # fmt: skip
    words = {name: text.format(**values) for name, text in _WORDS[kind_of(db)].items()}
    _say(db, _ROWS.format(**values, **words))


def _session(number: int) -> str:
    return f"{_STEM}{number:07d}"


def settle(mesh: Mesh, rows: int) -> None:
    """Give Redis what it has of sessions all of whose messages are in the archive."""
    log, sessions = Log(mesh), rows // IN_SESSION
    keys, pipeline = log.keys, log.redis.pipeline(transaction=False)
    for number in range(sessions):
        newest = FIRST + ((IN_SESSION - 1) * sessions + number) * STEP_US
        pipeline.hset(keys.meta(_session(number)), mapping={"q": newest, "n": IN_SESSION, "a": newest})
        if number % 1000 == 999:
            pipeline.execute()
    pipeline.execute()


def read(mesh: Mesh, engine: Engine, rows: int, seconds: float) -> Figures:
    """Pages from anywhere in any session, one after the other."""
    rng, sessions = random.Random(rows), rows // IN_SESSION
    (peer,) = mesh.dialect.connect(mesh.address(), [READER])
    took, wrong = [], 0
    clock = Clock({**mesh.groups(), **engine.pids()})
    limit = time.perf_counter() + seconds
    while time.perf_counter() < limit:
        number, place = rng.randrange(sessions), rng.randrange(PAGE, IN_SESSION)
        below = FIRST + (place * sessions + number) * STEP_US
        request = s.HistoryMsgPullReq(session_id=_session(number), seq_id=below, count=PAGE)
        begun = time.perf_counter()
        page = ask(peer.sock, t.HISTORY_MSG_PULL, request)
        took.append(time.perf_counter() - begun)
        wrong += len(page.msgs) != PAGE
    _, used, foreign = clock.stop()
    peer.sock.close()
    used.pop("launcher", None)
    return {
        "p50_ms": percentile(took, 0.5) * 1e3, "p99_ms": percentile(took, 0.99) * 1e3, "most_ms": max(took) * 1e3,
        "pages": len(took), "us": sum(used.values()) / len(took), "wrong": wrong, "foreign": foreign,
    }  # fmt: skip
