"""A node: one kind of service in one process. What it may call, what others may call, and its life.

    class Chat(Node, contracts.Chat):            # inherits the contracts that it implements
        Settings = ChatSettings                   # its table [node.chat] in the topology
        sections = {"store": StoreSettings}       # other tables that it reads
        publishes = True                          # it uses self.publish
        history: contracts.History                # injected: a proxy of the service "history"

        def start(self) -> None: ...              # before serving; may block
        @batch(contracts.Chat.send)               # a hot path: gets lists of Incoming, on the hub
        def _send(self, calls): ...

The way of one call, from `self.history.page(...)` in this process to another and back:

1. `contract.BoundMethod` binds the arguments (a wrong call is a TypeError here) and asks `calls.Calls`, which notes the
   deadline and picks an instance through `balance.Pool`.
2. `peer.Peer.request` encodes it (`wire`), and at the end of the loop turn sends all that goes to that process as one
   ZeroMQ message (`link.Dealer`).
3. There `server.Server` splits the message and `dispatch.Dispatcher` runs the handler: a pooled greenlet, or the turn's
   batch. `Incoming.reply` encodes the answer; it leaves with the other answers of the turn (`link.Router`).
4. Here `peer.Peer` hands it to `Calls.resolve`, which switches the waiting greenlet in, or calls the completion.

When the instance lives in the same process, steps 2 to 4 are a function call.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import gevent
import msgspec

from mesh.contract import is_contract, methods_of
from mesh.dispatch import Incoming
from mesh.errors import ConfigError
from mesh.fanout import Publication
from mesh.log import get_log
from mesh.loop import Workers
from mesh.stats import Stats

if TYPE_CHECKING:
    from mesh.process import Process
    from mesh.topology import Topology

C = TypeVar("C")
BatchHandler = Callable[[Any, Sequence[Incoming]], None]
B = TypeVar("B", bound=BatchHandler)


class NoSettings(msgspec.Struct, frozen=True):
    """For nodes whose table in the topology has no keys."""


def batch(method: Callable[..., Any]) -> Callable[[B], B]:
    """Mark a function of a node as the batch handler of a contract's method."""

    def mark(function: B) -> B:
        function.__batch_for__ = method.__name__  # type: ignore[attr-defined]
        return function

    return mark


class Node:
    """Base of all nodes. Only methods of its contracts can be called from outside."""

    Settings: ClassVar[type[msgspec.Struct]] = NoSettings
    sections: ClassVar[Mapping[str, type[msgspec.Struct]]] = {}
    publishes: ClassVar[bool] = False
    subscribes: ClassVar[bool] = False
    background: ClassVar[bool] = False  # nobody waits for what it does
    workers: ClassVar[int] = 64  # greenlets for plain handlers
    worker_queue: ClassVar[int] = 1024  # calls that may wait for one of them

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        implemented = handlers_of(cls)
        for name in methods_of(cls):
            if name not in implemented:
                raise ConfigError(f"{cls.__name__} promises {name} (by its contract) and does not define it")

    def __init__(self, process: Process, kind: str, settings: Any) -> None:
        self.process = process
        self.kind = kind
        self.settings = settings
        self.stats = Stats(kind)
        self.log = get_log(kind)
        self.pool = Workers(kind, self.workers, self.worker_queue)
        for name, (contract_class, optional) in dependencies_of(type(self)).items():
            proxy = process.proxy(contract_class, name, needed_by=None if optional else kind)
            setattr(self, name, proxy)

    # ---- life, in this order; each runs in a greenlet and may block

    def start(self) -> None:
        """Before serving: open what is needed."""

    def serve(self) -> None:
        """The process serves from now on: open doors to the outside."""

    def drain(self) -> None:
        """Close the doors and finish what is under way."""

    def stop(self) -> None:
        """Let go of everything. No calls can be made any more."""

    # ---- what a node can do

    def section(self, name: str) -> Any:
        """The settings of a table that `sections` names."""
        return self.process.topology.section(name)

    def service(self, contract_class: type[C], kind: str) -> C:
        """A proxy for a contract that several kinds implement. Raises `ConfigError` when the topology lacks `kind`."""
        return typing.cast(C, self.process.proxy(contract_class, kind, needed_by=self.kind))

    def publish(self, topic: str, item: Publication) -> None:
        """Publish an item; best effort, cannot fail (`mesh/fanout.py`)."""
        self.process.fanout.publish(topic, item)

    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet:
        """Run `function` in a greenlet that this node owns: its unexpected end stops the process, loudly."""
        return self.process.spawn(self.kind, function, *args)

    def describe(self) -> dict[str, Any]:
        """What `status` shows of this node, for example where it listens."""
        return {}

    @classmethod
    def check(cls, topology: Topology) -> Iterable[tuple[str, str, str]]:
        """Problems that only show between tables, as (table, key, text); `imesh check` reports them with the rest."""
        return ()

    @classmethod
    def banner(cls, settings: Any) -> list[str]:
        """Lines that the launcher prints when all is up."""
        return []


def dependencies_of(cls: type[Node]) -> dict[str, tuple[type, bool]]:
    """Attributes that are contracts: name -> (contract, whether the topology may lack it)."""
    found: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if is_contract(hint):
            found[name] = (hint, False)
            continue
        parts = [p for p in typing.get_args(hint) if is_contract(p)]
        if len(parts) == 1 and type(None) in typing.get_args(hint):
            found[name] = (parts[0], True)
    return found


def handlers_of(cls: type[Node]) -> dict[str, tuple[str, bool]]:
    """Contract method -> (attribute that implements it, whether as a batch)."""
    methods = methods_of(cls)
    found: dict[str, tuple[str, bool]] = {}
    for attribute in dir(cls):
        function = getattr(cls, attribute, None)
        target = getattr(function, "__batch_for__", None)
        if target in methods:
            found[target] = (attribute, True)
        elif attribute in methods and not hasattr(function, "__call_options__"):
            found.setdefault(attribute, (attribute, False))
    return found
