"""The caller: `echo` is injected, and is the service of that name wherever the topology puts it."""

from examples.echo.contracts import Caller, Echo
from mesh.node import Node


class CallerNode(Node, Caller):
    echo: Echo

    def ask(self, text: str) -> str:
        return self.echo.echo(text)
