"""One logged-in connection of a client: connect, log in, packs in and out, signs of life."""

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
from packs.pack import Pack

CONNECT_SECONDS = 5.0
LOGIN_SECONDS = 6.0
SEND_SECONDS = 10.0
"""How long the server may take to read what is sent; then the connection is given up."""
RECV_BYTES = 65_536


class Connection:
    """Made by connecting and logging in. Raises `OSError`, `ConnectionLost` or `LoginRefused`."""

    def __init__(self, address: str, codec: Codec, tls: ssl.SSLContext | None, login: s.LoginReq) -> None:
        self.address = address
        self.heartbeat = 25.0
        self.logged_out = False
        self._machine = ClientConnection(codec)
        self._write_lock = threading.Lock()
        self._heard = self._spoke = time.monotonic()
        host, _, port = address.rpartition(":")
        sock = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._sock: Any = tls.wrap_socket(sock, server_hostname=host) if tls is not None else sock
            self._log_in(login)
        except BaseException:
            sock.close()
            raise
        self._sock.settimeout(SEND_SECONDS)
        self._tls = tls is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)

    def _log_in(self, login: s.LoginReq) -> None:
        self._sock.settimeout(LOGIN_SECONDS)
        self._sock.sendall(self._machine.request(t.LOGIN, login, str(uuid.uuid4())))
        while True:
            for pack in self._receive():
                if pack.type == t.LOGIN and pack.flags & ACK:
                    self._logged_in(decode_payload(s.LoginResp, pack.payload))
                    return

    def _logged_in(self, response: s.LoginResp) -> None:
        error = response.error_code
        if error.code:
            raise LoginRefused(error.code, error.desc, error.retry_after)
        try:
            self.heartbeat = float(json.loads(response.extra_data)["heartbeat"])
        except (ValueError, KeyError, TypeError):
            return  # an older server: keep the usual one

    def send(self, pack_type: int, payload: bytes, pack_id: str, flags: int) -> None:
        """Send a request; a broken connection shows at the next `receive`."""
        frame = self._machine.request(pack_type, payload, pack_id, flags)
        with self._write_lock:
            self._spoke = time.monotonic()
            try:
                self._sock.sendall(frame)
            except (OSError, ValueError):
                self._break()

    def _break(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is broken already

    def receive(self, seconds: float) -> list[Pack]:
        """Packs that come within `seconds`. Raises `ConnectionLost` or `OSError`."""
        if not (self._tls and self._sock.pending()) and not self._selector.select(seconds):
            return []
        try:
            return self._receive()
        except TimeoutError:
            return []  # of TLS: the rest of a record is still to come

    def _receive(self) -> list[Pack]:
        data = self._sock.recv(RECV_BYTES)
        if not data:
            raise ConnectionLost("closed by the server")
        self._heard = time.monotonic()
        try:
            packs = self._machine.receive(data)
        except (Violation, PayloadError) as error:
            raise ConnectionLost(f"the server sent rubbish: {error}") from None
        if any(pack.type == t.LOGOUT and pack.flags & ACK for pack in packs):
            self.logged_out = True
        return packs

    def keep_alive(self, now: float, heartbeat: float) -> None:
        """Ping when it is time; raise `ConnectionLost` when the server has been silent for two heartbeats."""
        if now - self._heard > 2 * heartbeat:
            raise ConnectionLost(f"no sign of life for {2 * heartbeat:.0f} s")
        if now - max(self._spoke, self._heard) > heartbeat or now - self._heard > heartbeat > now - self._spoke:
            self.send(t.PING, b"", str(uuid.uuid4()), 0)

    def log_out(self) -> None:
        """Say goodbye; the server answers and closes."""
        self.send(t.LOGOUT, b"", str(uuid.uuid4()), 0)

    def close(self) -> None:
        self._selector.close()
        self._sock.close()
