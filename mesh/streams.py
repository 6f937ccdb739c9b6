"""Many client connections on one loop: accept, read, collect writes, cut those that do not read. No greenlet each.

All sockets are in one epoll object of our own, whose FD is watched by one gevent watcher: 6 µs per message in and out
at one message per wake-up, 1 µs at eight, half a KiB per idle connection (`docs/performance.md`). What is written in
one loop turn leaves in one send per connection. Nothing ever waits for a slow reader: its buffer is bounded, and over
the bound it is cut.

A protocol derives from `Stream` and overrides `received` and `lost`.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from _socket import socket as RawSocket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey

from mesh.errors import ConfigError
from mesh.log import get_log
from mesh.loop import Every, Later, Tick, now
from mesh.pacing import PacedReader

_epoll = monkey.get_original("select", "epoll")
_log = get_log("streams")

EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP = 0x001, 0x004, 0x008, 0x010, 0x2000
READ = 1  # libev's event mask
RECV_BYTES = 65_536
"""Read from one connection per turn, so that a flood on one does not starve the others."""
EVENTS = 512
"""Events taken per turn."""
ACCEPTS = 64
"""Connections accepted per turn."""
BACKLOG = 1024
LEAVE_SECONDS = 1.0
"""How long the other side of a closed connection may take to read what was sent and close its own."""
PAUSE_SECONDS = 0.2
"""Pause of accepting when the process has no file descriptors left."""
RESERVED_FDS = 64
"""File descriptors kept for links, stores and files."""


class Stream:
    """One connection. Bytes in by `received`, bytes out by `write`; `lost(reason)` is called exactly once."""

    __slots__ = (
        "_events", "_finishing", "_out", "_out_size", "_queued", "_sock", "_tls", "fd", "heard", "peer", "streams",
    )  # fmt: skip

    def __init__(self, streams: Streams, sock: RawSocket, peer: str) -> None:
        self.streams = streams
        self.peer = peer  # address of the other side
        self.fd = sock.fileno()
        self.heard = streams.time  # when the last bytes came, `now()` clock to about a turn
        self._sock: RawSocket | None = sock
        self._tls: _Tls | None = None
        self._out: list[bytes] | None = None
        self._out_size = 0
        self._queued = False  # in the turn's list of streams with output
        self._events = EPOLLIN
        self._finishing = ""  # why it closes when all is sent

    # ---- for the protocol to override

    def received(self, data: bytes) -> None:
        """Bytes came. On the hub; must not block."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """The connection is over: "eof", "io_error", "slow_reader", or what `close` was given."""

    # ---- for the protocol to use

    @property
    def open(self) -> bool:
        return self._sock is not None

    def write(self, data: bytes) -> None:
        """Send at the end of this turn. Ignored after `close`."""
        if self._sock is None:
            return
        if self._out is None:
            self._out = [data]
        else:
            self._out.append(data)
        self._out_size += len(data)
        if not self._queued:
            self._queued = True
            self.streams.dirty.append(self)
            self.streams.tick.arm()

    def close(self, reason: str) -> None:
        """Send what can be sent at once, and close, in a way that lets the other side read it."""
        if self._sock is None:
            return
        if self._out:
            self._send()
        self._end(reason, gently=True)

    def finish(self, reason: str) -> None:
        """Read no more, send all that waits to be sent, then close as `close` does. Bounding it in time is the
        protocol's."""
        self._finishing = reason
        self.pause()
        if not self._queued and not self._events & EPOLLOUT:
            self.close(reason)

    def pause(self) -> None:
        """Read no more; what is queued is still sent."""
        self._watch(self._events & ~EPOLLIN)

    def resume(self) -> None:
        """Read again."""
        self._watch(self._events | EPOLLIN)

    # ---- inside

    def _readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        streams = self.streams
        try:
            size = sock.recv_into(streams.buffer)
        except BlockingIOError:
            return
        except OSError:
            self._end("io_error")
            return
        if not size:
            self._end("eof")
            return
        data = streams.view[:size].tobytes()
        self.heard = streams.time
        if self._tls is not None:
            self._tls_received(data)
        else:
            self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        try:
            self.received(data)
        except Exception as error:  # a bug of ours must cost this connection only
            _log.error("a connection failed", exc_info=error)
            self._end("internal")

    def _tls_received(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None
        try:
            plain = tls.received(data)
        except ssl.SSLError:
            self._end("io_error")
            return
        if tls.outgoing.pending and not self._queued:  # handshake or alert
            self._queued = True
            self.streams.dirty.append(self)
            self.streams.tick.arm()
        for chunk in plain:
            if self._sock is not None:
                self._hand_over(chunk)

    def _send(self) -> None:
        sock = self._sock
        self._queued = False
        if sock is None:
            return
        parts, self._out = self._out, None
        data = b"" if not parts else parts[0] if len(parts) == 1 else b"".join(parts)
        if self._tls is not None:
            data = self._tls.sending(data)
        if not data:
            self._sent_all()
            return
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end("io_error")
            return
        if sent == len(data):
            if self._events & EPOLLOUT:
                self._watch(self._events & ~EPOLLOUT)
            self._sent_all()
            return
        rest = data[sent:]
        if self._tls is not None:  # already encrypted: must not be encrypted again
            self._tls.unsent = rest
        else:
            self._out = [rest]
        self._out_size = len(rest)
        if self._out_size > self.streams.max_buffer:
            self.streams.slow_readers += 1
            self._end("slow_reader")
        elif not self._events & EPOLLOUT:
            self._watch(self._events | EPOLLOUT)

    def _sent_all(self) -> None:
        self._out_size = 0
        if self._finishing:
            self._end(self._finishing, gently=True)

    def _watch(self, events: int) -> None:
        if self._sock is not None and events != self._events:
            self._events = events
            self.streams.epoll.modify(self.fd, events)

    def _end(self, reason: str, gently: bool = False) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._out = None
        self._out_size = 0
        self.streams.remove(self)
        if gently:
            self.streams.let_go(sock)
        else:
            sock.close()
        try:
            self.lost(reason)
        except Exception as error:
            _log.error("closing a connection failed", exc_info=error)


class _Tls:
    """TLS of one connection, over memory buffers."""

    __slots__ = ("incoming", "object", "outgoing", "unsent")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.unsent = b""
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def received(self, data: bytes) -> list[bytes]:
        self.incoming.write(data)
        plain = []
        try:
            while True:
                chunk = self.object.read(RECV_BYTES)  # does the handshake first
                if not chunk:
                    break
                plain.append(chunk)
        except ssl.SSLWantReadError:
            pass
        return plain

    def sending(self, data: bytes) -> bytes:
        if data:
            self.object.write(data)
        encrypted, self.unsent = self.unsent + self.outgoing.read(), b""
        return encrypted


class Streams:
    """All client connections of a node."""

    def __init__(self, max_buffer: int, max_connections: int, interval: float = 0.0) -> None:
        """`interval`: see `PacedReader`."""
        self.epoll = _epoll()
        self.max_buffer = max_buffer  # bytes that may wait for one reader
        self.max_connections = min(max_connections, max(_fd_limit() - RESERVED_FDS, RESERVED_FDS))
        self.open: dict[int, Stream] = {}
        # One buffer for all reads: recv(65536) would allocate that much each time, which costs more than the read.
        self.buffer = bytearray(RECV_BYTES)
        self.view = memoryview(self.buffer)
        self.dirty: list[Stream] = []
        self.time = now()
        self.slow_readers = 0
        self.refused = 0  # connections refused because there were too many, or by the node
        self.tick = Tick(self._flush)
        self._reader = PacedReader(self.epoll.fileno(), self._read, EVENTS, interval)
        self._listeners: list[Listener] = []
        self._leaving: dict[int, tuple[RawSocket, float]] = {}  # closed on our side, not yet on the other
        self._timer = Every(LEAVE_SECONDS / 2, self._close_left)

    def listen(
        self, address: tuple[str, int], make: Callable[[Streams, RawSocket, str], Stream | None],
        tls: ssl.SSLContext | None = None,
    ) -> tuple[str, int]:  # fmt: skip
        """Accept connections on `address` (port 0: any); returns where. `make` may refuse one. Raises `ConfigError`."""
        listener = Listener(self, address, make, tls)
        self._listeners.append(listener)
        return listener.address

    def stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def add(self, stream: Stream, tls: ssl.SSLContext | None) -> None:
        if tls is not None:
            stream._tls = _Tls(tls)
        self.open[stream.fd] = stream
        self.epoll.register(stream.fd, EPOLLIN)

    def remove(self, stream: Stream) -> None:
        self.open.pop(stream.fd, None)
        try:
            self.epoll.unregister(stream.fd)
        except OSError:
            return  # the descriptor is gone already, and its registration with it

    def let_go(self, sock: RawSocket) -> None:
        """Close a socket once the other side has closed, or after a moment. Closing it at once, with unread bytes in
        it, would reset the connection and take away from the other side what it has not read yet."""
        try:
            sock.shutdown(socket.SHUT_WR)
            self.epoll.register(sock.fileno(), EPOLLIN)
        except OSError:
            sock.close()
            return
        self._leaving[sock.fileno()] = (sock, now() + LEAVE_SECONDS)

    @property
    def leaving(self) -> int:
        """Connections that are closed on our side and wait for the other, for a moment."""
        return len(self._leaving)

    def _read_away(self, fd: int) -> None:
        """A connection that is closed on our side: what comes is of no interest, its end is."""
        sock, _ = self._leaving[fd]
        try:
            if sock.recv_into(self.buffer):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset: as good as closed
        del self._leaving[fd]
        sock.close()

    def _close_left(self) -> None:
        time = now()
        for fd, (sock, until) in list(self._leaving.items()):
            if time >= until:
                del self._leaving[fd]
                sock.close()

    def close(self) -> None:
        self.stop_listening()
        self._reader.close()
        self._timer.stop()
        for stream in list(self.open.values()):
            stream.close("draining")
        for sock, _ in self._leaving.values():
            sock.close()
        self.epoll.close()

    def _read(self, most: int) -> int:
        self.time = now()
        streams = self.open
        found = self.epoll.poll(0, most)
        for fd, events in found:
            stream = streams.get(fd)
            if stream is None:
                if fd in self._leaving:
                    self._read_away(fd)
                continue
            if events & EPOLLOUT:
                stream._send()
            if events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP):
                stream._readable()
        return len(found)

    def _flush(self) -> None:
        dirty, self.dirty = self.dirty, []
        for stream in dirty:
            if stream._queued:
                if stream._events & EPOLLOUT:
                    stream._queued = False  # the kernel is full; EPOLLOUT sends it, unless it is too much already
                    if stream._out_size > self.max_buffer:
                        self.slow_readers += 1
                        stream._end("slow_reader")
                else:
                    stream._send()


