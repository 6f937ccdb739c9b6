"""The one file that touches ZeroMQ: sockets read at hub level, security, and nothing else.

Every socket is plain `zmq` (never `zmq.green`: 13 times the CPU) with one io watcher on its FD. The FD is edge-
triggered for the socket's mailbox, not for messages: it is drained with NOBLOCK until EAGAIN, and drained again after
every send, because a send may swallow the signal (without that, 20 of 20 quiet replies stuck). Sends never block.
One frame per message; the ROUTER adds the peer's identity. All options are set before bind or connect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import gevent
import zmq
from zmq.utils.monitor import parse_monitor_message

from mesh.errors import ConfigError
from mesh.log import get_log
from mesh.loop import now
from mesh.wire import MAX_MESSAGE

NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.SNDMORE | zmq.NOBLOCK)
"""Plain ints: pyzmq's enums cost 1 µs each time they are joined or handed on."""
READ = 1  # libev's event mask

DRAIN_SECONDS = 0.01
"""How long one socket is read before timers and other sockets get their turn; a message may hold a thousand calls."""
LINK_HWM = 10_000
"""Packed messages queued towards one peer; a peer that lets it fill up is treated as dead."""
PUBLISH_HWM = 100_000
"""Publications queued towards one subscriber."""
HANDSHAKE_MS = 5000
RECONNECT_MS = 20
RECONNECT_MAX_MS = 500
IDENTITY_PREFIX = b"im:"
"""Begins the routing identity of every process; the rest is its name and a number fresh at each start."""
ZAP_DOMAIN = b"imesh"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"

_log = get_log("link")

S = TypeVar("S", bound="Watched | StatsSocket")

Refused = zmq.ZMQError
"""Raised by sends that did not happen: the peer is unknown, gone, or does not read."""


def curve_keypair() -> tuple[bytes, bytes]:
    """A new CURVE key pair (public, secret), each 40 characters of Z85."""
    return zmq.curve_keypair()


def curve_public(secret: bytes) -> bytes:
    """The public key that belongs to a secret one. Raises `ValueError` when it is no key."""
    try:
        return zmq.curve_public(secret)
    except (zmq.ZMQError, ValueError) as error:
        raise ValueError("not a CURVE secret key (40 characters of Z85)") from error


class Security(NamedTuple):
    """CURVE for every socket of a process; None instead of it means ipc in a private directory."""

    public: bytes
    secret: bytes
    host_keys: dict[bytes, str]  # public key -> host name: who may connect


