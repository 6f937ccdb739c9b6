"""docs/http.md is run: every shell block, in order, in one shell; what it prints is what the docs say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.system import ROOT, System, running, topology_text

DONE = "---- done"
VOLATILE = 1_000_000_000
"""Numbers from here on are times and seqIds, other ones in each run."""


class Step(NamedTuple):
    """A block of the docs and what it prints."""

    script: str
    kind: str
    output: str


def steps() -> list[Step]:
    text = (ROOT / "docs" / "http.md").read_text()
    found = re.findall(r"^```sh\n(.*?)^```\n(?:```(json|text)\n(.*?)^```\n)?", text, re.DOTALL | re.MULTILINE)
    return [Step(*step) for step in found]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running(topology_text()) as found:
        yield found


def test_the_day_of_a_third_party(system: System) -> None:
    host, port = system.http()
    imesh = f'imesh() {{ "{sys.executable}" -m mesh "$@" --topology "{system.topology}" --data "{system.data}"; }}'
    parts = ["set -eu -o pipefail", imesh]
    for step in steps():
        parts += [step.script.replace("127.0.0.1:7180", f"{host}:{port}"), f"echo; echo '{DONE}'"]
    done = subprocess.run(["bash", "-c", "\n".join(parts)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    outputs = done.stdout.split(f"{DONE}\n")[:-1]
    for step, printed in zip(steps(), outputs, strict=False):
        if step.kind == "json":
            assert alike(json.loads(printed), json.loads(step.output)), f"{step.script}\nprinted {printed}"
        else:
            assert printed.strip() == step.output.strip(), f"{step.script}\nprinted {printed}"
    assert done.returncode == 0 and len(outputs) == len(steps()) >= 20, done.stderr


def alike(found: Any, told: Any) -> bool:
    """Whether an output is what the docs tell, but for what each run has of its own."""
    if isinstance(told, dict):
        return isinstance(found, dict) and found.keys() == told.keys() and all(alike(found[k], told[k]) for k in told)
    if isinstance(told, list):
        return isinstance(found, list) and len(found) == len(told) and all(map(alike, found, told))
    if isinstance(told, str) and told.endswith("…"):
        return isinstance(found, str) and bool(found)
    if isinstance(told, int) and told > VOLATILE:
        return isinstance(found, int) and found > VOLATILE
    return bool(found == told)
