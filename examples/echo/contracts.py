"""What the two nodes promise each other."""

from typing import Protocol

from mesh.contract import call, contract


@contract
class Echo(Protocol):
    @call(timeout=1.0, idempotent=True)
    def echo(self, text: str) -> str: ...


@contract
class Caller(Protocol):
    @call(timeout=2.0, idempotent=True)
    def ask(self, text: str) -> str: ...