class Sockets:
    """The ZeroMQ context of this process and all its sockets."""

    def __init__(self, security: Security | None = None) -> None:
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 4096)
        if sys.platform == "linux":
            # Its thread moves bytes and should not cut in on a turn that makes more of them: where both share a core,
            # a message costs a tenth less. It must be set before the first socket.
            self._context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
        self.security = security
        self._open: list[Watched | StatsSocket] = []
        self._zap: _Zap | None = None
        if security is not None:
            self._zap = _Zap(self._make(zmq.ROUTER), security.host_keys)

    def _make(self, kind: int) -> Any:
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0), (zmq.MAXMSGSIZE, MAX_MESSAGE), (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
            (zmq.RECONNECT_IVL, RECONNECT_MS), (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS), (zmq.BACKLOG, 512),
        ):  # fmt: skip
            socket.set(option, value)
        return socket

    def _server(self, kind: int) -> Any:
        socket = self._make(kind)
        if self.security is not None:
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_SECRETKEY, self.security.secret)
            socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return socket

    def _client(self, kind: int, server_key: bytes | None) -> Any:
        socket = self._make(kind)
        if self.security is not None:
            if server_key is None:
                raise ConfigError("no public key for a peer of a secured mesh")
            socket.set(zmq.CURVE_SERVERKEY, server_key)
            socket.set(zmq.CURVE_PUBLICKEY, self.security.public)
            socket.set(zmq.CURVE_SECRETKEY, self.security.secret)
        return socket

    def router(self, binds: list[str], on_message: Callable[[bytes, bytes, str], None]) -> Router:
        """The ROUTER of this process. `on_message(peer identity, message, host)`; host is "" without CURVE."""
        socket = self._server(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.SNDHWM, LINK_HWM)
        socket.set(zmq.RCVHWM, LINK_HWM)
        bind(socket, binds)
        return self._keep(Router(socket, on_message, self.security is not None))

    def dealer(
        self, identity: bytes, on_message: Callable[[bytes], None], on_event: Callable[[bool], None]
    ) -> Dealer:
        """A DEALER for one peer. `on_event(connected)` tells of its transport."""
        return self._keep(Dealer(self, identity, on_message, on_event))

    def publisher(self, binds: list[str], on_subscription: Callable[[bytes, bool], None]) -> Publisher:
        """The XPUB of this process. `on_subscription(topic, subscribed)` for each subscriber that comes or goes."""
        socket = self._server(zmq.XPUB)
        socket.set(zmq.XPUB_VERBOSER, 1)  # every subscription and its end, so that holders can be counted
        socket.set(zmq.XPUB_NODROP, 1)
        socket.set(zmq.SNDHWM, PUBLISH_HWM)
        socket.set(zmq.RCVHWM, 0)
        bind(socket, binds)
        return self._keep(Publisher(socket, on_subscription))

    def subscriber(self, on_message: Callable[[bytes], None]) -> Subscriber:
        """The SUB socket of this process."""
        return Subscriber(self, on_message)

    def stats(self, binds: list[str]) -> StatsSocket:
        """A PUB socket for monitors. Plain on purpose (any language, five lines): bind it to loopback."""
        socket = self._make(zmq.PUB)
        socket.set(zmq.SNDHWM, 100)
        bind(socket, binds)
        return self._keep(StatsSocket(socket))

    def stats_reader(self, on_body: Callable[[bytes], None]) -> StatsReader:
        """A SUB socket for what such sockets publish."""
        socket = self._make(zmq.SUB)
        socket.set(zmq.RCVHWM, 1000)
        socket.set(zmq.SUBSCRIBE, b"stats.")
        return self._keep(StatsReader(socket, on_body))

    def _keep(self, socket: S) -> S:
        self._open.append(socket)
        return socket

    def close(self) -> None:
        """Close all sockets and the context; what was not sent is dropped."""
        for socket in self._open:
            socket.close()
        if self._zap is not None:
            self._zap.close()
        self._context.destroy(linger=0)


def bind(socket: Any, endpoints: list[str]) -> None:
    """Bind, with an error that names the endpoint."""
    for endpoint in endpoints:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise ConfigError(f"cannot listen on {endpoint}: {error}") from None


def _sender(socket: Any) -> Callable[[bytes, int], None]:
    """The send of pyzmq's compiled base class: the Python one on top of it costs half a µs and adds nothing here."""
    send: Callable[[bytes, int], None] = super(zmq.Socket, socket).send
    return send


def _receiver(socket: Any) -> Callable[[int], bytes]:
    """The same for receiving; most of what an EAGAIN costs goes as well."""
    recv: Callable[[int], bytes] = super(zmq.Socket, socket).recv
    return recv


