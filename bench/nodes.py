"""Nodes for the benchmarks of calls; see `rpc.toml`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench import closed_loop
from bench.measure import Outcome
from mesh.contract import call, contract
from mesh.dispatch import Incoming
from mesh.node import Node, batch

BATCH, PLAIN = "batch", "plain"


@contract
class Echo(Protocol):
    @call(timeout=5.0, idempotent=True)
    def plain(self, blob: bytes) -> bytes: ...

    @call(timeout=5.0, idempotent=True)
    def batched(self, blob: bytes) -> bytes: ...


@contract
class Caller(Protocol):
    @call(timeout=60.0)
    def run(self, handler: str, waiters: int, seconds: float, server: int) -> Outcome:
        """Call `echo` from `waiters` greenlets; `handler` is BATCH or PLAIN, `server` the pid of the echo's process."""
        ...


class EchoNode(Node, Echo):
    """Answers with what it is asked, as a plain handler and as a batch handler."""

    def plain(self, blob: bytes) -> bytes:
        return blob

    @batch(Echo.batched)
    def _batched(self, calls: Sequence[Incoming]) -> None:
        for incoming in calls:
            incoming.reply(incoming.args[0])


class CallerNode(Node, Caller):
    """Calls."""

    echo: Echo

    def run(self, handler: str, waiters: int, seconds: float, server: int) -> Outcome:
        method = self.echo.batched if handler == BATCH else self.echo.plain
        return closed_loop.run(method, waiters, seconds, server)
