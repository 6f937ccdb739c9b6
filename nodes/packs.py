"""How client packs reach a node and how they are answered: the one place that sends responses.

    class Chat(PackNode):
        @handles(14, batch=True)
        def _send(self, items: list[Item]) -> None: ...      # on the hub; answers each item, now or later

        @handles(47)
        def _members(self, item: Item) -> Payload: ...        # in a greenlet; its result is the answer

A handler gets the payload decoded and complete. A refusal is an `AppError(code, text)`: raised by a plain handler, or
given to `Item.refuse`. It becomes the response of that type with only `errorCode` set, so an answer always has the
right type and there is exactly one. A store that does not answer becomes a `Timeout` of the call: the outcome is
unknown, the broker answers 6, and what waits behind it in its lane fails too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from mesh.dispatch import Incoming
from mesh.errors import AppError, CallError, MeshError, Overloaded, RemoteError, Timeout
from mesh.loop import post
from mesh.node import Node, batch
from nodes.contracts import Origin, Packs, Request
from packs.codec import decode_payload, encode_error, encode_payload
from packs.codes import Code
from packs.errors import PayloadError
from packs.flags import DUP
from packs.structs import Payload
from packs.table import TABLE
from store.errors import StoreError, StoreRefused

F = TypeVar("F", bound=Callable[..., Any])


def handles(pack_type: int, *, batch: bool = False) -> Callable[[F], F]:
    """Mark a method of a `PackNode` as the handler of a pack type."""

    def mark(function: F) -> F:
        function.__handles__ = (pack_type, batch)  # type: ignore[attr-defined]
        return function

    return mark


class Item:
    """One request of a client, to be answered once."""

    __slots__ = ("_incoming", "key", "message", "origin", "request")

    def __init__(self, incoming: Incoming, key: str, origin: Origin, request: Request, message: Any) -> None:
        self._incoming = incoming
        self.key = key  # what it was routed by: for messages the canonical session
        self.origin = origin
        self.request = request
        self.message = message  # the decoded payload

    @property
    def resent_by_broker(self) -> bool:
        """Whether the client knows of one try only: the first answer was lost between the nodes."""
        return self._incoming.again and not self.request.flags & DUP

    def answer(self, response: Payload) -> None:
        """Answer with the response struct of the type. On the hub."""
        self._incoming.reply(encode_payload(response))

    def refuse(self, code: int, text: str = "", retry_after: int = 0) -> None:
        """Answer with an error code. On the hub."""
        self._incoming.reply(encode_error(self.request.type, code, text, retry_after))

    def fail(self, error: Exception) -> None:
        """Answer with what an exception means. On the hub."""
        if isinstance(error, AppError):
            self.refuse(error.code, error.text, error.retry_after)
        elif isinstance(error, PayloadError):
            self.refuse(error.code, error.desc)
        elif isinstance(error, StoreRefused):
            self._incoming.fail(Overloaded(str(error)))
        elif isinstance(error, StoreError):
            self._incoming.fail(Timeout(str(error)))
        elif isinstance(error, CallError):
            self._incoming.fail(error)
        else:
            self._incoming.fail(RemoteError(type(error).__name__))


class PackNode(Node, Packs):
    """Base of nodes that answer client packs."""

    _handlers: ClassVar[dict[int, tuple[str, bool]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._handlers = {}
        for name in dir(cls):
            marked = getattr(getattr(cls, name, None), "__handles__", None)
            if marked is not None:
                pack_type, as_batch = marked
                cls._handlers[pack_type] = (name, as_batch)

    @batch(Packs.handle)
    def _handle(self, calls: Sequence[Incoming]) -> None:
        self._dispatch((c, *c.args) for c in calls)

    @batch(Packs.ordered)
    def _ordered(self, calls: Sequence[Incoming]) -> None:
        self._dispatch((c, key, origin, request) for c in calls for key, _, origin, request in (c.args,))

    def _dispatch(self, calls: Iterable[tuple[Incoming, str, Origin, Request]]) -> None:
        batches: dict[str, list[Item]] = {}
        for incoming, key, origin, request in calls:
            found = self._handlers.get(request.type)
            if found is None:
                incoming.reply(encode_error(request.type, Code.UNAVAILABLE, "this system has no node for it"))
                continue
            struct = TABLE[request.type].request
            assert struct is not None
            try:
                message = decode_payload(struct, request.payload)
            except PayloadError as error:
                incoming.reply(encode_error(request.type, error.code, error.desc))
                continue
            item = Item(incoming, key, origin, request, message)
            name, as_batch = found
            if as_batch:
                batches.setdefault(name, []).append(item)
            else:
                self._submit(getattr(self, name), item)
        for name, items in batches.items():
            self._run_batch(name, items)

    def _run_batch(self, name: str, items: list[Item]) -> None:
        try:
            getattr(self, name)(items)
        except Exception as error:
            self.log.error("handler failed", handler=name, exc_info=error)
            for item in items:
                item.fail(error)

    def _submit(self, handler: Callable[[Item], Payload], item: Item) -> None:
        try:
            self.pool.submit(self._run_plain, (handler, item), item._incoming.deadline)
        except Overloaded as error:
            item.fail(error)

    def _run_plain(self, handler: Callable[[Item], Payload], item: Item) -> None:
        try:
            response = handler(item)
        except (MeshError, StoreError, PayloadError) as error:
            post(item.fail, error)
        except Exception as error:
            self.log.error("handler failed", type=item.request.type, exc_info=error)
            post(item.fail, error)
        else:
            post(item.answer, response)
