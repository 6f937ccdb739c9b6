"""Connecting a socket, in steps short enough that whoever gives up is heard at once."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import threading
import time
from typing import Any

from client.errors import ConnectionLost

STEP_SECONDS = 0.1
"""How long anything waits without looking whether it was abandoned."""
_UNDER_WAY = frozenset((0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN))


def parse_address(address: str) -> tuple[str, int]:
    """"host:port" or "[v6]:port" taken apart. Raises `ValueError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{address!r} is no HOST:PORT")
    return host.strip("[]"), int(port)


def dial(address: str, tls: ssl.SSLContext | None, seconds: float, abandoned: threading.Event) -> Any:
    """A connected socket that does not block, within `seconds`. Raises `OSError` or `ConnectionLost`."""
    host, port = parse_address(address)
    limit = time.monotonic() + seconds
    failure: Exception = OSError(f"{host} has no address")
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            return _connect(sock, where, host, tls, limit, abandoned)
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure


def _connect(
    sock: socket.socket, where: Any, host: str, tls: ssl.SSLContext | None, limit: float, abandoned: threading.Event
) -> Any:
    sock.setblocking(False)
    outcome = sock.connect_ex(where)
    if outcome not in _UNDER_WAY:
        raise OSError(outcome, os.strerror(outcome))
    wait(sock, selectors.EVENT_WRITE, limit, abandoned)
    outcome = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if outcome:
        raise OSError(outcome, os.strerror(outcome))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    secure = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        _shake_hands(secure, limit, abandoned)
    except BaseException:
        secure.close()
        raise
    return secure


def _shake_hands(sock: ssl.SSLSocket, limit: float, abandoned: threading.Event) -> None:
    while True:
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            wait(sock, selectors.EVENT_READ, limit, abandoned)
        except ssl.SSLWantWriteError:
            wait(sock, selectors.EVENT_WRITE, limit, abandoned)


def wait(sock: Any, event: int, limit: float, abandoned: threading.Event) -> None:
    """Until the socket is ready. Raises `TimeoutError` after `limit`, `ConnectionLost` when abandoned."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        while True:
            left = limit - time.monotonic()
            if selector.select(max(0.0, min(left, STEP_SECONDS))):
                return
            if abandoned.is_set():
                raise ConnectionLost("the client is closed")
            if left <= 0:
                raise TimeoutError("timed out")
