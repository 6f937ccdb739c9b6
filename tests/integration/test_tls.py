"""TLS on its own port."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packs import table as t
from packs.codec import JSON
from tests.raw import Raw, code
from tests.system import System, running, topology_text

# On CI it must run: not running there would hide a failure.
MISSING = shutil.which("openssl") is None and not os.environ.get("CI")
pytestmark = pytest.mark.skipif(MISSING, reason="makes its certificate with openssl")


@pytest.fixture(scope="module")
def secured(certificate: Path) -> Iterator[System]:
    tables = {"node.broker": {"tls_listen": "127.0.0.1:0", "tls_certificate": str(certificate), "login_timeout": 2.0}}
    with running(topology_text(tables=tables)) as found, found.unharmed():
        yield found


@pytest.fixture(scope="module")
def trust(certificate: Path) -> ssl.SSLContext:
    """A client's context that knows the certificate, and nothing else."""
    return ssl.create_default_context(cafile=str(certificate))


def test_a_chat_between_tls_and_tcp(secured: System, user: Callable[[], str], trust: ssl.SSLContext) -> None:
    alice, bob = user(), user()
    b = secured.client(bob)
    a = secured.connect("tls", tls=trust)  # within 2 s of its login
    assert a.sock.version() in ("TLSv1.2", "TLSv1.3")
    assert code(a.login(alice)) == 0
    assert code(a.text(bob, "hello")) == 0
    assert b.push(t.MSG_SINGLE_CHAT).content == "hello"
    b.text(alice, "hi")
    assert a.push(t.MSG_SINGLE_CHAT).content == "hi"
    a.request(t.LOGOUT)
    assert [pack.type for pack in a.rest()] == [t.LOGOUT]


def test_much_at_once_both_ways(secured: System, user: Callable[[], str], trust: ssl.SSLContext) -> None:
    alice, bob = user(), user()
    a, b = secured.connect("tls", tls=trust), secured.connect("tls", tls=trust, codec=JSON)
    a.login(alice)
    b.login(bob)
    contents = [f"{n} " + "x" * 60_000 for n in range(10)] + [str(n) for n in range(300)]
    for content in contents:
        a.send_any(t.MSG_SINGLE_CHAT, {"to": bob, "content": content})
        assert b.push(t.MSG_SINGLE_CHAT).content == content
    assert len(b.history(a.text(bob, "end").session_id)) > 0


def test_the_server_shows_its_certificate(secured: System) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        secured.connect("tls", tls=ssl.create_default_context())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions(secured: System, user: Callable[[], str], certificate: Path, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    context.minimum_version = context.maximum_version = version
    assert code(secured.connect("tls", tls=context).login(user())) == 0


def test_older_versions_are_refused(secured: System) -> None:
    # A ClientHello of TLS 1.1, written by hand: Python's own client refuses to offer it.
    suites, random = bytes.fromhex("c009c00a002f0035"), bytes(32)
    hello = b"\x03\x02" + random + b"\0" + len(suites).to_bytes(2, "big") + suites + b"\x01\0"
    handshake = b"\x01" + len(hello).to_bytes(3, "big") + hello
    raw = secured.connect("tls")
    raw.send_bytes(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
    assert leftovers(raw)[:1] in (b"", b"\x15")  # closed, with or without an alert


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x10\x95\x0a\x01\0\xa1p\xc4\0", b"\xff" * 100])
def test_plain_bytes_on_the_tls_port_close(secured: System, data: bytes) -> None:
    raw = secured.connect("tls")
    raw.send_bytes(data)
    assert leftovers(raw)[:1] in (b"", b"\x15")


def test_a_handshake_that_never_ends_is_cut(secured: System) -> None:
    silent, half = secured.connect("tls"), secured.connect("tls")
    half.send_bytes(b"\x16\x03\x01\x02\x00\x01")
    assert leftovers(silent) == leftovers(half) == b""


def test_tls_on_the_plain_port_closes(secured: System, trust: ssl.SSLContext) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        secured.connect("tcp", tls=trust)


def test_a_client_that_goes_away_in_the_middle(secured: System, user: Callable[[], str], trust: ssl.SSLContext) -> None:
    alice, bob = user(), user()
    gone, b = secured.connect("tls", tls=trust), secured.client(bob)
    gone.login(alice)
    gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    gone.close()  # a reset, without a word of TLS
    assert code(b.text(alice, "x")) == 0


def leftovers(raw: Raw) -> bytes:
    """What comes until the server closes."""
    found = b""
    while True:
        try:
            data: bytes = raw.sock.recv(4096)
        except ConnectionResetError:
            return found
        if not data:
            return found
        found += data
