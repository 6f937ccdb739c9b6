"""Contracts: what one node may call on another, as a Protocol class that mypy, the editor and the wire all read.

    @contract
    class History(Protocol):
        @call(timeout=2.0, idempotent=True, key="session")
        def page(self, session: str, before: int, count: int) -> tuple[Entry, ...]: ...

A node that implements it inherits it: `class HistoryNode(Node, History)`; a node that calls it declares an attribute
`history: History`, whose name is the service (the node kind), and calls `self.history.page(...)` from a greenlet, or
`start(self.history.page, done, ...)` from the hub. Only methods marked here can be reached from outside.

Values are immutable (numbers, str, bytes, tuples, frozen msgspec Structs, NamedTuples), so that a call inside one
process and a call over the wire behave alike. Annotations are the wire's types: the receiver decodes by them.
"""

from __future__ import annotations

import inspect
import types
import typing
import zlib
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, Union, get_args, get_origin

import msgspec

from mesh.errors import ConfigError
from mesh.loop import Done

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


class CallOptions(NamedTuple):
    """How a method of a contract is called."""

    timeout: float  # seconds, the most that a caller waits
    idempotent: bool  # may run twice without harm, so the mesh may try again
    key: str | None  # argument to choose the instance by; None = least loaded
    lane: tuple[str, ...]  # arguments whose equal values keep calls in order (see mesh/calls.py)
    oneway: bool  # a cast: no answer


