"""Imports run one way, and what a file may touch is enforced, as text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "packs": set(),
    "mesh": set(),
    "webapi": {"mesh"},
    "store": {"mesh"},
    "push": {"mesh"},
    "nodes": {"mesh", "webapi", "packs", "store", "push"},
    "client": {"packs"},
    "cli": {"mesh", "packs", "store", "client"},
}
"""Package -> packages of ours that it may import."""
MESH_FOR = {"store": {"mesh.loop", "mesh.errors", "mesh.daemon"}, "push": {"mesh.loop"}}
"""Of the mesh, these use the engine only."""
OURS = set(MAY_IMPORT)
MAX_LINES = 500
MAX_FUNCTION_LINES = 60


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_lies_below_them(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        for name in imports(path):
            top = name.split(".")[0]
            if top in OURS - {package}:
                assert top in MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", MESH_FOR)
def test_the_store_and_push_use_only_the_engine_of_the_mesh(package: str) -> None:
    for path in sources(package):
        for name in imports(path):
            if name.startswith("mesh."):
                module = ".".join(name.split(".")[:2])
                assert module in MESH_FOR[package], f"{path.name} imports {name}"


def test_only_link_imports_zmq() -> None:
    for package in MAY_IMPORT:
        for path in sources(package):
            uses = any(name.split(".")[0] == "zmq" for name in imports(path))
            assert not uses or path.name == "link.py", f"{path} imports zmq"


def test_only_the_archive_talks_sql() -> None:
    for package in MAY_IMPORT:
        for path in sources(package):
            if imports(path) & {"peewee", "pymysql"}:
                assert path.parent.name == "archive" or path == ROOT / "cli" / "db.py", path


def test_a_node_never_imports_a_node() -> None:
    kinds = {"broker", "chat", "group", "history", "hooks", "http", "msgop", "olap", "push", "user"}
    for path in sources("nodes"):
        for name in imports(path):
            parts = name.split(".")
            if len(parts) > 1 and parts[0] == "nodes" and parts[1] in kinds and path.stem in kinds:
                raise AssertionError(f"nodes/{path.name} imports {name}")


def test_packs_do_no_io() -> None:
    forbidden = {"socket", "select", "gevent", "threading", "time", "asyncio", "os"}
    for path in sources("packs"):
        assert not {n.split(".")[0] for n in imports(path)} & forbidden, path


def test_patching_happens_at_the_entry_points_only() -> None:
    for package in MAY_IMPORT:
        for path in sources(package):
            if "patch_all" in path.read_text():
                assert path == ROOT / "mesh" / "__main__.py", path


@pytest.mark.parametrize("package", [*MAY_IMPORT, "bench", "tests"])
def test_files_and_functions_stay_small(package: str) -> None:
    for path in sources(package):
        text = path.read_text()
        assert text.count("\n") <= MAX_LINES, f"{path} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {length} lines"
