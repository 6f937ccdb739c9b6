"""What every process answers about itself, and the commands that ask: `status`, `call`, `stacks`."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import gevent
import gevent.util
import msgspec

from mesh.balance import Instance
from mesh.calls import BUCKET, Calls
from mesh.contract import Method, call, contract, methods_of
from mesh.errors import BadCall, CallError, MeshError, Unreachable
from mesh.loop import Every, now, wait_for
from mesh.node import Node
from mesh.stats import Stats
from mesh.wire import HELLO, VERSION, encode

if TYPE_CHECKING:
    from mesh.topology import Topology

CONTROL = "_mesh"
"""Service name of what every process answers about itself."""
CONNECT_SECONDS = 2.0
"""How long a command waits for a process to answer HELLO."""
_clients = itertools.count(1)  # two of one name would take each other for the same one, started again


@contract
class Control(Protocol):
    """Asked of one process at a time. Texts are JSON."""

    @call(timeout=2.0, idempotent=True)
    def describe(self) -> str:
        """State, nodes, links and endpoints of the process."""
        ...

    @call(timeout=2.0, idempotent=True)
    def counters(self) -> str:
        """All counters, gauges and histograms."""
        ...

    @call(timeout=5.0, idempotent=True)
    def stacks(self) -> str:
        """Stacks of all greenlets and threads, as text."""
        ...

    @call(timeout=30.0)
    def invoke(self, method: str, arguments: str) -> str:
        """Call `service.method` of a node in this process with a JSON array of arguments; returns JSON."""
        ...


class ControlNode(Node, Control):
    """Answers for its process."""

    workers = 4

    def describe(self) -> str:  # type: ignore[override]
        return json.dumps(self.process.describe())

    def counters(self) -> str:
        nodes = self.process.nodes.values()
        return json.dumps([{"node": s.node, **s.dump()} for s in [self.process.stats, *(n.stats for n in nodes)]])

    def stacks(self) -> str:
        return "\n".join(gevent.util.format_run_info())

    def invoke(self, method: str, arguments: str) -> str:
        handler = self.process.dispatcher.handlers.get(method)
        if handler is None:
            raise BadCall(f"no method {method} in {self.process.name}")
        types = handler.method.types
        try:
            args = msgspec.json.decode(arguments, type=tuple[types] if types else tuple[()])  # type: ignore[valid-type]
        except msgspec.MsgspecError as error:
            raise BadCall(f"{method}{tuple(getattr(t, '__name__', t) for t in types)}: {error}") from None
        service = method.split(".")[0]
        if handler.batch:
            result = self.process.dispatcher.run_queued(handler, args)
        else:
            result = self.process.dispatcher.run_in_place(service, handler.method, args)
        return msgspec.json.encode(result).decode()


class Client:
    """A caller that is no node: asks processes of a running mesh about themselves."""

    def __init__(self, topology: Topology) -> None:
        from mesh.link import Sockets
        from mesh.log import get_log
        from mesh.process import security_of

        self._topology = topology
        self._host = local_host(topology)
        self._sockets = Sockets(security_of(topology, self._host))
        self._log = get_log("client", "error")  # the program's other logs are its own affair
        self._me = (f"client-{os.getpid()}-{next(_clients)}", os.urandom(6).hex())
        self._calls: dict[str, Calls] = {}  # of one process each: all have the same service name
        self._timers: list[Every] = []

    def ask(self, process: str, method: Callable[..., Any], *args: Any) -> Any:
        """Call a `Control` method of one process. Raises `CallError`; `Unreachable` when it does not run."""
        if process not in self._calls:
            self._calls[process] = self._connect(process)
        found: Method = methods_of(Control)[method.__name__]
        return wait_for(lambda done: self._calls[process].start(CONTROL, found, args, done))

    def _connect(self, process: str) -> Calls:
        from mesh.peer import Peer

        topology = self._topology
        calls = Calls(Stats("client"))
        self._timers.append(Every(BUCKET, calls.sweep))
        hello = encode((HELLO, self._me[0], self._me[1], VERSION, "serving", {}))
        key = topology.hosts[topology.processes[process].host].public_key.encode() if topology.secure else None
        endpoint = topology.rpc_endpoint(self._near(process), process)
        peer = Peer(process, endpoint, key, self._sockets, hello, self._me, calls, self._log, lost_after=60.0)
        instance = Instance(process, peer)
        peer.instances.append(instance)
        calls.service(CONTROL).pool.instances.append(instance)
        limit = now() + CONNECT_SECONDS
        while not peer.up and now() < limit:
            peer.beat()
            gevent.sleep(0.02)
        if not peer.up:
            raise Unreachable(f"{process} does not answer on {endpoint}")
        # A process that still starts or already drains answers questions about itself all the same.
        instance.state = "serving"
        return calls

    def _near(self, process: str) -> str:
        """Some process of this host, to reach `process` as it would."""
        for name, spec in self._topology.processes.items():
            if spec.host == self._host:
                return name
        return process

    def close(self) -> None:
        for timer in self._timers:
            timer.stop()
        self._sockets.close()


def local_host(topology: Topology) -> str:
    """The host of the topology that this machine is: the one whose secret key lies here, else the first."""
    if topology.secure:
        from mesh.keys import load_keys

        for name in topology.hosts:
            try:
                load_keys(topology, name)
            except MeshError:
                continue
            return name
    return next(iter(topology.hosts))


def _gather(topology: Topology, ask: Callable[[Client, str], Any]) -> dict[str, Any]:
    client = Client(topology)

    def one(process: str) -> Any:
        try:
            return ask(client, process)
        except CallError as error:
            return error

    try:
        asked = {process: gevent.spawn(one, process) for process in topology.processes}
        gevent.joinall(asked.values())
        return {process: greenlet.value for process, greenlet in asked.items()}
    finally:
        client.close()


def describe_all(topology: Topology) -> dict[str, dict[str, Any]]:
    """What each process says of itself, by name. Its `state` is "serving" when all is well; of one that does not answer
    there is nothing but the state "down"."""
    found = _gather(topology, lambda client, process: json.loads(client.ask(process, Control.describe)))
    return {process: d if isinstance(d, dict) else {"state": "down"} for process, d in found.items()}


def status(topology: Topology, as_json: bool) -> int:
    """Print processes, nodes, links and endpoints. 0 when all serve, else 1."""
    found = describe_all(topology)
    whole = all(d["state"] == "serving" for d in found.values())
    if as_json:
        print(json.dumps(found, indent=2))
        return 0 if whole else 1
    print(f"{'PROCESS':<12} {'STATE':<9} {'PID':>8} {'UP':>8} {'RSS':>8}  {'LINKS':<7} NODES")
    for process, d in found.items():
        if d["state"] == "down":
            print(f"{process:<12} {'down':<9}")
            continue
        links = d["links"].values()
        up = f"{sum(link['up'] for link in links)}/{len(links)}"
        head = f"{process:<12} {d['state']:<9} {d['pid']:>8} {d['uptime_seconds']:>7}s {d['rss_bytes'] >> 20:>5} MiB"
        print(f"{head}  {up:<7} {', '.join(d['nodes'])}")
        for kind, about in d["nodes"].items():
            for key, value in about.items():
                print(f"{'':<12}   {kind}.{key}: {value}")
        if d["stats"]:
            print(f"{'':<12}   stats: {d['stats']}")
        for peer, link in d["links"].items():
            if not link["up"]:
                print(f"{'':<12}   no link to {peer} ({link['endpoint']})")
    return 0 if whole else 1


class Caller:
    """Calls methods of the nodes of a running mesh, over the same connections."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._client = Client(topology)

    def call(self, method: str, args: list[Any]) -> Any:
        """Call `service.method` and return its result. Raises `MeshError`."""
        service = method.split(".")[0]
        processes = self._topology.instances(service)
        if not processes:
            raise BadCall(f"no node {service!r} in {self._topology.path}")
        return json.loads(self._client.ask(processes[0], Control.invoke, method, json.dumps(args)))

    def close(self) -> None:
        self._client.close()


def call_method(topology: Topology, method: str, args: list[Any], timeout: float) -> Any:
    """Call `service.method` in a running mesh and return its result. Raises `MeshError`."""
    caller = Caller(topology)
    try:
        with gevent.Timeout(timeout, BadCall(f"{method}: no answer in {timeout} s")):
            return caller.call(method, args)
    finally:
        caller.close()


def call_command(topology: Topology, method: str, args: list[Any], timeout: float) -> int:
    """`imesh call`: print the result as JSON. 0, or 1 with the error on stderr."""
    try:
        print(json.dumps(call_method(topology, method, args, timeout), indent=2, ensure_ascii=False))
    except MeshError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def stacks(topology: Topology, process: str) -> int:
    """`imesh stacks`: print the stacks of all greenlets of a running process. 0, or 1 when it does not answer."""
    client = Client(topology)
    try:
        print(client.ask(process, Control.stacks))
    except CallError as error:
        print(f"{process} does not answer: {error}", file=sys.stderr)
        return 1
    finally:
        client.close()
    return 0
