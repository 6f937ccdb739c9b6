"""What the functions of the store need of Redis, be it one server, one behind sentinels, or a Cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
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
    of a script, and those that it makes of its arguments, are of one shard, unless all lie `together`.
    """

    together = True
    """Whether a script may write to several shards."""

    def command(self, done: Done, *args: Any) -> None:
        """Send a command; `done(reply, error)` comes on the hub."""
        raise NotImplementedError

    def evaluate(self, done: Done, script: Script, keys: Sequence[str], args: Sequence[Any]) -> None:
        """Run a loaded script."""
        raise NotImplementedError

    def command_all(self, done: DoneAll, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands; `done` gets all replies in order, or the first error, once all have come. TIME runs before
        those behind it; of several servers it gives the earliest: no stamp given later, by whichever, is below."""
        raise NotImplementedError

    def evaluate_all(self, done: DoneAll, calls: Sequence[Call]) -> None:
        """Run loaded scripts; as `command_all`."""
        raise NotImplementedError

    def parts(self, items: Sequence[T], tag_of: Callable[[T], str]) -> Collection[Sequence[T]]:
        """`items` as they may be given to one script: all of them, or on a Cluster those of each shard, in order."""
        raise NotImplementedError

    def servers(self) -> Sequence[Redis]:
        """A connection to each server that takes writes, up or not. Raises `StoreUnavailable` while they are not
        known."""
        raise NotImplementedError

    def is_up(self) -> bool:
        """Whether a server is connected: on a Cluster, any of them."""
        try:
            return any(server.connected for server in self.servers())
        except StoreUnavailable:
            return False

    def close(self) -> None:
        """Close; what waits fails."""
        raise NotImplementedError

    def gather(
        self, done: DoneAll, script: Script, common: Sequence[Any], rows: Sequence[Sequence[Any]], *, answers: int,
        chunk: int, also: Sequence[Call] = (),
    ) -> None:  # fmt: skip
        """Run a script whose arguments are the `common` ones and then rows that each begin with the tag of their shard;
        `done` gets the `answers` items that it returns for each row, in one list in the order of the rows, and behind
        them the replies to what is called `also`.

        At most `chunk` rows are in one call: Redis answers others between two of them.
        """
        calls: list[Call] = []
        order: list[int] = []
        parts = self.parts(range(len(rows)), lambda n: rows[n][0])
        for part in parts:
            order += part
            for i in range(0, len(part), chunk):
                some = [rows[n] for n in part[i : i + chunk]]
                calls.append((script, (some[0][0],), [*common, *chain.from_iterable(some)]))

        def came(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                done(None, error)
                return
            fields = list(chain.from_iterable(replies[: len(calls)]))
            if len(parts) > 1:
                scattered, fields = fields, [None] * len(fields)
                for at, n in enumerate(order):
                    fields[n * answers : (n + 1) * answers] = scattered[at * answers : (at + 1) * answers]
            done(fields + replies[len(calls) :], None)

        self.evaluate_all(came, [*calls, *also])

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

    # ---- the same where one part may be out of reach

    def ask_each(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands and wait for their replies; in place of one that a server of several did not give, its
        `StoreUnavailable`. Raises `StoreError` when Redis refused one, or nothing can be had at all."""
        return self._each(self.command, commands)

    def run_each(self, calls: Sequence[Call]) -> list[Any]:
        """Run loaded scripts; as `ask_each`."""
        return self._each(self.evaluate, calls)

    def _each(self, send: Callable[..., None], what: Sequence[Sequence[Any]]) -> list[Any]:
        outcomes: list[Any] = [None] * len(what)
        left = len(what)

        def start(done: Done) -> None:
            def came(n: int, reply: Any, error: Exception | None) -> None:
                nonlocal left
                outcomes[n] = reply if error is None else error
                left -= 1
                if not left:
                    done(None, None)

            for n, args in enumerate(what):
                send(partial(came, n), *args)

        if what:
            wait_for(start)
        for error in outcomes:
            away = isinstance(error, StoreUnavailable) and len(self.servers()) > 1 and self.is_up()
            if isinstance(error, Exception) and not away:
                raise error
        return outcomes


def wait_until_ready(client: Client, seconds: float, patience: float = math.inf) -> list[Redis]:
    """Block this greenlet until a server answers, and up to `patience` seconds until all do; those that do not.

    Raises `StoreUnavailable` after `seconds`.
    """
    started = now()
    while True:
        waited = now() - started
        try:
            servers = client.servers()
            down = [server for server in servers if not server.connected]
            if not down or (len(down) < len(servers) and waited >= patience):
                return down
            trouble = f"{down[0].address}: {down[0].trouble}"
        except StoreUnavailable as error:
            trouble = str(error)
        if waited >= seconds:
            raise StoreUnavailable(trouble)
        gevent.sleep(READY_PAUSE)
