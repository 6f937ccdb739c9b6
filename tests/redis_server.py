"""A Redis of a test's own, which it may stop and kill."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from store.address import Address
from store.settings import redis_server


class Server:
    """A Redis with an append-only file, on a unix socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/s"
        self.address = Address(f"{directory}/s", "", 0, "", "", 0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [redis_server() or "", "--dir", str(self.directory), "--port", "0"]
        command += ["--unixsocket", f"{self.directory}/s", "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()
