"""The embedded Redis: a real server with an append-only file in the data directory, reachable by a unix socket only."""

from __future__ import annotations

import socket
from pathlib import Path

from mesh.daemon import Daemon


def socket_path(run_dir: Path) -> Path:
    return run_dir / "redis.sock"


def daemon(server: str, data_dir: Path, run_dir: Path, durability: str) -> Daemon:
    """What the launcher runs. The settings are on the command line, so there is no file to fall out of step."""
    directory = data_dir / "redis"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = socket_path(run_dir)
    options = {
        "dir": str(directory),
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": durability,
        "no-appendfsync-on-rewrite": "no",
        # Messages wait for the disk and the core while it is rewritten. As large as this, it is loaded in 1.5 s.
        "auto-aof-rewrite-min-size": "128mb",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "lazyfree-lazy-expire": "yes",
        "loglevel": "warning",
        "logfile": str(directory / "redis.log"),
        "daemonize": "no",
    }
    command = [server]
    for key, value in options.items():
        command += [f"--{key}", value]
    return Daemon(name="redis", command=command, ready=lambda: answers(path))


def answers(path: Path) -> bool:
    """Whether a Redis on this socket has loaded its data and takes commands."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(0.5)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False
