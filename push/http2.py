"""An HTTP/2 client for many small requests on few connections, as APNs wants it: on h2, for gevent.

One greenlet reads and one writes each connection, so a slow answer holds up nothing else. Requests wait for a free
stream and for both flow-control windows; each has a deadline, after which its stream is reset. After GOAWAY no new
streams are opened; those that the server did not process are `Refused` (safe to send again), the others are waited for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import gevent
import gevent.lock
from gevent.event import AsyncResult, Event
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error

from mesh.loop import now
from push.http import Reply
from push.model import Outcome, VendorError

CONNECT_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
"""Pause after a connection that could not be made: quick reconnecting counts as an attack."""
PING_IDLE = 30.0
"""Seconds without a byte after which a connection must prove that it lives."""
READ_BYTES = 65_536
RECEIVE_WINDOW = 1 << 24

Headers = Sequence[tuple[str, str]]


class Refused(VendorError):
    """The server has not looked at the request: another connection may take it at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(Outcome.UNREACHABLE, reason)


class _Connection(H2Connection):
    """h2 ends everything at GOAWAY; the protocol lets the streams that the server works on come to their end."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]


class _Stream:
    __slots__ = ("body", "data", "done", "headers", "rest", "status")

    def __init__(self, body: bytes) -> None:
        self.rest = body  # what the windows have not let through yet
        self.done: AsyncResult = AsyncResult()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.data = b""


class Connection:
    """One connection. `open` until the server or the network ends it."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        """Connects. Raises `OSError`."""
        raw = socket.create_connection((host, port), CONNECT_SECONDS)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock = context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise
        if self._sock.selected_alpn_protocol() != "h2":
            self._sock.close()
            raise OSError("the server speaks no HTTP/2")
        self._sock.settimeout(None)
        self.open = True
        self._h2 = _Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False,
                                               normalize_outbound_headers=False))  # fmt: skip
        self._streams: dict[int, _Stream] = {}
        self._settled = Event()  # the server has said how many streams it takes
        self._freed = Event()
        self._unsent = Event()
        self._heard = now()
        self._pinged = 0.0
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(RECEIVE_WINDOW)
        self._unsent.set()
        self._greenlets = [gevent.spawn(self._read), gevent.spawn(self._write)]

    # ---- requests

    @property
    def load(self) -> int:
        return len(self._streams)

    @property
    def pinged(self) -> bool:
        """Whether the answer to a ping is still to come."""
        return self._pinged > 0

    def request(self, headers: Headers, body: bytes, seconds: float) -> Reply:
        """One request, in a greenlet. Raises `VendorError`: LOST, or `Refused` when it was not processed."""
        deadline = now() + seconds
        number, stream = self._start(headers, body, deadline)
        try:
            reply = stream.done.get(timeout=max(0.0, deadline - now()))
        except gevent.Timeout:
            raise VendorError(Outcome.LOST, "timeout") from None
        finally:
            if self._streams.pop(number, None) is not None and not stream.done.ready():
                self._reset(number)
            self._freed.set()
        return reply  # type: ignore[no-any-return]

    def _start(self, headers: Headers, body: bytes, deadline: float) -> tuple[int, _Stream]:
        if not self._settled.wait(max(0.0, deadline - now())):
            raise Refused("no settings came")
        while self.open and self.load >= self._h2.remote_settings.max_concurrent_streams:
            self._freed.clear()
            if not self._freed.wait(max(0.0, deadline - now())):
                raise Refused("no free stream")
        if not self.open:
            raise Refused("the connection ended")
        stream = _Stream(body)
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, headers)
        except H2Error as error:
            self._end(f"h2: {type(error).__name__}")
            raise Refused("the connection ended") from None
        self._streams[number] = stream
        self._send_body(number, stream)
        self._unsent.set()
        return number, stream

    def _send_body(self, number: int, stream: _Stream) -> None:
        """As much of it as the windows let through."""
        while stream.rest:
            most = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size, len(stream.rest))
            if most <= 0:
                return
            part, stream.rest = stream.rest[:most], stream.rest[most:]
            self._h2.send_data(number, part, end_stream=not stream.rest)

    def _reset(self, number: int) -> None:
        if self.open:
            with contextlib.suppress(H2Error):
                self._h2.reset_stream(number, ErrorCodes.CANCEL)
            self._unsent.set()

    # ---- the socket

    def _write(self) -> None:
        try:
            while True:
                self._unsent.wait()
                self._unsent.clear()
                while data := self._h2.data_to_send():
                    self._sock.sendall(data)
        except OSError:
            self._end("the connection broke")

    def _read(self) -> None:
        reason = "the connection broke"
        try:
            while data := self._sock.recv(READ_BYTES):
                self._heard = now()
                for event in self._h2.receive_data(data):
                    self._came(event)
                self._unsent.set()
                if not self.open and not self._streams:
                    break
        except OSError:
            pass
        except H2Error as error:
            reason = f"h2: {type(error).__name__}"
        self._end(reason)
        self.close()

    def _came(self, event: Any) -> None:
        if isinstance(event, ResponseReceived):
            if (stream := self._streams.get(event.stream_id)) is not None:
                stream.headers = {str(k): str(v) for k, v in event.headers}
                stream.status = int(stream.headers.get(":status", 0))
        elif isinstance(event, StreamEnded):
            if (stream := self._streams.pop(event.stream_id, None)) is not None:
                stream.done.set(Reply(stream.status, stream.headers, stream.data))
                self._freed.set()
        elif isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if (stream := self._streams.get(event.stream_id)) is not None:
                stream.data += event.data
        elif isinstance(event, StreamReset):
            if (stream := self._streams.pop(event.stream_id, None)) is not None:
                refused = event.error_code == ErrorCodes.REFUSED_STREAM
                stream.done.set_exception(Refused("refused") if refused else VendorError(Outcome.LOST, "reset"))
                self._freed.set()
        elif isinstance(event, WindowUpdated):
            for number, stream in list(self._streams.items()):
                if stream.rest:
                    self._send_body(number, stream)
        elif isinstance(event, RemoteSettingsChanged):
            self._settled.set()
            self._freed.set()
        elif isinstance(event, PingAckReceived):
            self._pinged = 0.0
        elif isinstance(event, ConnectionTerminated):
            self._going_away(event.last_stream_id or 0, event.additional_data or b"")

    def _going_away(self, last: int, data: bytes) -> None:
        self.open = False
        reason = data.decode("ascii", "replace")[:80] or "GOAWAY"
        for number in [n for n in self._streams if n > last]:
            self._streams.pop(number).done.set_exception(Refused(reason))
        self._freed.set()

    def look(self) -> None:
        """Ping an idle connection, and end one that does not answer."""
        if self.open and self._pinged and now() - self._pinged > CONNECT_SECONDS:
            self._end("no answer to PING")
            self.close()
        elif self.open and not self._pinged and now() - self._heard > PING_IDLE:
            self._pinged = now()
            self._h2.ping(b"imesh\0\0\0")
            self._unsent.set()

    def _end(self, reason: str) -> None:
        self.open = False
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.done.set_exception(VendorError(Outcome.LOST, reason))
        self._settled.set()
        self._freed.set()

    def close(self) -> None:
        """End it at once."""
        self._end("closed")
        with contextlib.suppress(OSError):
            self._sock.close()
        gevent.killall([g for g in self._greenlets if g is not gevent.getcurrent()], block=False)


class Http2:
    """A few connections to one host, made when they are needed."""

    def __init__(self, host: str, port: int, *, ca_file: str, connections: int, seconds: float) -> None:
        self.host = host
        self._port = port
        self._seconds = seconds
        self._context = ssl.create_default_context(cafile=ca_file or None)
        self._context.set_alpn_protocols(["h2"])
        self._slots: list[Connection | None] = [None] * connections
        self._connecting = [gevent.lock.RLock() for _ in range(connections)]
        self._failed = [0.0] * connections  # until when a slot is not tried again
        self._next = 0

    def post(self, headers: Headers, body: bytes) -> Reply:
        """One request. What the server has not looked at goes to another connection, within the deadline. Raises
        `VendorError`."""
        deadline = now() + self._seconds
        while True:
            try:
                return self._connection().request(headers, body, max(0.01, deadline - now()))
            except Refused:
                if now() + 0.05 > deadline:
                    raise
                gevent.sleep(0)

    def _connection(self) -> Connection:
        self._next = (self._next + 1) % len(self._slots)
        at = self._next
        held = self._slots[at]
        if held is not None and held.open:
            return held
        with self._connecting[at]:
            held = self._slots[at]
            if held is not None and held.open:
                return held
            if now() < self._failed[at]:
                raise VendorError(Outcome.UNREACHABLE, "connecting failed a moment ago")
            try:
                with gevent.Timeout(CONNECT_SECONDS):
                    made = self._slots[at] = Connection(self.host, self._port, self._context)
            except (OSError, gevent.Timeout) as error:
                self._failed[at] = now() + RECONNECT_SECONDS
                raise VendorError(Outcome.UNREACHABLE, type(error).__name__) from None
            return made

    @property
    def connected(self) -> int:
        """Connections that are open."""
        return sum(held is not None and held.open for held in self._slots)

    @property
    def pings(self) -> int:
        """Connections whose answer to a ping is still to come."""
        return sum(held is not None and held.open and held.pinged for held in self._slots)

    def look(self) -> None:
        """Once in a while: ping what is idle."""
        for held in self._slots:
            if held is not None:
                held.look()

    def close(self) -> None:
        for held in self._slots:
            if held is not None:
                held.close()
