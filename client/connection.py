"""One logged-in connection of a client: connect, log in, packs in and out, signs of life.

`receive` belongs to one thread; `send` may be called from any. The socket does not block, so that neither waits for
the other.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import threading
import time
import uuid
from typing import Any

from client.errors import ConnectionLost, LoginRefused
from packs import structs as s
from packs import table as t
from packs.codec import Codec, decode_payload
from packs.connection import ClientConnection, Violation
from packs.errors import PayloadError
from packs.flags import ACK
from packs.frames import MAX_FRAME
from packs.pack import Pack

CONNECT_SECONDS = 5.0
LOGIN_SECONDS = 6.0
SEND_SECONDS = 10.0
"""How long the server may take to read what is sent; then the connection is given up."""
GOODBYE_SECONDS = 1.0
"""How long the server may take to answer LOGOUT."""
HEARTBEAT_SECONDS = 25.0
"""Between pings, when the server does not say."""
RECV_BYTES = 65_536
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def parse_address(address: str) -> tuple[str, int]:
    """"host:port" or "[v6]:port" taken apart. Raises `ValueError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{address!r} is no HOST:PORT")
    return host.strip("[]"), int(port)


class Connection:
    """Made by connecting and logging in. Raises `OSError`, `ConnectionLost` or `LoginRefused`.

    `heartbeat` in seconds and `max_frame` in bytes are as the server says.
    """

    def __init__(self, address: str, codec: Codec, tls: ssl.SSLContext | None, login: s.LoginReq) -> None:
        self.address = address
        self.heartbeat = HEARTBEAT_SECONDS
        self.max_frame = MAX_FRAME
        self._machine = ClientConnection(codec)
        self._write_lock = threading.Lock()  # of whole frames
        self._tls_lock = threading.Lock()  # of single operations: a TLS session is not for two threads at once
        self._tls = tls is not None
        self._heard = self._pinged = time.monotonic()
        self._leave_by: float | None = None  # set by `log_out`
        self._logged_out = False
        self._early: list[Pack] = []  # came together with the answer to LOGIN
        host, port = parse_address(address)
        sock = socket.create_connection((host, port), CONNECT_SECONDS)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock: Any = tls.wrap_socket(sock, server_hostname=host) if tls is not None else sock
            self._log_in(login)
            self._sock.setblocking(False)
        except BaseException:
            getattr(self, "_sock", sock).close()
            raise
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)

    def _log_in(self, login: s.LoginReq) -> None:
        self._sock.settimeout(LOGIN_SECONDS)
        self._sock.sendall(self._machine.request(t.LOGIN, login, str(uuid.uuid4())))
        while True:
            packs = self._take(self._sock.recv(RECV_BYTES))
            for i, pack in enumerate(packs):
                if pack.type == t.LOGIN and pack.flags & ACK:
                    self._logged_in(pack.payload)
                    self._early = packs[i + 1 :]
                    return

    def _logged_in(self, payload: bytes) -> None:
        try:
            response = decode_payload(s.LoginResp, payload)
        except PayloadError as error:
            raise ConnectionLost(f"the answer to LOGIN cannot be read: {error}") from None
        error_code = response.error_code
        if error_code.code:
            raise LoginRefused(error_code.code, error_code.desc, error_code.retry_after)
        try:
            told = json.loads(response.extra_data)
            self.heartbeat = max(float(told["heartbeat"]), 0.1)
            self.max_frame = int(told["maxFrame"])
        except (ValueError, KeyError, TypeError):
            return  # another server: keep what is usual

    # ---- out

    def send(self, pack_type: int, payload: bytes, pack_id: str, flags: int) -> None:
        """Send a request; a broken connection shows at the next `receive`."""
        frame = self._machine.request(pack_type, payload, pack_id, flags)
        with self._write_lock:
            try:
                self._send_all(frame)
            except (OSError, ValueError):
                self._break()

    def _send_all(self, frame: bytes) -> None:
        rest = memoryview(frame)
        limit = time.monotonic() + SEND_SECONDS
        while rest:
            event, sent = selectors.EVENT_WRITE, 0
            try:
                with self._tls_lock:
                    sent = self._sock.send(rest)
            except ssl.SSLWantReadError:
                event = selectors.EVENT_READ
            except (BlockingIOError, ssl.SSLWantWriteError):
                event = selectors.EVENT_WRITE
            rest = rest[sent:]
            if not sent:
                self._wait(event, limit)

    def _wait(self, event: int, limit: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, event)
            if not selector.select(max(0.0, limit - time.monotonic())):
                raise TimeoutError("the server does not read")

    def _break(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is broken already

    # ---- in

    def receive(self, seconds: float) -> list[Pack]:
        """Packs that come within `seconds`. Raises `ConnectionLost` or `OSError`."""
        if self._early:
            early, self._early = self._early, []
            return early
        if not self._buffered() and not self._selector.select(seconds):
            return []
        try:
            with self._tls_lock:
                data = self._sock.recv(RECV_BYTES)
        except _BLOCKED:
            return []  # of TLS: the rest of a record is still to come
        return self._take(data)

    def _buffered(self) -> bool:
        if not self._tls:
            return False
        with self._tls_lock:
            return bool(self._sock.pending())

    def _take(self, data: bytes) -> list[Pack]:
        if not data:
            raise ConnectionLost("closed by the server")
        self._heard = time.monotonic()
        try:
            packs = self._machine.receive(data)
        except Violation as error:
            raise ConnectionLost(f"the server broke the protocol: {error}") from None
        if self._leave_by is not None and any(pack.type == t.LOGOUT and pack.flags & ACK for pack in packs):
            self._logged_out = True
        return packs

    # ---- life

    def keep_alive(self, now: float) -> None:
        """Ping when it is time; raise `ConnectionLost` when the server has been silent for two heartbeats."""
        if now - self._heard > 2 * self.heartbeat:
            raise ConnectionLost(f"no sign of life for {2 * self.heartbeat:g} s")
        if now - self._pinged >= self.heartbeat:
            self._pinged = now
            self.send(t.PING, b"", str(uuid.uuid4()), 0)

    def log_out(self) -> bool:
        """Say goodbye, once. True when that is over: the server has answered, or has had its time."""
        now = time.monotonic()
        if self._leave_by is None:
            self._leave_by = now + GOODBYE_SECONDS
            self.send(t.LOGOUT, b"", str(uuid.uuid4()), 0)
        return self._logged_out or now > self._leave_by

    def close(self) -> None:
        """Give the socket back. Nothing may be sent any more."""
        self._selector.close()
        self._sock.close()
