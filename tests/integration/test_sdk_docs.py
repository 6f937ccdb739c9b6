"""The examples of docs/sdk.md run, one after the other, on a real system."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system import ROOT, System


def sections() -> dict[str, str]:
    """Title to code."""
    text = (ROOT / "docs" / "sdk.md").read_text()
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    found = {}
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        found[title] = "\n".join(re.findall(r"```python\n(.*?)```", body, re.DOTALL))
    return {title: code for title, code in found.items() if code}


def test_the_examples_run(
    system: System, user: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {name: user() for name in ("alice", "bob", "carl")}
    address = "{}:{}".format(*system.address())
    space: dict[str, Any] = {}
    try:
        for title, code in sections().items():
            for name, real in names.items():
                code = code.replace(f'"{name}"', f'"{real}"')
            code = code.replace("127.0.0.1:7100", address)
            exec(compile(code, f"docs/sdk.md: {title}", "exec"), space)
    finally:
        for name in names:
            if name in space:
                space[name].close()
