"""What the functions of the store need of Redis, be it one server, one behind sentinels, or a Cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import gevent

from mesh.loop import Done, now, wait_for
from store.errors import StoreUnavailable
from store.scripts import Script

if TYPE_CHECKING:
    from store.redis import Redis

T = TypeVar("T")
Call = tuple[Script, Sequence[str], Sequence[Any]]
"""A script, its keys, its arguments."""
DoneAll = Callable[[list[Any] | None, "Exception | None"], None]
READY_PAUSE = 0.05
"""Seconds between two questions whether the servers are there."""


class Client:
    """Commands and scripts, sent in one write per loop turn and server.

    What is sent must be harmless when run twice. Nothing overtakes what was sent before it to the same shard. The keys
    of a script, and those that it makes of its arguments, are of one shard.
    """

    def command(self, done: Done, *args: Any) -> None:
        """Send a command; `done(reply, error)` comes on the hub."""
        raise NotImplementedError

    def evaluate(self, done: Done, script: Script, keys: Sequence[str], args: Sequence[Any]) -> None:
        """Run a loaded script."""
        raise NotImplementedError

    def command_all(self, done: DoneAll, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands; `done` gets all replies in order, or the first error, once all have come. One without a key
        (TIME) runs before those behind it on the server of the next key."""
        raise NotImplementedError

    def evaluate_all(self, done: DoneAll, calls: Sequence[Call]) -> None:
        """Run loaded scripts; as `command_all`."""
        raise NotImplementedError

    def parts(self, items: Sequence[T], tag_of: Callable[[T], str]) -> Iterable[Sequence[T]]:
        """`items` as they may be given to one script: all of them, or on a Cluster those of each shard, in order."""
        raise NotImplementedError

    def servers(self) -> Sequence[Redis]:
        """A connection to each server that takes writes. Raises `StoreUnavailable` while they are not known."""
        raise NotImplementedError

    def close(self) -> None:
        """Close; what waits fails."""
        raise NotImplementedError

    def gather(
        self, done: DoneAll, script: Script, common: Sequence[Any], rows: Sequence[Sequence[Any]], *, answers: int,
        chunk: int,
    ) -> None:  # fmt: skip
        """Run a script whose arguments are the `common` ones and then rows that each begin with the tag of their shard;
        `done` gets the `answers` items that it returns for each row, in one list in the order of the rows.

        At most `chunk` rows are in one call: Redis answers others between two of them.
        """
        calls: list[Call] = []
        order: list[int] = []
        for part in self.parts(range(len(rows)), lambda n: rows[n][0]):
            for i in range(0, len(part), chunk):
                some = part[i : i + chunk]
                calls.append((script, (rows[some[0]][0],), [*common, *chain.from_iterable(rows[n] for n in some)]))
                order += some

        def came(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                done(None, error)
                return
            fields = list(chain.from_iterable(replies))
            placed: list[Any] = [None] * len(fields)
            for at, n in enumerate(order):
                placed[n * answers : (n + 1) * answers] = fields[at * answers : (at + 1) * answers]
            done(placed, None)

        self.evaluate_all(came, calls)

    # ---- for greenlets

    def ask(self, *args: Any) -> Any:
        """Send a command and wait for its reply. Raises `StoreError`."""
        return wait_for(lambda done: self.command(done, *args))

    def ask_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands and wait for their replies. Raises `StoreError` when one failed."""
        return wait_for(lambda done: self.command_all(done, commands))  # type: ignore[no-any-return]

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a loaded script and wait for its reply. Raises `StoreError`."""
        return wait_for(lambda done: self.evaluate(done, script, keys, args))

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run loaded scripts and wait for their replies. Raises `StoreError` when one failed."""
        return wait_for(lambda done: self.evaluate_all(done, calls))  # type: ignore[no-any-return]


def wait_until_ready(client: Client, seconds: float) -> None:
    """Block this greenlet until all servers answer. Raises `StoreUnavailable` after `seconds`."""
    limit = now() + seconds
    while True:
        try:
            for server in client.servers():
                server.ask("PING")
            return
        except StoreUnavailable:
            if now() >= limit:
                raise
        gevent.sleep(READY_PAUSE)
