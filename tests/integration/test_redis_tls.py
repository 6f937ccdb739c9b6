"""Redis over TLS, through a proxy of the test's own: not every build of Redis has TLS itself."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.server import StreamServer

from store import redis as engine
from store.address import parse_url
from store.client import wait_until_ready
from store.connect import connect
from store.errors import StoreUnavailable
from store.scripts import ALL
from tests.integration.test_tls import MISSING
from tests.redis_server import Server

pytestmark = pytest.mark.skipif(MISSING, reason="makes its certificate with openssl")


@pytest.fixture
def port(server: Server, certificate: Path) -> Iterator[int]:
    """Where Redis is reached over TLS."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(client: socket.socket, _: object) -> None:
        with client, socket.socket(socket.AF_UNIX) as redis:
            redis.connect(server.address.path)
            gevent.joinall([gevent.spawn(copy, client, redis), gevent.spawn(copy, redis, client)])

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    proxy = StreamServer(("127.0.0.1", 0), serve, ssl_context=context)
    proxy.start()
    yield proxy.server_port
    proxy.stop(timeout=1)


def test_commands_and_large_values_pass(port: int, certificate: Path) -> None:
    client = connect(parse_url(f"rediss://localhost:{port}?ca={certificate}"), ALL)
    wait_until_ready(client, 20)
    blob = os.urandom(3_000_000)
    assert client.ask("SET", "k", blob) == b"OK"
    assert client.ask_all([("GET", "k")] * 3) == [blob] * 3
    client.close()


def test_a_server_that_nobody_vouches_for_is_not_talked_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "DEADLINE", 1.0)
    client = connect(parse_url(f"rediss://localhost:{port}"), ALL)
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        client.ask("PING")
    client.close()
