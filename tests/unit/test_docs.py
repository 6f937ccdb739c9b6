"""The docs say what is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_tables_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, "docs/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_and_named_files_exist(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
    folders = "mesh|ops|webapi|packs|push|store|nodes|client|cli|tests|bench|docs|examples|topologies"
    for name in re.findall(rf"`((?:{folders})/[\w./*-]+)`", text):
        assert list(ROOT.glob(name)), f"{path.name} names {name}"


def test_imesh_commands_in_code_blocks_exist() -> None:
    done = subprocess.run([sys.executable, "-m", "mesh", "--help"], cwd=ROOT, capture_output=True, text=True)
    known = set(re.findall(r"^    ([a-z]+) ", done.stdout, re.MULTILINE))
    assert {"up", "check"} <= known, done.stdout
    for path in DOCS:
        for block in re.findall(r"```\n(.*?)```", path.read_text(), re.DOTALL):
            for command in re.findall(r"(?:^|/)imesh ([a-z]+)", block, re.MULTILINE):
                assert command in known, f"{path.name}: imesh {command}"


def test_the_default_topology_shows_every_setting_with_its_default() -> None:
    from msgspec.structs import fields

    from docs.reference import SETTINGS, default_of

    text = (ROOT / "topology.toml").read_text()
    for name in ("mesh", "broker", "chat", "user", "push", "auth", "store"):
        heading, struct = SETTINGS[name]
        table = text.split(f"\n{heading}\n")[1].split("\n[")[0]
        for field in fields(struct):
            value = default_of(field).strip("`")
            shown = re.search(rf'^(# )?{field.name} = ("[^"]*"|\S+)', table, re.MULTILINE)
            assert shown, f"topology.toml does not show {heading} {field.name}"
            if shown[1]:  # the others are set there
                assert tomllib.loads(f"x = {shown[2]}")["x"] == tomllib.loads(f"x = {value}")["x"], field.name


@pytest.mark.parametrize("path", sorted((ROOT / "topologies").glob("*.toml")), ids=lambda p: p.name)
def test_the_topologies_are_right(path: Path) -> None:
    command = [sys.executable, "-m", "mesh", "check", str(path), "--data", "/nonexistent"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_monitor_in_the_docs_is_python() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(code, "monitor", "exec")