class Listener:
    """One listening socket. `SO_REUSEPORT`: several processes of a host may share a port."""

    def __init__(
        self, streams: Streams, address: tuple[str, int], make: Callable[[Streams, RawSocket, str], Stream | None],
        tls: ssl.SSLContext | None,
    ) -> None:  # fmt: skip
        self._streams = streams
        self._make = make
        self._tls = tls
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock: Any = RawSocket(family, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._sock.bind((host, port))
            self._sock.listen(BACKLOG)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from None
        self._sock.setblocking(False)
        self.address: tuple[str, int] = self._sock.getsockname()[:2]
        self._watcher = gevent.get_hub().loop.io(self._sock.fileno(), READ)
        self._watcher.start(self._accept)

    def _accept(self) -> None:
        streams = self._streams
        streams.time = now()
        for _ in range(ACCEPTS):
            try:
                fd, peer = self._sock._accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    _log.limited("emfile", 10, "cannot accept", error=os.strerror(error.errno))
                    self._watcher.stop()
                    Later(PAUSE_SECONDS, self._resume)
                    return
                continue  # the client gave up meanwhile
            sock = RawSocket(fileno=fd)
            if len(streams.open) >= streams.max_connections:
                streams.refused += 1
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = self._make(streams, sock, peer[0])
            if stream is None:
                streams.refused += 1
                sock.close()
            else:
                streams.add(stream, self._tls)

    def _resume(self) -> None:
        if self._sock is not None:
            self._watcher.start(self._accept)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        self._sock.close()
        self._sock = None


def _fd_limit() -> int:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000
