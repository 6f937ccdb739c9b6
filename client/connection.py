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
import zlib
from dataclasses import dataclass

from client.dial import STEP_SECONDS, dial, wait
from client.errors import ConnectionLost, LoginRefused
from packs import structs as s
from packs import table as t
from packs.codec import MSGPACK, Codec, decode_payload, inflate
from packs.connection import ClientConnection, Violation
from packs.errors import PayloadError
from packs.flags import ACK, COMPRESS_ZLIB
from packs.frames import MAX_FRAME
from packs.pack import Pack

CONNECT_SECONDS = 5.0
LOGIN_SECONDS = 6.0
SEND_SECONDS = 10.0
"""How long the server may take to read what is sent; then the connection is given up."""
GOODBYE_SECONDS = 0.6
"""How long the server may take to answer LOGOUT."""
HEARTBEAT_SECONDS = 25.0
"""Between pings, when the server does not say."""
RECV_BYTES = 65_536
INFLATED_MAX = 16 << 20
"""Bytes of a payload that the server compressed."""
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class How:
    """How to connect: what stays the same from connection to connection."""

    codec: Codec
    tls: ssl.SSLContext | None
    login: s.LoginReq
    compress: int = 0
    """Payloads of at least so many bytes are compressed, 0 for none. With msgpack only."""


class Connection:
    """Made by connecting and logging in. Raises `OSError`, `ConnectionLost` or `LoginRefused`.

    `heartbeat` in seconds and `max_frame` in bytes are as the server says. `closing` set means that the program wants
    to end: then nothing waits any more, except for the answer to LOGOUT.
    """

    def __init__(self, address: str, how: How, closing: threading.Event) -> None:
        self.address = address
        self.heartbeat = HEARTBEAT_SECONDS
        self.max_frame = MAX_FRAME
        self._compress = how.compress if how.codec is MSGPACK else 0
        self._closing = closing
        self._machine = ClientConnection(how.codec)
        self._write_lock = threading.Lock()  # of whole frames
        self._tls_lock = threading.Lock()  # of single operations: a TLS session is not for two threads at once
        self._tls = how.tls is not None
        self._heard = self._pinged = time.monotonic()
        self._leave_by: float | None = None  # set by `log_out`
        self._logged_out = False
        self._early: list[Pack] = []  # came together with the answer to LOGIN
        self._sock = dial(address, how.tls, CONNECT_SECONDS, closing)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)
        try:
            self._log_in(how.login)
        except BaseException:
            self.close()
            raise

    def _log_in(self, login: s.LoginReq) -> None:
        limit = time.monotonic() + LOGIN_SECONDS
        self._send_all(self._machine.request(t.LOGIN, login, str(uuid.uuid4())))
        while True:
            packs = self.receive(STEP_SECONDS)
            for i, pack in enumerate(packs):
                if pack.type == t.LOGIN and pack.flags & ACK:
                    self._logged_in(pack.payload)
                    self._early = packs[i + 1 :]
                    return
            if self._closing.is_set():
                raise ConnectionLost("the client is closed")
            if time.monotonic() > limit:
                raise TimeoutError("LOGIN is not answered")

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
        if self._compress and len(payload) >= self._compress:
            small = zlib.compress(payload)
            if len(small) < len(payload):
                payload, flags = small, flags | COMPRESS_ZLIB
        frame = self._machine.request(pack_type, payload, pack_id, flags)
        with self._write_lock:
            try:
                self._send_all(frame)
            except (OSError, ValueError, ConnectionLost):
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
                wait(self._sock, event, limit, self._closing)

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
            for pack in packs:
                pack.flags, pack.payload = inflate(pack.flags, pack.payload, INFLATED_MAX)
        except Violation as error:
            raise ConnectionLost(f"the server broke the protocol: {error}") from None
        except PayloadError as error:
            raise ConnectionLost(f"the server sent what cannot be inflated: {error}") from None
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
