"""One process of the mesh: its nodes, its links, and its life from start to drain.

Life: build nodes and links -> `start` of each node -> wait for publishers -> serving -> (SIGTERM, or the launcher is
gone) -> draining: peers are told, nodes close their doors and finish -> links close -> exit.
Exit codes: 0 drained, 1 failed, 2 the topology cannot work.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import gevent
import gevent.event
import gevent.os
import msgspec

from mesh import slices
from mesh.balance import Instance
from mesh.calls import BUCKET, Calls
from mesh.contract import Proxy, methods_of
from mesh.control import CONTROL, ControlNode
from mesh.dispatch import Dispatcher
from mesh.errors import ConfigError
from mesh.fanout import BEACON_SECONDS, Fanout
from mesh.keys import load_keys
from mesh.link import Security, Sockets
from mesh.log import configure, get_log
from mesh.loop import Every, now, settle_gc
from mesh.node import Node, handlers_of
from mesh.peer import Peer
from mesh.server import Server
from mesh.stats import Stats
from mesh.topology import Topology
from mesh.watchdog import Watchdog
from mesh.wire import HELLO, VERSION, encode

T = TypeVar("T")

SETTLE_SECONDS = 3.0
"""How long a starting subscriber waits for publishers that do not answer."""
ORPHAN_SECONDS = 4.0
"""How long a process drains when its launcher is gone."""
STATS_SECONDS = 1.0


class Process:
    """The nodes of one process and what connects them to the others."""

    def __init__(self, topology: Topology, name: str) -> None:
        spec = topology.processes.get(name)
        if spec is None:
            raise ConfigError(f"no process {name!r} in {topology.path}; there are: {', '.join(topology.processes)}")
        self.topology = topology
        self.name = name
        self.spec = spec
        self.start_id = os.urandom(6).hex()
        self.started_at = time.time()
        self.state = "starting"
        self._started: list[Node] = []  # nodes that have
        self._served = False  # every node has begun to serve
        self.log = get_log("mesh")
        self.stats = Stats("process")
        self.nodes: dict[str, Node] = {}
        self.peers: dict[str, Peer] = {}
        self._timers: list[Every] = []
        self._shared: dict[Callable[[Process], Any], Any] = {}
        self._stopping = gevent.event.Event()
        self._drain_seconds = topology.mesh.drain
        self._exit_code = 0
        self._methods: dict[str, int] = {}
        self.sockets = Sockets(security_of(topology, spec.host))
        self.calls = Calls(self.stats)
        self.dispatcher = Dispatcher(self.log, self.calls)
        self._build()

    # ---- building

    def _build(self) -> None:
        topology = self.topology
        rpc_binds, pub_binds = topology.binds(self.name)
        publishing = any(topology.node_class(k).publishes for k in self.spec.nodes)
        self.fanout = Fanout(
            self.name, self.start_id, self.sockets, self.stats, self.log, binds=pub_binds if publishing else None,
            subscriber_processes=frozenset(self._processes_with("subscribes")),
        )  # fmt: skip
        self.server = Server(
            self.sockets, rpc_binds, self.dispatcher, self._hello, lambda: self.state, self._host_of, self.stats,
            self.log,
        )  # fmt: skip
        for kind in self.spec.nodes:
            self._add_node(kind, topology.node_class(kind)(self, kind, topology.settings(kind)))
        self._add_node(CONTROL, ControlNode(self, CONTROL, None))
        self._connect_publishers()
        self.watchdog = Watchdog(self.log)
        self.stats.gauge("hub_lag_seconds", self.watchdog.worst)
        self.stats.gauge("calls.unanswered", lambda: self.calls.unanswered)
        self.stats.gauge("rss_bytes", rss_bytes)
        self._stats_socket = self.sockets.stats([self.spec.stats_ipc, *([self.spec.stats] if self.spec.stats else [])])

    def _processes_with(self, flag: str) -> list[str]:
        topology = self.topology
        return [n for n, p in topology.processes.items() if any(getattr(topology.node_class(k), flag) for k in p.nodes)]

    def _add_node(self, kind: str, node: Node) -> None:
        self.nodes[kind] = node
        workers = node.pool
        node.stats.gauge("workers.busy", lambda: workers.busy)
        node.stats.gauge("workers.queued", lambda: workers.queued)
        implemented = handlers_of(type(node))
        for name, method in methods_of(type(node)).items():
            attribute, is_batch = implemented[name]
            self.dispatcher.add(kind, method, getattr(node, attribute), is_batch, workers, node.stats)
            self._methods[f"{kind}.{name}"] = method.fingerprint

    def proxy(self, contract_class: type, service: str, needed_by: str | None) -> Proxy | None:
        """A proxy for `service`. Where the topology has none: None, or `ConfigError` when `needed_by` a node."""
        if not self.topology.instances(service):
            if needed_by is None:
                return None
            raise ConfigError(f"node {needed_by!r} needs a node {service!r}, and {self.topology.path} has none")
        entry = self.calls.service(service)
        known = {instance.process for instance in entry.pool.instances}
        for process in self.topology.instances(service):
            if process not in known:
                target = self.dispatcher if process == self.name else self._peer(process)
                instance = Instance(process, target)
                entry.pool.instances.append(instance)
                entry.has_local |= target is self.dispatcher
                if process != self.name:
                    self.peers[process].instances.append(instance)
            if process != self.name:
                self.peers[process].expect(service, methods_of(contract_class))
        return Proxy(self.calls, service, contract_class)

    def _connect_publishers(self) -> None:
        topology = self.topology
        if any(node.subscribes for node in self.nodes.values()):
            publishers = [p for p in self._processes_with("publishes") if p != self.name]
            self.fanout.connect({p: (topology.pub_endpoint(self.name, p), self._key_of(p)) for p in publishers})

    def _peer(self, process: str) -> Peer:
        if process not in self.peers:
            endpoint = self.topology.rpc_endpoint(self.name, process)
            mesh = self.topology.mesh
            self.peers[process] = Peer(
                process, endpoint, self._key_of(process), self.sockets, self._hello(), (self.name, self.start_id),
                self.calls, self.log, mesh.lost_after,
            )  # fmt: skip
        return self.peers[process]

    def _key_of(self, process: str) -> bytes | None:
        host = self.topology.hosts[self.topology.processes[process].host]
        return host.public_key.encode() if self.topology.secure else None

    def _host_of(self, process: str) -> str | None:
        spec = self.topology.processes.get(process)
        return spec.host if spec is not None else None

    def _hello(self) -> bytes:
        return encode((HELLO, self.name, self.start_id, VERSION, self.state, self._methods))

    # ---- life

    def run(self, ready: Callable[[], None]) -> int:
        """Serve until `stop` is called; returns the exit code. `ready` is called once the process serves."""
        mesh = self.topology.mesh
        self._timers = [
            Every(mesh.heartbeat, self._beat),
            Every(BUCKET, self.calls.sweep),
            Every(BEACON_SECONDS, self.fanout.beacon),
            Every(STATS_SECONDS, self._publish_stats),
        ]
        begun: gevent.event.AsyncResult = gevent.event.AsyncResult()
        beginning = gevent.spawn(self._begin, ready, begun)
        gevent.wait([begun, self._stopping], count=1)
        if begun.ready():
            begun.get()
        else:
            beginning.kill()  # a node that waits for something must not keep the process from stopping
        self._stopping.wait()
        self._drain()
        return self._exit_code

    def _begin(self, ready: Callable[[], None], begun: gevent.event.AsyncResult) -> None:
        try:
            for node in self.nodes.values():
                node.start()
                self._started.append(node)
            self._settle()
            if not self._stopping.is_set():
                self._serve(ready)
        except Exception as error:
            begun.set_exception(error)
        else:
            begun.set(None)

    def _serve(self, ready: Callable[[], None]) -> None:
        self._set_state("serving")
        for node in self._started:
            node.serve()
        self._served = True
        settle_gc()
        if not all(node.background for node in self._started if node.kind != CONTROL):
            slices.shorten()
        self.watchdog.started()
        self.log.info("serving", nodes=",".join(self.spec.nodes), pid=os.getpid())
        ready()

    def _settle(self) -> None:
        limit = now() + SETTLE_SECONDS
        while not self.fanout.settled and now() < limit and not self._stopping.wait(0.005):
            pass

    def _set_state(self, state: str) -> None:
        self.state = state
        self.server.announce()
        for service in self.calls.services.values():
            for instance in service.pool.instances:
                if instance.target is self.dispatcher:
                    instance.up, instance.state = True, state
                    self.calls.available(instance)

    def stop(self, seconds: float | None = None, exit_code: int = 0) -> None:
        """Begin to drain, for at most `seconds`. Safe to call again and from signal handlers."""
        if seconds is not None:
            self._drain_seconds = min(self._drain_seconds, seconds)
        self._exit_code = self._exit_code or exit_code
        self._stopping.set()

    def _drain(self) -> None:
        started = now()
        self.log.info("draining", seconds=self._drain_seconds)
        self._set_state("draining")
        with gevent.Timeout(self._drain_seconds, False):
            gevent.joinall([gevent.spawn(node.drain) for node in self._started])
            # Peers hear of the drain with `announce`; what they sent before may still arrive.
            quiet_until = now() + 2 * self.topology.mesh.heartbeat
            while now() < quiet_until or self.calls.unanswered or not self.dispatcher.idle:
                gevent.sleep(0.02)
                self.calls.give_up()
        for node in self._started:
            node.stop()
        self.close()
        self.log.info("stopped", seconds=round(now() - started, 2))

    def close(self) -> None:
        """Close what is shared, all sockets and timers."""
        for shared in self._shared.values():
            shared.close()
        for timer in self._timers:
            timer.stop()
        self.watchdog.stop()
        self.server.close()
        self.sockets.close()

    def shared(self, make: Callable[[Process], T]) -> T:
        """What nodes of this process share, for example a store: made at the first call, closed at the end."""
        if make not in self._shared:
            self._shared[make] = make(self)
        return cast(T, self._shared[make])

    def spawn(self, kind: str, function: Callable[..., Any], *args: Any) -> gevent.Greenlet:
        """A supervised greenlet: if it raises, the process logs the stack, drains and ends with exit code 1."""

        def died(greenlet: gevent.Greenlet) -> None:
            self.log.error("a greenlet died", node=kind, what=function.__qualname__, exc_info=greenlet.exception)
            self.stop(exit_code=1)

        greenlet = gevent.spawn(function, *args)
        greenlet.link_exception(died)
        return greenlet

    # ---- timers

    def _beat(self) -> None:
        for peer in self.peers.values():
            peer.beat()

    def _publish_stats(self) -> None:
        head = {"process": self.name, "host": self.spec.host, "time": round(time.time(), 3)}
        for stats in [self.stats, *(n.stats for n in self.nodes.values() if n.kind != CONTROL)]:
            body = msgspec.json.encode({**head, "node": stats.node, **stats.dump()})
            self._stats_socket.send(f"stats.{stats.node}".encode(), body)

    def describe(self) -> dict[str, Any]:
        """What `status` shows of this process."""
        return {
            "process": self.name,
            "host": self.spec.host,
            "pid": os.getpid(),
            "state": self.state if self._served or self.state != "serving" else "starting",
            "uptime_seconds": round(time.time() - self.started_at, 1),
            "rss_bytes": rss_bytes(),
            "stats": self._stats_socket.endpoint if self.spec.stats else "",
            "nodes": {k: n.describe() if n in self._started else {} for k, n in self.nodes.items() if k != CONTROL},
            "links": {p.process: {"up": p.up, "endpoint": p.endpoint} for p in self.peers.values()},
            "presence_known": self.fanout.complete,
        }


def security_of(topology: Topology, host: str) -> Security | None:
    """CURVE keys of this host, or None for a mesh on one machine. Raises `ConfigError` when they are missing."""
    if not topology.secure:
        return None
    public, secret = load_keys(topology, host)
    return Security(public, secret, {h.public_key.encode(): name for name, h in topology.hosts.items()})


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _watch_stdin(process: Process) -> None:
    """The launcher holds the other end of stdin: its end of file means that the launcher is gone."""
    gevent.os.make_nonblocking(0)
    while gevent.os.nb_read(0, 4096):
        pass
    process.log.warning("the launcher is gone; draining")
    process.stop(seconds=ORPHAN_SECONDS)


def run(topology: Topology, name: str, *, watch_stdin: bool = False, ready_fd: int | None = None) -> int:
    """Run process `name` of the topology until SIGTERM or SIGINT. Returns the exit code."""
    import fcntl

    configure(name, topology.mesh.log_level)
    alive = os.open(topology.run_dir / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(alive, fcntl.LOCK_SH)  # the launcher and its guards see by it who still runs
    try:
        process = Process(topology, name)
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, process.stop)
    if watch_stdin:
        gevent.spawn(_watch_stdin, process)

    def ready() -> None:
        if ready_fd is not None:
            with contextlib.suppress(OSError):
                os.write(ready_fd, b"ready\n")
                os.close(ready_fd)

    try:
        return process.run(ready)
    except ConfigError as error:
        process.log.error("cannot start", error=error)
        process.close()
        return 2
