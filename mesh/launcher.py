"""`imesh up`: the daemons and processes of one host, from the locks that keep them apart to the last one's end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import gevent

from mesh import directories, guard, slices
from mesh.daemon import Daemon
from mesh.errors import ConfigError, MeshError
from mesh.keys import load_keys
from mesh.log import configure
from mesh.loop import now
from mesh.supervisor import KILL_MARGIN, Child, Supervisor
from mesh.topology import Topology

PREDECESSOR_SECONDS = 10.0
"""How long to wait for what a killed launcher left behind."""
POLL_SECONDS = 0.05


def up(topology: Topology, host: str | None = None) -> int:
    """Run what the topology places on this host, until a signal. 0 stopped, 1 failed; raises `MeshError` before."""
    host = this_host(topology, host)
    configure("up", topology.mesh.log_level)
    if topology.secure:
        load_keys(topology, host)
    directories.make_data_dir(topology.data_dir)
    lock = directories.claim(topology.data_dir)
    try:
        directories.make_run_dir(topology)
        _wait_for_predecessors(topology.run_dir)
        tell(f"imesh up: {topology.path}, host {host}, data in {topology.data_dir}")
        children = [*_daemons(topology), *_processes(topology, host)]
        supervisor = Supervisor(children, tell, lambda seconds: _summary(topology, host, seconds))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                gevent.signal_handler(number, _asked_to_stop, supervisor)
        return supervisor.run()
    finally:
        os.close(lock)


def _asked_to_stop(supervisor: Supervisor) -> None:
    tell("stopping at once" if supervisor.stopping else "stopping; once more to stop at once")
    supervisor.stop()


def this_host(topology: Topology, name: str | None) -> str:
    """The host to run: the named one, the only one, or the one whose secret key lies here. Raises `ConfigError`."""
    names = ", ".join(topology.hosts)
    if name is not None:
        if name not in topology.hosts:
            raise ConfigError(f'no host "{name}" in {topology.path}; there are: {names}')
        return name
    if len(topology.hosts) == 1:
        return next(iter(topology.hosts))
    ours = [host for host in topology.hosts if _has_key(topology, host)]
    if len(ours) != 1:
        raise ConfigError(f"{topology.path} has several hosts: say which one this is, --host {names}")
    return ours[0]


def _has_key(topology: Topology, host: str) -> bool:
    try:
        load_keys(topology, host)
    except ConfigError:
        return False
    return True


def _daemons(topology: Topology) -> Iterable[Child]:
    for section in topology.sections().values():
        make: Callable[..., list[Daemon]] = getattr(section, "daemons", _no_daemons)
        for daemon in make(section, topology.data_dir, topology.run_dir):
            shim = [sys.executable, "-I", "-S", guard.__file__, str(topology.run_dir), str(daemon.stop_timeout)]
            prompt = [sys.executable, "-I", "-S", slices.__file__]
            yield Child(
                daemon.name, [*shim, *prompt, *daemon.command], env=daemon.env, ready=daemon.ready,
                stop_seconds=daemon.stop_timeout + KILL_MARGIN,
            )  # fmt: skip


def _no_daemons(*_: object) -> list[Daemon]:
    return []


def _processes(topology: Topology, host: str) -> Iterable[Child]:
    for spec in topology.processes.values():
        if spec.host == host:
            command = [sys.executable, "-m", "mesh", "run", spec.name, str(topology.path)]
            command += ["--data", str(topology.data_dir), "--watch-stdin"]
            yield Child(spec.name, command, ", ".join(spec.nodes), stop_seconds=topology.mesh.drain)


def _wait_for_predecessors(run_dir: Path) -> None:
    limit = now() + PREDECESSOR_SECONDS
    told = False
    while directories.still_running(run_dir):
        if not told:
            tell("waiting for processes of an earlier launcher, which was killed, to finish")
            told = True
        if now() > limit:
            raise MeshError(f"processes of an earlier launcher still run after {PREDECESSOR_SECONDS:.0f} s ({run_dir})")
        gevent.sleep(POLL_SECONDS)


def _summary(topology: Topology, host: str, seconds: float) -> None:
    here = [spec for spec in topology.processes.values() if spec.host == host]
    tell(f"ready after {seconds:.2f} s")
    for kind in dict.fromkeys(kind for spec in here for kind in spec.nodes):
        for line in topology.node_class(kind).banner(topology.settings(kind)):
            tell(f"  {line}")
    if topology.mesh.stats:
        tell(f"  statistics every second on {', '.join(spec.stats for spec in here)}")
    tell("  imesh status  shows processes, links and endpoints; Ctrl-C stops all")


def tell(line: str) -> None:
    """A line for the person at the terminal, on stderr."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
