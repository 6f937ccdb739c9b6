"""Searching: a year of messages in SQLite and in MariaDB, what the index costs, and how long searches take.

2,000 users of very different zeal, 400 groups of 80; words as in a language, a fifth of the texts Chinese. Each kind of
search is asked by users as zealous as they write, through everything but the network: memberships in Redis, candidates
from the archive, each compared with Redis and with what was looked for.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import random  # noqa: E402
import shutil  # noqa: E402
import string  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from bisect import bisect  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from itertools import accumulate  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from bench.measure import Figures, Mark, Report, Rounds, cpu_us, percentile, progress, table  # noqa: E402
from bench.running import make_parser, parse  # noqa: E402
from nodes.contracts_search import SearchQuery  # noqa: E402
from nodes.searching import Searcher  # noqa: E402
from nodes.terms import terms_of  # noqa: E402
from packs import structs as s  # noqa: E402
from packs.ids import single_session  # noqa: E402
from packs.message import stored_payload  # noqa: E402
from store import entries  # noqa: E402
from store.archive import messages, migrations, search  # noqa: E402
from store.archive.database import Archive  # noqa: E402
from store.archive.unindexed import Fresh  # noqa: E402
from store.archive.url import parse_archive  # noqa: E402
from store.entries import Entry  # noqa: E402
from store.hot import HotStore  # noqa: E402
from store.settings import StoreSettings  # noqa: E402
from tests import mariadb, redis_server  # noqa: E402

END = 1_795_000_000_000_000
YEAR = 365 * 86_400_000_000
BATCH = 1000
SEARCHES = 300
"""Of each kind."""
MEMBERS = 80
BUFFER_POOL = 512 << 20
"""Of MariaDB, bytes."""
LIMIT_MS = 150.0
"""What the slowest kind of search may take at p99."""
Choose = Callable[[], Any]


def chooser(things: Sequence[Any], flat: int) -> Choose:
    """Chooses the first ones most often (Zipf); the more `flat`, the less so."""
    weights = list(accumulate(1 / (n + flat) for n in range(len(things))))
    return lambda: things[min(bisect(weights, random.random() * weights[-1]), len(things) - 1)]


class People:
    """Who says what to whom."""

    def __init__(self) -> None:
        self.words = ["".join(random.choices(string.ascii_lowercase, k=random.randint(2, 9))) for _ in range(30_000)]
        self.word, self.common = chooser(self.words, 3), chooser(self.words[:20], 3)
        self.sign = chooser([chr(0x4E00 + n) for n in random.sample(range(0x5000), 2500)], 20)
        users = [f"user{n}" for n in range(2000)]
        self.user = chooser(users, 30)
        self.members = {f"GC_{n}": random.sample(users, MEMBERS) for n in range(400)}
        self.group = chooser(list(self.members), 10)

    def rows(self, first: int, count: int, step: int) -> list[messages.Row]:
        found = []
        for n in range(first, first + count):
            sender = self.user()
            to = self.user() if random.random() < 0.5 else self.group()
            session, kind = (to, 15) if to.startswith("GC_") else (single_session(sender, to), 14)
            message = s.MsgReq(session_id=session, sender=sender, to=to, content=self._text(), content_type=1)
            entry = Entry(END - YEAR + n * step, 0, n, kind, 4, f"p{n}", stored_payload(message))
            found.append(messages.row_of(session, entries.build(entry), ""))
        return found

    def _text(self) -> str:
        if random.random() < 0.2:
            return "".join(self.sign() for _ in range(random.randint(4, 24)))
        return " ".join(self.word() for _ in range(random.randint(3, 16)))

    def kinds(self) -> dict[str, Callable[[], tuple[str, SearchQuery]]]:
        """Searches by kind: who asks, and what."""

        def in_group() -> tuple[str, SearchQuery]:
            group = self.group()
            return self.members[group][0], SearchQuery(self.word(), group)

        return {
            "one of the 20 commonest words": lambda: (self.user(), SearchQuery(self.common())),
            "two words": lambda: (self.user(), SearchQuery(f"{self.word()} {self.word()}")),
            "a rare word": lambda: (self.user(), SearchQuery(random.choice(self.words[5000:]))),
            "two Chinese characters": lambda: (self.user(), SearchQuery(self.sign() + self.sign())),
            "one Chinese character": lambda: (self.user(), SearchQuery(self.sign())),
            "a word in one group": in_group,
            "a common word of one sender": lambda: (self.user(), SearchQuery(self.common(), "", self.user())),
            "a common word in one chat": lambda: (
                u := self.user(), SearchQuery(self.common(), single_session(u, self.user()))
            ),
        }  # fmt: skip


@contextmanager
def hot_store(directory: Path, people: People) -> Iterator[HotStore]:
    """Redis with the groups."""
    server = redis_server.Server(directory)
    server.start()
    store = HotStore(StoreSettings(redis=server.url), directory, directory)
    try:
        store.open()
        for group, members in people.members.items():
            store.groups.create(group, members[0], members, limit=MEMBERS, mode=0, name=group)
            store.groups.settle(group, members)
        yield store
    finally:
        store.close()
        assert server.process is not None
        server.process.kill()
        server.process.wait()


def measure(name: str, archive: Archive, store: HotStore, people: People, rows: int, server: int) -> dict[str, Figures]:
    """Fill the archive and search it. `server`: the pid of the database, 0 when it is in this process."""

    def cpu() -> float:
        return time.process_time() * 1e6 + (cpu_us(server) if server else 0.0)

    archive.write(migrations.migrate)
    indexing, fresh = 0.0, Fresh()
    for first in range(0, rows, BATCH):
        archive.write(messages.put, people.rows(first, BATCH, YEAR // rows), fresh)
        before = cpu()
        archive.write(search.index_noted, terms_of, fresh)
        indexing += cpu() - before
        if first % 100_000 == 0:
            progress(f"{name}: {first:,} of {rows:,} rows")
    found = {"costs": {"indexed": indexing / rows}}
    searcher = Searcher(store, archive.read)
    for kind, ask in people.kinds().items():
        took, count = [], 0
        for _ in range(SEARCHES):
            user, query = ask()
            begun = time.perf_counter()
            count += len(searcher.find(user, query).messages)
            took.append(1000 * (time.perf_counter() - begun))
        found[kind] = {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99), "found": count / SEARCHES}
    return found


def main() -> int:
    parser = make_parser("search", __doc__.splitlines()[0], rounds=1, seconds=1.0, quick=(1, 1.0))
    parser.add_argument("--rows", type=int, default=1_000_000, help="messages (default: 1,000,000)")
    options = parse(parser)
    rounds, found = Rounds(), {}
    for name in ["sqlite"] + ["mariadb"] * (shutil.which("mariadbd") is not None):
        random.seed(3)
        people = People()
        with tempfile.TemporaryDirectory(prefix="imesh-bench-") as made:
            directory = Path(made)
            with hot_store(directory, people) as store:
                if name == "sqlite":
                    archive = Archive(parse_archive("sqlite:///archive.db", directory))
                    found[name] = measure(name, archive, store, people, options.rows, 0)
                    archive.close()
                else:
                    with mariadb.running(directory) as server:
                        assert server.process is not None
                        server.run(f"SET GLOBAL innodb_buffer_pool_size = {BUFFER_POOL}")
                        archive = Archive(parse_archive(server.url(), directory))
                        found[name] = measure(name, archive, store, people, options.rows, server.process.pid)
                        archive.close()
        for kind, figures in found[name].items():
            rounds.add(f"{name}: {kind}", figures)
    return _report(found, rounds, options.rows).publish(options.json)


def _report(found: dict[str, dict[str, Figures]], rounds: Rounds, rows: int) -> Report:
    kinds = [kind for kind in found["sqlite"] if kind != "costs"]
    heads = ["search", "found", *(f"{engine} {share}" for engine in found for share in ("p50", "p99"))]
    lines = [
        [kind, f"{found['sqlite'][kind]['found']:.1f}"]
        + [f"{of[kind][share]:.1f}" for of in found.values() for share in ("p50", "p99")]
        for kind in kinds
    ]
    costs = [[engine, f"{of['costs']['indexed']:.0f}"] for engine, of in found.items()]
    marks = [
        Mark.at_most(f"{engine}: slowest p99", max(of[kind]["p99"] for kind in kinds), LIMIT_MS, "ms")
        for engine, of in found.items()
    ]
    report = Report("Search", {"rows": f"{rows:,}"}, marks=marks, rounds=rounds.figures)
    report.tables = {
        "Searches, ms": table(heads, lines),
        "CPU µs per message, the database's included": table(["", "indexed"], costs),
    }
    return report


if __name__ == "__main__":
    raise SystemExit(main())
