"""The service."""

from examples.echo.contracts import Echo
from mesh.node import Node


class EchoNode(Node, Echo):
    def echo(self, text: str) -> str:
        return f"{text} (from {self.process.name})"