class Watched:
    """A socket with a watcher on its FD, drained in bounded portions."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self._recv = _receiver(socket)
        self.closed = False
        loop = gevent.get_hub().loop
        self._watcher = loop.io(socket.getsockopt(zmq.FD), READ)
        self._watcher.start(self.drain)
        self._again = loop.timer(0.0)
        self.check()  # what arrived before the watcher

    def check(self) -> None:
        """To be called after a send, which may have swallowed the signal: take what is there once the loop has polled.

        Not at once: what is taken leads to more sends, and a loop that drains after each of them never gets to its
        timers (seen: 0.4 s without one, with 1000 callers).
        """
        if not self.closed:
            self._again.start(self.drain, update=False)

    def drain(self) -> None:
        """Take what is there. The FD tells of changes only, so this ends at EAGAIN or comes again."""
        recv = self._recv
        limit = now() + DRAIN_SECONDS
        while now() < limit:
            if self.closed:
                return
            try:
                frame = recv(NOBLOCK)
            except zmq.Again:
                return
            try:
                self.receive(frame)
            except Exception as error:  # must not end the drain: the FD would not fire again for what is left
                _log.error("a message could not be handled", exc_info=error)
        self.check()

    def receive(self, frame: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._watcher.stop()
            self._watcher.close()
            self._again.stop()
            self._again.close()
            self.socket.close(linger=0)


class Router(Watched):
    """Answers peers: each message received has an identity frame and one more."""

    def __init__(self, socket: Any, on_message: Callable[[bytes, bytes, str], None], named_hosts: bool) -> None:
        self._on_message = on_message
        self._named_hosts = named_hosts
        self._send = _sender(socket)
        super().__init__(socket)

    def receive(self, frame: bytes) -> None:
        recv = self._recv
        if not frame.startswith(IDENTITY_PREFIX):
            # A stray frame of a message with more than one. Asking for RCVMORE each time would cost 1.4 µs.
            while self.socket.getsockopt(zmq.RCVMORE):
                recv(NOBLOCK)
            return
        if not self._named_hosts:
            self._on_message(frame, recv(NOBLOCK), "")
        else:
            whole = self.socket.recv(NOBLOCK, copy=False)
            self._on_message(frame, whole.bytes, whole.get("User-Id"))

    def send(self, peer: bytes, message: bytes) -> None:
        """Raises `Refused` when the peer is gone or does not read. Check afterwards (`check`)."""
        self._send(peer, MORE)
        self._send(message, NOBLOCK)


class Dealer(Watched):
    """Calls one peer process."""

    def __init__(
        self, sockets: Sockets, identity: bytes, on_message: Callable[[bytes], None], on_event: Callable[[bool], None]
    ) -> None:
        self._sockets = sockets
        self._identity = identity
        self._on_message = on_message
        self._on_event = on_event
        self._monitor: _Monitor | None = None

    def connect(self, endpoint: str, server_key: bytes | None) -> None:
        socket = self._sockets._client(zmq.DEALER, server_key)
        socket.set(zmq.IDENTITY, self._identity)
        socket.set(zmq.IMMEDIATE, 1)
        socket.set(zmq.SNDHWM, LINK_HWM)
        socket.set(zmq.RCVHWM, LINK_HWM)
        self._monitor = _Monitor(socket, self._on_event)
        self._send = _sender(socket)
        socket.connect(endpoint)
        super().__init__(socket)

    def receive(self, frame: bytes) -> None:
        self._on_message(frame)

    def send(self, message: bytes) -> None:
        """Raises `Refused` when there is no connection or the peer does not read. Check afterwards."""
        self._send(message, NOBLOCK)

    def close(self) -> None:
        if self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.close()
            super().close()


class _Monitor(Watched):
    """Hears of a socket's transport: connected (handshake done) and disconnected."""

    def __init__(self, socket: Any, on_event: Callable[[bool], None]) -> None:
        self._on_event = on_event
        super().__init__(socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED))

    def receive(self, frame: bytes) -> None:
        event = parse_monitor_message([frame, self.socket.recv(NOBLOCK)])["event"]
        self._on_event(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)


