"""Contracts: what may cross the wire, and what a wrong declaration says."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec
import pytest

from mesh.contract import BoundMethod, call, cast, contract, methods_of
from mesh.errors import ConfigError
from mesh.node import Node, batch


class Entry(NamedTuple):
    seq: int
    text: str


class Frozen(msgspec.Struct, frozen=True):
    a: int
    b: tuple[Entry, ...] = ()


@contract
class Sample(Protocol):
    @call(timeout=1.0, key="session")
    def page(self, session: str, before: int = 0, count: int = 30) -> tuple[Entry, ...]: ...

    @call(timeout=1.0)
    def frozen(self, value: Frozen) -> Frozen | None: ...

    @cast()
    def note(self, text: str) -> None: ...


class Recorder:
    """A caller that keeps what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def blocking(self, service: str, method: Any, args: tuple[Any, ...]) -> Any:
        self.calls.append((service, method.name, args))

    def start(self, service: str, method: Any, args: tuple[Any, ...], done: Any) -> None:
        self.calls.append((service, method.name, args))

    def cast(self, service: str, method: Any, args: tuple[Any, ...]) -> None:
        self.calls.append(("cast", service, method.name, args))


def bound(name: str) -> tuple[BoundMethod, Recorder]:
    caller = Recorder()
    return BoundMethod(caller, "svc", methods_of(Sample)[name]), caller


def test_arguments_are_bound_with_defaults() -> None:
    method, caller = bound("page")
    method("S")
    method("S", 5)
    method(session="S", count=3)
    assert [c[2] for c in caller.calls] == [("S", 0, 30), ("S", 5, 30), ("S", 0, 3)]


@pytest.mark.parametrize("args", [(), ("S", 1, 2, 3)])
def test_a_wrong_call_is_a_type_error_before_anything_is_sent(args: tuple[Any, ...]) -> None:
    method, caller = bound("page")
    with pytest.raises(TypeError):
        method(*args)
    assert caller.calls == []


def test_values_survive_the_wire_as_what_they_are() -> None:
    method = methods_of(Sample)["frozen"]
    value = Frozen(1, (Entry(2, "x"),))
    assert method.decode_args(method.encode((value,))) == (value,)
    assert method.decode_result(method.encode(value)) == value
    assert method.decode_result(method.encode(None)) is None


def test_arguments_of_the_wrong_type_do_not_decode() -> None:
    method = methods_of(Sample)["page"]
    with pytest.raises(msgspec.ValidationError):
        method.decode_args(method.encode(("S", "not a number", 30)))


def test_mutable_types_are_refused_at_import() -> None:
    with pytest.raises(ConfigError, match=r"Bad\.f: items: .*not an immutable value"):

        @contract
        class Bad(Protocol):
            @call(timeout=1.0)
            def f(self, items: list[int]) -> None: ...


def test_arguments_that_are_not_plain_are_refused_at_import() -> None:
    with pytest.raises(ConfigError, match="arguments of a contract are plain"):

        @contract
        class Bad(Protocol):
            @call(timeout=1.0)
            def f(self, x: int, *, y: int) -> None: ...


def test_missing_annotations_and_keys_are_refused_at_import() -> None:
    with pytest.raises(ConfigError, match="no type annotation for x"):

        @contract
        class NoHint(Protocol):
            @call(timeout=1.0)
            def f(self, x) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigError, match="no argument 'y'"):

        @contract
        class NoKey(Protocol):
            @call(timeout=1.0, key="y")
            def f(self, x: int) -> None: ...


def test_fingerprints_change_with_the_shape() -> None:
    @contract
    class Other(Protocol):
        @call(timeout=9.0, key="session")
        def page(self, session: str, before: int = 0, count: int = 30) -> tuple[Entry, ...]: ...

        @call(timeout=1.0)
        def frozen(self, value: Frozen) -> Frozen: ...

    assert methods_of(Other)["page"].fingerprint == methods_of(Sample)["page"].fingerprint
    assert methods_of(Other)["frozen"].fingerprint != methods_of(Sample)["frozen"].fingerprint


def test_a_node_that_breaks_its_promise_does_not_import() -> None:
    with pytest.raises(ConfigError, match="Half promises note"):

        class Half(Node, Sample):
            def page(self, session: str, before: int = 0, count: int = 30) -> tuple[Entry, ...]:
                return ()

            @batch(Sample.frozen)
            def many(self, calls: Any) -> None: ...
