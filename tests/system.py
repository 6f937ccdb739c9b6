"""A whole imesh, started as a user starts it, on free ports and in a directory of its own."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from mesh.control import call_method, describe_all
from mesh.topology import Topology, load
from tests.raw import Raw
from tests.waiting import wait_until
from tests.web_socket import WebRaw

ROOT = Path(__file__).parents[1]
EDGE, CORE, COLD = ["broker", "user", "http"], ["chat", "group", "history", "msgop"], ["olap", "push"]
LAYOUTS = {
    "default": {"main": [*EDGE, *CORE], "cold": [*COLD, "hooks"]},
    "edge and core": {"edge": EDGE, "core": CORE, "cold": [*COLD, "hooks"]},
    "split": {kind: [kind] for kind in (*EDGE, *CORE, *COLD)},
}
"""Process groups of the topologies that the message tests run on."""
START_SECONDS = 20.0
CALL_SECONDS = 10.0
PORTS = range(11_000, 20_000)
ERRORS = re.compile(r"^\S+ error |^Traceback", re.MULTILINE)
"""What no client can make a process write."""


def topology_text(
    layout: str | dict[str, list[str]] = "default", counts: dict[str, int] | None = None,
    tables: dict[str, dict[str, Any]] | None = None,
) -> str:  # fmt: skip
    """A topology on port 0. `layout`: one of `LAYOUTS`, or process groups; `counts`: processes of a group; `tables`:
    more or other settings by table."""
    groups = LAYOUTS[layout] if isinstance(layout, str) else layout
    found: dict[str, dict[str, Any]] = {"mesh": {"stats": "127.0.0.1:0"}, "node.broker": {"listen": "127.0.0.1:0"}}
    if any("http" in nodes for nodes in groups.values()):
        found["node.http"] = {"listen": "127.0.0.1:0"}
    for group, nodes in groups.items():
        found[f"process.{group}"] = {"nodes": nodes, "count": (counts or {}).get(group, 1)}
    for table, values in (tables or {}).items():
        found.setdefault(table, {}).update(values)
    lines = []
    for table, values in found.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


class System:
    """A running imesh. `log` is what its processes wrote."""

    def __init__(self, directory: Path, text: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.topology = directory / "topology.toml"
        self.topology.write_text(text)
        self._log_file = (directory / "log").open("ab")  # closed by `destroy`
        self.launcher: subprocess.Popen[bytes] | None = None
        self._known: dict[str, tuple[str, int]] = {}

    # ---- life

    def up(self) -> None:
        """Start, and wait until every process serves."""
        self.launch()
        self.wait_serving()

    def launch(self) -> None:
        """Start, without waiting."""
        command = [sys.executable, "-m", "mesh", "up", str(self.topology), "--data", str(self.data)]
        self.launcher = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._log_file, stderr=self._log_file
        )

    def wait_serving(self, seconds: float = START_SECONDS) -> None:
        def serving() -> bool:
            assert self.launcher is not None
            assert self.launcher.poll() is None, f"imesh up ended with {self.launcher.returncode}:\n{self.log}"
            return self.serves()

        wait_until(serving, "all processes serving", seconds)

    def stop(self) -> int:
        """SIGTERM to the launcher; its exit code."""
        assert self.launcher is not None
        if self.launcher.poll() is None:
            self.launcher.send_signal(signal.SIGTERM)
        code = self.launcher.wait(timeout=30)
        self.launcher = None
        return code

    def destroy(self) -> None:
        """End whatever still runs of this system, however the test left it.

        The launcher goes first: it would start again what is killed before it, and that would write into a
        directory that is being removed. What it started in its last moment is a stray, so we look until none is left.
        """
        children = []
        if self.launcher is not None:
            if self.launcher.poll() is None:
                children = psutil.Process(self.launcher.pid).children(recursive=True)
                self.launcher.kill()
            self.launcher.wait(timeout=10)
        children += self._strays()
        while children:
            for process in children:
                try:
                    process.kill()
                    wait_until(lambda p=process: is_dead(p), "a killed process is dead")  # type: ignore[misc]
                except psutil.NoSuchProcess:
                    continue
            children = self._strays()
        self._log_file.close()

    def _strays(self) -> list[psutil.Process]:
        """Processes that name our data directory, their launcher being dead."""
        return [p for p in psutil.process_iter(["cmdline"]) if str(self.data) in " ".join(p.info["cmdline"] or ())]

    # ---- asking

    def run(self, *arguments: str, timeout: float = 30.0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """An `imesh` command on this system; the topology is given by options or position as the command wants."""
        command, *rest = arguments
        topology = [str(self.topology)] if command in ("status", "check") else ["--topology", str(self.topology)]
        whole = [sys.executable, "-m", "mesh", command, *rest, *topology, "--data", str(self.data)]
        return subprocess.run(whole, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=timeout)

    def call(self, method: str, *arguments: Any) -> Any:
        """What `imesh call` does; its result."""
        return call_method(self._loaded(), method, list(arguments), CALL_SECONDS)

    def status(self) -> dict[str, dict[str, Any]]:
        """What `imesh status --json` shows."""
        return describe_all(self._loaded())

    def serves(self) -> bool:
        """Whether every process serves now."""
        return all(process["state"] == "serving" for process in self.status().values())

    def _loaded(self) -> Topology:
        return load(self.topology, self.data)

    def addresses(self, kind: str = "tcp") -> list[tuple[str, int]]:
        """Where brokers listen: "tcp", "tls", "ws" or "wss"."""
        found = []
        for process in self.status().values():
            where = process.get("nodes", {}).get("broker", {}).get(kind)
            if where:
                host, port = where.rsplit(":", 1)
                found.append((host, int(port)))
        return found

    def http(self, kind: str = "http") -> tuple[str, int]:
        """Where an http node listens: "http" or "https"."""
        found = (p.get("nodes", {}).get("http", {}).get(kind) for p in self.status().values())
        host, port = next(filter(None, found)).rsplit(":", 1)
        return host, int(port)

    @property
    def first_key(self) -> str:
        """The API key that the first start shows."""
        return re.findall(r"imk_[a-z0-9]+_[\w-]{43}", self.log)[0]

    def address(self, kind: str = "tcp") -> tuple[str, int]:
        return self.addresses(kind)[0]

    def client(self, user: str = "", **login: Any) -> Raw:
        """A raw connection, logged in when `user` is given."""
        raw = self.connect()
        if user:
            assert raw.login(user, **login).error_code.code == 0
        return raw

    def connect(self, kind: str = "tcp", **options: Any) -> Raw:
        """A raw connection, not logged in; `options` are those of `Raw`. Where the broker listens is looked up once,
        and again when nobody is there any more."""
        try:
            if kind in self._known:
                return Raw(self._known[kind], **options)
        except ConnectionRefusedError:
            pass
        self._known[kind] = self.address(kind)
        return Raw(self._known[kind], **options)

    def web(self, user: str = "", kind: str = "ws", **options: Any) -> WebRaw:
        """A raw WebSocket connection, logged in when `user` is given; `options` are those of `WebRaw`."""
        raw = WebRaw(self.address(kind), **options)
        if user:
            assert raw.login(user).error_code.code == 0
        return raw

    @contextmanager
    def unharmed(self, growth: int = 64 << 20) -> Iterator[None]:
        """Whatever the block does: no process ends or logs an error, and none grows by more than `growth` bytes."""
        before, read = self._memory(), len(self.log)
        yield
        after = self._memory()
        assert after.keys() == before.keys(), f"processes were {sorted(before)} and are {sorted(after)}"
        grown = {process: (after[process] - before[process]) >> 20 for process in before}
        assert max(grown.values()) << 20 < growth, f"MiB that they have grown by: {grown}"
        told = self.log[read:]
        assert not ERRORS.search(told), told

    def _memory(self) -> dict[tuple[int, str], int]:
        """Resident bytes of every process below the launcher."""
        return {(p.pid, p.name()): p.memory_info().rss for p in self._tree()}

    def descriptors(self) -> int:
        """File descriptors that the processes have open: connections, for the most part."""
        return sum(p.num_fds() for p in self._tree())

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    # ---- faults

    def find(self, process: str) -> int:
        """The pid of a node process, or of "redis"; 0 while there is none."""
        for p in self._tree():
            command = command_of(p)
            program = Path("".join(command[:1]).partition(" ")[0]).name  # Redis writes a title of its own there
            if program == "redis-server" if process == "redis" else command[3:5] == ["run", process]:
                return p.pid
        return 0

    def pid(self, process: str) -> int:
        """The same of one that must be there."""
        pid = self.find(process)
        assert pid, f"no {process}"
        return pid

    def is_new(self, process: str, before: int) -> bool:
        """Whether it was started again, and has another pid than `before`."""
        return self.find(process) not in (0, before)

    def _tree(self) -> list[psutil.Process]:
        assert self.launcher is not None
        return psutil.Process(self.launcher.pid).children(recursive=True)

    @staticmethod
    def signal(pid: int, number: int) -> None:
        os.kill(pid, number)

    def kill(self, process: str) -> int:
        """SIGKILL a node process or "redis"; the pid that it had."""
        pid = self.pid(process)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_if_there(self, process: str) -> bool:
        """SIGKILL, but perhaps it is dead and not started again yet; whether it was there."""
        pid = self.find(process)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pid)


def is_dead(process: psutil.Process) -> bool:
    """Whether it does nothing any more; it may be long before somebody asks how it ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def command_of(process: psutil.Process) -> list[str]:
    """Its command line; empty when it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running(text: str) -> Iterator[System]:
    """A system that runs inside the block; on failure its log is printed."""
    with tempfile.TemporaryDirectory(prefix="imesh-test-") as directory:
        system = System(Path(directory), text)
        try:
            system.up()
            yield system
        except BaseException:
            print(system.log[-20_000:], file=sys.stderr)
            raise
        finally:
            system.destroy()


def free_port() -> int:
    """A port that is free now, for tests in which clients must find a restarted broker again.

    None that the system gives to outgoing connections: while nobody listens, one of those that try to connect would get
    it sooner or later, and be connected with itself.
    """
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
