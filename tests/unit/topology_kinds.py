"""A package of node modules, written to a directory, for tests of topologies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "topology_test_nodes"
HEAD = """
from typing import Protocol
import msgspec
from mesh.contract import call, contract
from mesh.node import Node
"""
MODULES = {
    "__init__": "",
    "alpha": """
class AlphaSettings(msgspec.Struct, frozen=True):
    listen: str = "127.0.0.1:1"
    limit: int = 5
    secret: str = ""
    def problems(self):
        if self.limit > 10:
            yield "limit", "must be at most 10"

class StoreSettings(msgspec.Struct, frozen=True):
    url: str = "embedded"
    shards: int = 64
    @staticmethod
    def check(topology):
        if topology.section("store").url == "embedded" and len(topology.hosts) > 1:
            yield "store", "url", "embedded works on one host only"

class Alpha(Node):
    Settings = AlphaSettings
    sections = {"store": StoreSettings}
""",
    "beta": f"""
from {PACKAGE}.alpha import StoreSettings

@contract
class Gamma(Protocol):
    @call(timeout=1.0)
    def get(self) -> int: ...

class BetaSettings(msgspec.Struct, frozen=True):
    size: int
    ratio: float = 1.0

class Beta(Node):
    Settings = BetaSettings
    sections = {{"store": StoreSettings}}
    gamma: Gamma
""",
    "gamma": f"""
from {PACKAGE}.beta import Gamma

class GammaNode(Node, Gamma):
    def get(self) -> int:
        return 1
""",
    "broken": "raise RuntimeError('no such\\ndevice')",
    "empty": "",
    "double": "class One(Node): pass\nclass Two(Node): pass",
}


@contextmanager
def node_package(directory: Path) -> Iterator[str]:
    """The package, importable while the context lasts; its name."""
    (directory / PACKAGE).mkdir()
    for name, body in MODULES.items():
        (directory / PACKAGE / f"{name}.py").write_text(HEAD + body if body else "")
    path = list(sys.path)
    sys.path.append(str(directory))
    try:
        yield PACKAGE
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