def call(
    *, timeout: float, idempotent: bool = False, key: str | None = None, lane: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Mark a method of a contract as callable. `timeout` in seconds; the rest as in `CallOptions`."""
    return _mark(CallOptions(timeout, idempotent, key, lane, oneway=False))


def cast(*, key: str | None = None) -> Callable[[F], F]:
    """Mark a method of a contract as a cast: best effort, no answer, never blocks."""
    return _mark(CallOptions(0.0, False, key, (), oneway=True))


def _mark(options: CallOptions) -> Callable[[F], F]:
    def mark(function: F) -> F:
        function.__call_options__ = options  # type: ignore[attr-defined]
        return function

    return mark


class Method:
    """One method of a contract: its options, its codecs and how its arguments are bound."""

    __slots__ = (
        "_signature", "arity", "decode_args", "decode_result", "encode", "fingerprint", "key_index", "lane_of",
        "name", "options", "result_type", "types",
    )  # fmt: skip

    def __init__(self, contract_name: str, function: Callable[..., Any]) -> None:
        self.name = function.__name__
        self.options: CallOptions = function.__call_options__  # type: ignore[attr-defined]
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        self._signature = signature.replace(parameters=parameters)
        where = f"{contract_name}.{self.name}"
        if any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
            raise ConfigError(f"{where}: arguments of a contract are plain: no *, / or ** (they travel as an array)")
        try:
            hints = typing.get_type_hints(function)
        except NameError as error:
            raise ConfigError(f"{where}: {error}") from None
        names = [p.name for p in parameters]
        missing = [n for n in [*names, "return"] if n not in hints]
        if missing:
            raise ConfigError(f"{where}: no type annotation for {', '.join(missing)}")
        for name in [*names, "return"]:
            _require_immutable(hints[name], f"{where}: {name}")
        self.types = tuple(hints[n] for n in names)
        self.result_type = hints["return"]
        self.arity = len(names)
        self.key_index = self._index(names, self.options.key, where)
        lane = [i for n in self.options.lane if (i := self._index(names, n, where)) is not None]
        self.lane_of: Callable[[tuple[Any, ...]], Any] | None = itemgetter(*lane) if lane else None
        self.encode = msgspec.msgpack.Encoder().encode
        args_type = tuple[self.types] if self.types else tuple[()]  # type: ignore[name-defined]
        self.decode_args: Callable[[bytes], tuple[Any, ...]] = msgspec.msgpack.Decoder(args_type).decode
        self.decode_result: Callable[[bytes], Any] = msgspec.msgpack.Decoder(self.result_type).decode
        shape = f"{names}{[_spell(t) for t in self.types]}{_spell(self.result_type)}{self.options.oneway}"
        self.fingerprint = zlib.crc32(shape.encode())

    @staticmethod
    def _index(names: list[str], name: str | None, where: str) -> int | None:
        if name is None:
            return None
        if name not in names:
            raise ConfigError(f"{where}: no argument {name!r} to choose the instance by")
        return names.index(name)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in order, defaults filled in. Raises `TypeError` here, before anything is sent."""
        if not kwargs and len(args) == self.arity:
            return args
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args


_ATOMS = (bool, int, float, str, bytes, type(None))


def _require_immutable(hint: Any, where: str) -> None:
    origin = get_origin(hint)
    if hint in _ATOMS:
        return
    if origin is tuple or origin is Union or origin is types.UnionType:
        for part in get_args(hint):
            if part is not Ellipsis:
                _require_immutable(part, where)
        return
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and hint.__struct_config__.frozen:
        return
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return
    raise ConfigError(f"{where}: {hint!r} is not an immutable value (use tuples, NamedTuples, frozen Structs)")


def _spell(hint: Any, seen: tuple[Any, ...] = ()) -> str:
    """A text that changes when the wire form of a type changes."""
    if isinstance(hint, type) and hint not in seen:
        if issubclass(hint, msgspec.Struct):
            fields = ((f.encode_name, f.type) for f in msgspec.structs.fields(hint))
            return f"{hint.__name__}({','.join(f'{n}:{_spell(t, (*seen, hint))}' for n, t in fields)})"
        if issubclass(hint, tuple) and hasattr(hint, "_fields"):
            hints = typing.get_type_hints(hint)
            return f"{hint.__name__}({','.join(f'{n}:{_spell(t, (*seen, hint))}' for n, t in hints.items())})"
    args = get_args(hint)
    if args:
        return f"{get_origin(hint)}[{','.join(_spell(a, seen) for a in args)}]"
    return getattr(hint, "__name__", repr(hint))


def contract(cls: C) -> C:
    """Class decorator: collects the marked methods. Raises `ConfigError` for one that cannot cross the wire."""
    methods = {n: Method(cls.__name__, f) for n, f in vars(cls).items() if hasattr(f, "__call_options__")}
    if not methods:
        raise ConfigError(f"{cls.__name__}: a contract without a method marked @call or @cast")
    cls.__contract__ = methods  # type: ignore[attr-defined]
    return cls


def methods_of(cls: type) -> dict[str, Method]:
    """The methods of a contract class, by name; of a node class: of all contracts that it implements."""
    found: dict[str, Method] = {}
    for base in reversed(cls.__mro__):
        for name, method in vars(base).get("__contract__", {}).items():
            if name in found and found[name] is not method:
                raise ConfigError(f"{cls.__name__} inherits two contracts with a method {name!r}")
            found[name] = method
    return found


def is_contract(hint: Any) -> bool:
    return isinstance(hint, type) and "__contract__" in vars(hint)


class Caller(Protocol):
    """What proxies need of the process: see `mesh/calls.py`."""

    def blocking(self, service: str, method: Method, args: tuple[Any, ...]) -> Any: ...
    def start(self, service: str, method: Method, args: tuple[Any, ...], done: Done) -> None: ...
    def cast(self, service: str, method: Method, args: tuple[Any, ...]) -> None: ...


class BoundMethod:
    """`self.history.page`: calling it blocks the greenlet; `start(...)` takes a completion instead."""

    __slots__ = ("_call", "caller", "method", "service")

    def __init__(self, caller: Caller, service: str, method: Method) -> None:
        self.caller = caller
        self._call: Callable[..., Any] = caller.cast if method.options.oneway else caller.blocking
        self.service = service
        self.method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.method.bind(args, kwargs)
        return self._call(self.service, self.method, bound)

    def __repr__(self) -> str:
        return f"<{self.service}.{self.method.name}>"


class Proxy:
    """What the attribute `history: History` holds at run time."""

    def __init__(self, caller: Caller, service: str, contract_class: type) -> None:
        for name, method in methods_of(contract_class).items():
            setattr(self, name, BoundMethod(caller, service, method))


def start(
    method: Callable[P, R], done: Callable[[R, Exception | None], None], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Call `method` of a proxy from the hub: `done(result, None)` or `done(None, error)` is called later, on the hub.

    Hot paths call `BoundMethod.caller.start` themselves with a ready tuple.
    """
    bound: BoundMethod = method  # type: ignore[assignment]
    bound.caller.start(bound.service, bound.method, bound.method.bind(args, kwargs), done)
