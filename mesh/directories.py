"""The data directory of a topology and its private run directory: who may use them, and who does.

    <data>/imesh.lock   held by the launcher, with its pid: one launcher per data directory
    <run>/alive         held (shared) by each node process
    <run>/daemons       held (shared) by the guard of each daemon

Locks are flocks: they go with their process, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from mesh.errors import ConfigError, MeshError
from mesh.guard import ALIVE, DAEMONS
from mesh.topology import Topology

LOCK = "imesh.lock"


class InUse(MeshError):
    """Another launcher runs on this data directory."""


def make_data_dir(path: Path) -> None:
    """Make the data directory, for us alone, and see whether it can be written. Raises `ConfigError`.

    The mode of a directory that is there already is left as it is: it may be anything that `--data` names.
    """
    _make(path)
    probe = path / f".write-{os.getpid()}"
    try:
        probe.write_bytes(b"0" * 4096)
    except OSError as error:
        raise ConfigError(f"cannot write to the data directory {path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def make_run_dir(topology: Topology) -> None:
    """Make the run directory, which only we can enter. Raises `ConfigError` when it is not ours or cannot be made."""
    path = topology.run_dir
    _make(path)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():  # in /tmp, somebody else may have been first
        raise ConfigError(f"{path} belongs to somebody else (uid {found.st_uid}) or is a link: remove it")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def check_run_dir(topology: Topology) -> None:
    """Refuse to talk to sockets in a run directory that is neither ours nor the data directory's owner's."""
    try:
        found = topology.run_dir.lstat()
        owners = {os.geteuid(), topology.data_dir.stat().st_uid}
    except OSError:
        return  # nothing runs, or we cannot get in
    if stat.S_ISLNK(found.st_mode) or found.st_uid not in owners:
        raise ConfigError(f"{topology.run_dir} belongs to somebody else (uid {found.st_uid}) or is a link")


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{path} cannot be a directory: a file is in the way") from None
    except OSError as error:
        raise ConfigError(f"cannot make the directory {path}: {error.strerror}") from None


def claim(data_dir: Path) -> int:
    """Take the launcher's lock; the descriptor that holds it. Raises `InUse`, naming the pid of the holder."""
    path = data_dir / LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise InUse(f"pid {holder} already runs on {data_dir}; stop it first, or choose another --data") from None
    except OSError as error:
        os.close(lock)
        raise ConfigError(f"cannot lock {path}: {error.strerror}") from None
    return lock


def nodes_running(run_dir: Path) -> bool:
    """Whether node processes run on this host."""
    return _held(run_dir / ALIVE)


def still_running(run_dir: Path) -> bool:
    """Whether node processes or daemons of an earlier launcher have not ended yet."""
    return _held(run_dir / ALIVE) or _held(run_dir / DAEMONS)


def _held(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