class Publisher(Watched):
    """The XPUB: what it publishes goes to the subscribed; it hears of every subscription."""

    def __init__(self, socket: Any, on_subscription: Callable[[bytes, bool], None]) -> None:
        self._on_subscription = on_subscription
        self._send = _sender(socket)
        self.lossy = 0  # publications that some subscriber may have missed because its pipe was full
        super().__init__(socket)

    def receive(self, frame: bytes) -> None:
        if frame[:1] in (b"\x00", b"\x01"):
            self._on_subscription(frame[1:], frame[0] == 1)

    def send(self, frame: bytes) -> None:
        """Publish. With a full pipe nobody got it (NODROP), so it is sent again to all who can take it, and counted."""
        try:
            self._send(frame, NOBLOCK)
        except zmq.Again:
            self.lossy += 1
            self.socket.set(zmq.XPUB_NODROP, 0)
            try:
                self._send(frame, NOBLOCK)
            finally:
                self.socket.set(zmq.XPUB_NODROP, 1)


class _Sub(Watched):
    """The SUB socket."""

    def __init__(self, socket: Any, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        super().__init__(socket)

    def receive(self, frame: bytes) -> None:
        self._on_message(frame)


class Subscriber:
    """One SUB socket, connected to every publisher: a topic is subscribed at all of them."""

    def __init__(self, sockets: Sockets, on_message: Callable[[bytes], None]) -> None:
        self._sockets = sockets
        self._on_message = on_message
        self._socket: _Sub | None = None

    def connect(self, endpoint: str, server_key: bytes | None) -> None:
        """Connect to one more publisher. Its CURVE key holds for this connect only."""
        sockets = self._sockets
        if self._socket is None:
            socket = sockets._client(zmq.SUB, server_key)
            socket.set(zmq.SNDHWM, 0)  # else subscriptions beyond 1000 in flight are silently lost
            socket.set(zmq.RCVHWM, PUBLISH_HWM)
            self._socket = sockets._keep(_Sub(socket, self._on_message))
        elif sockets.security is not None:
            self._socket.socket.set(zmq.CURVE_SERVERKEY, server_key)
        self._socket.socket.connect(endpoint)

    def subscribe(self, topic: bytes) -> None:
        if self._socket is not None:
            self._socket.socket.set(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes) -> None:
        if self._socket is not None:
            self._socket.socket.set(zmq.UNSUBSCRIBE, topic)

    def check(self) -> None:
        """To be called after (un)subscribing: like a send, it may swallow the signal."""
        if self._socket is not None:
            self._socket.check()


class StatsSocket:
    """PUB for monitors: two frames, topic and JSON. Monitors that do not read lose statistics, nothing else."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.endpoint: str = socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    def send(self, topic: bytes, body: bytes) -> None:
        self.socket.send_multipart([topic, body], NOBLOCK)

    def close(self) -> None:
        self.socket.close(linger=0)


class StatsReader(Watched):
    """SUB for statistics; only the bodies are handed on: they name their node."""

    def __init__(self, socket: Any, on_body: Callable[[bytes], None]) -> None:
        self._on_body = on_body
        super().__init__(socket)

    def connect(self, endpoint: str) -> None:
        self.socket.connect(endpoint)

    def receive(self, frame: bytes) -> None:
        if not frame.startswith(b"stats."):
            self._on_body(frame)


class _Zap(Watched):
    """The ZAP handler: lets in the public keys of the topology's hosts and names the host; all others are refused."""

    def __init__(self, socket: Any, host_keys: dict[bytes, str]) -> None:
        from zmq.utils import z85

        self._hosts = {z85.decode(key): name.encode() for key, name in host_keys.items()}
        socket.bind(ZAP_ENDPOINT)
        super().__init__(socket)

    def receive(self, frame: bytes) -> None:
        parts = [frame]
        while self.socket.getsockopt(zmq.RCVMORE):
            parts.append(self.socket.recv(NOBLOCK))
        peer, empty, version, request, domain, _address, _identity, mechanism, *credentials = parts
        host = None
        if domain == ZAP_DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
            host = self._hosts.get(credentials[0])
        status, text = (b"200", b"OK") if host is not None else (b"400", b"unknown key")
        reply = [peer, empty, version, request, status, text, host or b"", b""]
        for part in reply[:-1]:
            self.socket.send(part, MORE)
        self.socket.send(reply[-1], NOBLOCK)
