"""The examples run as they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.system import ROOT
from tests.waiting import wait_until

TOPOLOGY = "examples/echo/topology.toml"


def test_a_service_on_the_mesh_alone(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    mesh = [sys.executable, "-m", "mesh"]
    with subprocess.Popen([*mesh, "up", TOPOLOGY, *data], cwd=ROOT, stderr=subprocess.DEVNULL) as launcher:
        try:

            def serving() -> bool:
                return subprocess.run([*mesh, "status", TOPOLOGY, *data], cwd=ROOT, capture_output=True).returncode == 0

            wait_until(serving, "the example to serve")
            command = [*mesh, "call", "caller.ask", '"hello"', "--topology", TOPOLOGY, *data]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
            assert done.stdout.startswith('"hello (from back-'), done.stderr
        finally:
            os.kill(launcher.pid, signal.SIGTERM)
        assert launcher.wait(20) == 0
