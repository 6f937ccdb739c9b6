"""A connection to one Redis, up to its first commands: opened, over TLS or not, logged in, its database chosen."""

from __future__ import annotations

import contextlib
import socket
import ssl
from _socket import socket as RawSocket
from collections.abc import Sequence
from typing import Any

import hiredis
from gevent.socket import wait_read, wait_write

from store.address import Address, TlsFiles
from store.errors import StoreRefused

CONNECT_SECONDS = 2.0
"""Longest wait for a connection, and for each part of the answer to its first commands."""
RECV_BYTES = 262_144
RECORD_BYTES = 32_768
"""More than one record of TLS has."""
CHUNK = 65_536
"""Bytes encrypted at once."""

pack: Any = hiredis.pack_command
"""A command, as a tuple, to bytes."""


class Plain:
    """A connection as the hub needs it: what would wait raises `BlockingIOError`."""

    def __init__(self, sock: socket.socket) -> None:
        raw = RawSocket(fileno=sock.detach())
        raw.setblocking(False)
        self.send, self.recv_into, self.fileno, self.close = raw.send, raw.recv_into, raw.fileno, raw.close


class Encrypted:
    """The same over TLS."""

    def __init__(self, sock: socket.socket, files: TlsFiles, host: str) -> None:
        self._raw = Plain(sock)
        self.fileno, self.close = self._raw.fileno, self._raw.close
        context = ssl.create_default_context(cafile=files.ca or None)
        if files.cert:
            context.load_cert_chain(files.cert, files.key or None)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._received = bytearray(RECV_BYTES - RECORD_BYTES)  # so that all of it fits the buffer of whoever reads
        self._unsent = b""  # encrypted, not taken by the kernel yet
        self._owed = 0  # bytes of the caller that this is

    def handshake(self) -> None:
        """Agree on the keys. In a greenlet. Raises `OSError`."""
        while True:
            try:
                self._tls.do_handshake()
                self._flush_handshake()
                return
            except ssl.SSLWantReadError:
                self._flush_handshake()
                wait_read(self.fileno(), CONNECT_SECONDS)
                if not self._receive():
                    raise ConnectionResetError("closed during the handshake") from None

    def _flush_handshake(self) -> None:
        data = self._outgoing.read()
        while data:
            wait_write(self.fileno(), CONNECT_SECONDS)
            data = data[self._raw.send(data) :]

    def _receive(self) -> int:
        size = self._raw.recv_into(self._received)
        self._incoming.write(memoryview(self._received)[:size])
        return size

    def send(self, data: Any) -> int:
        """Take bytes from the start of `data`; after a `BlockingIOError` the same must be given again."""
        if not self._unsent:
            self._owed = self._tls.write(data[:CHUNK])
            self._unsent = self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._raw.send(self._unsent) :]
        return self._owed

    def recv_into(self, buffer: bytearray) -> int:
        """All that has come, so that nothing stays here unseen; 0 at the end."""
        if not self._receive():
            return 0
        tls: Any = self._tls
        view, filled = memoryview(buffer), 0
        try:
            while read := tls.read(len(buffer) - filled, view[filled:]):
                filled += read
        except ssl.SSLWantReadError:
            if not filled:
                raise BlockingIOError from None  # no whole record yet
        return filled


Connection = Plain | Encrypted


def connect(address: Address, commands: Sequence[Sequence[Any]]) -> tuple[Connection, list[Any]]:
    """A connection that is logged in, and the replies to its first commands. In a greenlet.

    Raises `OSError`, `hiredis.HiredisError`, and `StoreRefused` when a command was refused (loading, wrong password …).
    """
    first: list[Sequence[Any]] = []
    if address.password:
        first.append(("AUTH", *((address.username,) if address.username else ()), address.password))
    if address.db:
        first.append(("SELECT", address.db))
    with contextlib.ExitStack() as stack:
        sock = _open(address)
        stack.callback(sock.close)
        connection: Connection
        if address.tls is None:
            connection = Plain(sock)
            stack.callback(connection.close)
        else:
            connection = Encrypted(sock, address.tls, address.host)
            stack.callback(connection.close)
            connection.handshake()
        replies = _converse(connection, [*first, *commands])
        stack.pop_all()
        return connection, replies[len(first) :]


def query(address: Address, *commands: Sequence[Any]) -> list[Any]:
    """The replies to a few commands, on a connection of their own. Raises as `connect`."""
    connection, replies = connect(address, commands)
    connection.close()
    return replies


def _open(address: Address) -> socket.socket:
    if not address.path:
        opened = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(CONNECT_SECONDS)
        opened.connect(address.path)
    except OSError:
        opened.close()
        raise
    return opened


def _converse(connection: Connection, commands: Sequence[Sequence[Any]]) -> list[Any]:
    data = memoryview(b"".join(pack(tuple(command)) for command in commands))
    while data:
        try:
            data = data[connection.send(data) :]
        except BlockingIOError:
            wait_write(connection.fileno(), CONNECT_SECONDS)
    reader: Any = hiredis.Reader()
    buffer, replies = bytearray(RECV_BYTES), list[Any]()
    while len(replies) < len(commands):
        try:
            size = connection.recv_into(buffer)
        except BlockingIOError:
            wait_read(connection.fileno(), CONNECT_SECONDS)
            continue
        if not size:
            raise ConnectionResetError("closed during the greeting")
        reader.feed(buffer, 0, size)
        while (reply := reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise StoreRefused(str(reply))
            replies.append(reply)
    return replies
