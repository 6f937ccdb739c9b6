"""A Redis Cluster of a test's own: masters that it may kill, slots that it may move."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from store.address import Address, ClusterAddress
from store.connection import query
from store.errors import StoreRefused
from store.settings import redis_server
from store.slots import SLOTS
from tests.waiting import wait_until

NODE_TIMEOUT_MS = 1500


def cluster_port() -> int:
    """A free port whose bus port, 10000 above, is free too."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            port = random.randrange(20_000, 22_700)  # below what outgoing connections get, the bus port too
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class Master:
    """One server of the Cluster, with `slots`."""

    def __init__(self, directory: Path, slots: range) -> None:
        self.directory = directory
        self.slots = slots
        self.port = cluster_port()
        self.address = Address("", "127.0.0.1", self.port, "", "", 0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        options = {
            "port": self.port, "bind": "127.0.0.1", "dir": self.directory, "save": "", "appendonly": "yes",
            "appendfsync": "always", "cluster-enabled": "yes", "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
        }  # fmt: skip
        command = [redis_server() or ""]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.answers, "the server to answer", 20)

    def answers(self) -> bool:
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, StoreRefused):
            return False

    def ask(self, *command: Any) -> Any:
        return query(self.address, command)[0]

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class RedisCluster:
    """Three masters that share the slots."""

    def __init__(self, directory: Path) -> None:
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        self.masters = [Master(directory / f"m{n}", range(bounds[n], bounds[n + 1])) for n in range(3)]
        self.address = ClusterAddress(tuple(m.address for m in self.masters))
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{m.port}" for m in self.masters)

    def start(self) -> None:
        for epoch, master in enumerate(self.masters, 1):
            master.start()
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            master.ask("CLUSTER", "ADDSLOTS", *master.slots)
        for master in self.masters[1:]:
            master.ask("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port)
        wait_until(self.agreed, "all masters to know all slots", 30)

    def agreed(self) -> bool:
        owners = [sorted((r[0], r[1], r[2][1]) for r in m.ask("CLUSTER", "SLOTS")) for m in self.masters]
        up = all(b"cluster_state:ok" in m.ask("CLUSTER", "INFO") for m in self.masters)
        covered = sum(last - first + 1 for first, last, _ in owners[0])
        return up and covered == SLOTS and owners[0] == owners[1] == owners[2]

    def owner(self, slot: int) -> Master:
        for first, last, master, *_ in self.masters[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(m for m in self.masters if m.port == master[1])
        raise AssertionError(f"slot {slot} is nowhere")

    # ---- moving a slot, step by step

    def begin_move(self, slot: int, source: Master, target: Master) -> None:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))

    def move_keys(self, slot: int, source: Master, target: Master, count: int = 1000) -> int:
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, source: Master, target: Master) -> None:
        for master in (target, source, *(m for m in self.masters if m not in (source, target))):
            master.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))

    def move(self, slot: int, target: Master) -> None:
        """Move a slot while the Cluster works."""
        source = self.owner(slot)
        if source is not target:
            self.begin_move(slot, source, target)
            while self.move_keys(slot, source, target, 5):
                pass
            self.end_move(slot, source, target)

    def stop(self) -> None:
        for master in self.masters:
            if master.process is not None and master.process.poll() is None:
                master.kill()
