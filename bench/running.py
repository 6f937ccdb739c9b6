"""Starts a mesh as a user does, in a temporary directory, on free ports; and the command line of all benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.dialects import Dialect
from bench.dialects.imesh import Imesh
from bench.measure import SERVER_CORES, descendants, pin, progress
from bench.systems import System

ROOT = Path(__file__).parents[1]
ANY_PORTS = {"IMESH_MESH_STATS": "127.0.0.1:0"}
"""Settings in the environment that keep every benchmark off ports that others use."""
START_SECONDS = 30.0
STOP_SECONDS = 30.0
ALARMS, ALARM_LENGTH = 5, 300
"""Of what the mesh logged as warning or error, this many lines of this many characters are shown."""
TERMINATED = 143
"""Exit code after SIGTERM."""


LAYOUTS = {
    "default": ROOT / "topology.toml", "split": ROOT / "topologies" / "split.toml",
}  # fmt: skip
OPEN_DOOR = {
    "IMESH_NODE_BROKER_LISTEN": "127.0.0.1:0", "IMESH_NODE_BROKER_WS_LISTEN": "127.0.0.1:0",
    "IMESH_NODE_HTTP_LISTEN": "127.0.0.1:0",
    "IMESH_NODE_BROKER_MESSAGES_PER_SECOND": "0",
}  # fmt: skip
"""Settings for loads: any free port, and no limit for those who write much."""


class Mesh(System):
    """A running mesh: a context. Its processes are pinned to the servers' core."""

    name = "imesh"
    store = "redis"

    def __init__(
        self, topology: Path, settings: Mapping[str, str] | None = None, *, dialect: Dialect | None = None
    ) -> None:
        """`settings` as `IMESH_<TABLE>_<KEY>`."""
        self.topology = topology
        self.dialect = dialect or Imesh()
        self._settings = {**ANY_PORTS, **(settings or {})}
        self._directory = Path(tempfile.mkdtemp(prefix="imesh-bench-"))
        self.data = self._directory / "data"
        self.status: dict[str, Any] = {}
        self.launcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mesh:
        try:
            self.launch()
            self.wait_serving()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def launch(self) -> None:
        """`python -m mesh up`, without waiting."""
        command = [sys.executable, "-m", "mesh", "up", str(self.topology), "--data", str(self.data)]
        with (self._directory / "log").open("wb") as log:
            self.launcher = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **self._settings}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,  # Ctrl-C reaches us, and we stop it in order
            )  # fmt: skip

    def wait_serving(self) -> None:
        """Wait until all processes serve, learn where and as what, and pin them. Raises `RuntimeError` with the log."""
        limit = time.monotonic() + START_SECONDS
        while not (status := self._status()):
            if self._launcher.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{self.topology} did not start:\n{self.log}")
        self.status = status
        for pid in descendants(self._launcher.pid):
            pin(pid, SERVER_CORES)

    def _status(self) -> dict[str, Any]:
        """What `imesh status` says, {} while not all processes serve."""
        command = [sys.executable, "-m", "mesh", "status", "--json", str(self.topology), "--data", str(self.data)]
        environment = {**os.environ, **self._settings}
        asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
        found: dict[str, Any] = json.loads(asked.stdout) if asked.returncode == 0 else {}
        return found

    def is_behind(self) -> bool:
        nodes = [process["nodes"]["olap"] for process in self._status().values() if "olap" in process["nodes"]]
        return any(not node["log"].startswith("0 rows") or "search" in node for node in nodes)

    @property
    def _launcher(self) -> subprocess.Popen[bytes]:
        if self.launcher is None:
            raise RuntimeError("the mesh was not launched")
        return self.launcher

    def groups(self) -> dict[str, list[int]]:
        """Pids by process of the mesh; "redis" and "launcher" are all that is not a node process."""
        nodes = {name: [int(about["pid"])] for name, about in self.status.items()}
        others: dict[str, list[int]] = {"redis": [], "launcher": []}
        for pid in descendants(self._launcher.pid):
            if [pid] not in nodes.values():
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                others["redis" if name.startswith("redis") else "launcher"].append(pid)
        return {**nodes, **{name: pids for name, pids in others.items() if pids}}

    def address(self) -> tuple[str, int]:
        """Where clients of its dialect connect: brokers of one host share their port. Raises `KeyError` without one."""
        for about in self.status.values():
            if "broker" in about["nodes"]:
                host, _, port = about["nodes"]["broker"][self.dialect.endpoint].rpartition(":")
                return host, int(port)
        raise KeyError("broker")

    @property
    def log(self) -> str:
        """What its processes wrote."""
        return (self._directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """Stop it and remove its directory. What it said of errors is passed on."""
        launcher, self.launcher = self.launcher, None
        if launcher is not None:
            launcher.send_signal(signal.SIGTERM)
            try:
                launcher.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in reversed(descendants(launcher.pid)):
                    os.kill(pid, signal.SIGKILL)
                launcher.wait()
        alarms = [line for line in self.log.splitlines() if " error " in line or " warning " in line]
        for line in alarms[:ALARMS]:
            progress(f"mesh: {line[:ALARM_LENGTH]}")
        if len(alarms) > ALARMS:
            progress(f"mesh: and {len(alarms) - ALARMS} more like these")
        shutil.rmtree(self._directory, ignore_errors=True)


class Options(argparse.Namespace):
    """What all benchmarks are told."""

    rounds: int
    seconds: float
    quick: bool
    json: Path | None
    usual: tuple[int, float]
    short: tuple[int, float]


def make_parser(
    name: str, description: str, *, rounds: int, seconds: float, quick: tuple[int, float]
) -> argparse.ArgumentParser:
    """The command line of a benchmark with the options of all. `quick`: its rounds and seconds."""
    parser = argparse.ArgumentParser(f"python -m bench.{name}", description=description)
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of all contestants (default: {rounds})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of each run (default: {seconds:g})")
    parser.add_argument("--quick", action="store_true", help=f"{quick[0]} rounds of {quick[1]:g} s: a look, no result")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds to this file")
    parser.set_defaults(usual=(rounds, seconds), short=quick)
    return parser


def parse(parser: argparse.ArgumentParser) -> Options:
    """The options, with the defaults that --quick chooses. From now on SIGTERM ends the benchmark in order."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    options = parser.parse_args(namespace=Options())
    rounds, seconds = options.short if options.quick else options.usual
    options.rounds = options.rounds or rounds
    options.seconds = options.seconds or seconds
    return options
