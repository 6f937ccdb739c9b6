"""What no client library sends: the server refuses it, in bounded time and memory, and serves everybody else."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from tests.system import System, running, topology_text
from tests.waiting import wait_until
from tests.web import Web, Wire

HOST = b"Host: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
LIMITS = {"head_timeout": 1.5, "body_timeout": 2.0, "idle_timeout": 60.0, "max_body": 100_000}
IDLE = 10_000
MALFORMED = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +1\r\n\r\na",
    "a length too large for 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "two transfer encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    "an unknown transfer encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "a blank before the colon": b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    "a bare line feed": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "a bare carriage return": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "a NUL": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two keys": b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    "an upgrade": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute target": b"GET http://y/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /healthz#x HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "noise": bytes(range(256)) * 4,
}


def sending(key: str) -> str:
    """The head of a message, without its length."""
    return f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running(topology_text(tables={"node.http": LIMITS})) as found, found.unharmed(growth=200 << 20):
        yield found


@pytest.fixture(scope="module")
def web(system: System) -> Web:
    return Web(system.http(), system.first_key)


@pytest.fixture
def wire(web: Web) -> Iterator[Wire]:
    found = web.connect()
    yield found
    found.close()


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_are_answered_400_and_end_the_connection(wire: Wire, what: str) -> None:
    wire.send(MALFORMED[what])
    reply = wire.reply()
    assert reply is not None and reply.status in (400, 501), reply
    assert reply.error in ("malformed_request", "not_implemented") and reply.headers["connection"] == "close"
    assert wire.is_closed()


def test_what_hides_behind_a_malformed_request_is_never_served(web: Web, wire: Wire) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    wire.send(b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n" + MALFORMED["length and chunks"] + hidden)
    statuses = [reply.status for reply in iter(wire.reply, None) if reply is not None]
    assert statuses == [200, 400]


def test_a_body_above_the_limit_is_refused_before_it_is_read(web: Web, wire: Wire) -> None:
    head = sending(web.key)
    wire.send(f"{head}Content-Length: 100000000000\r\n\r\n".encode())  # and not a byte of it
    reply = wire.reply()
    assert reply is not None and (reply.status, reply.error) == (413, "body_too_large")
    assert wire.is_closed()
    chunked = web.connect()
    chunked.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            chunked.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
    reply = chunked.reply()
    assert reply is None or reply.status == 413
    tiny = web.connect()  # chunks of one byte with long extensions
    tiny.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            tiny.send(b"1;" + b"x" * 4096 + b"\r\n \r\n")
    reply = tiny.reply()
    assert reply is None or reply.status == 413
    for each in (chunked, tiny):
        each.close()


def test_without_a_good_key_no_body_is_taken(web: Web, wire: Wire) -> None:
    wire.send(f"{sending('wrong')}Content-Length: 90000\r\n\r\n".encode())
    reply = wire.reply()
    assert reply is not None and reply.status == 401
    assert wire.is_closed()
    small = web.connect()  # a small one is read away, and the connection stays
    for _ in range(2):
        small.send(f"{sending('wrong')}Content-Length: 2\r\n\r\n{{}}".encode())
        reply = small.reply()
        assert reply is not None and reply.status == 401 and "connection" not in reply.headers
    small.close()


def test_heads_that_are_too_large(web: Web) -> None:
    for data in (
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: y\r\n" % n for n in range(100)) + b"\r\n",
        b"\r\n" * 20_000,
    ):
        wire = web.connect()
        with contextlib.suppress(ConnectionError):
            wire.send(data)
        reply = wire.reply()
        assert reply is None or reply.status == 431, reply
        wire.close()


def test_continue_is_said_only_when_the_body_is_wanted(web: Web, wire: Wire) -> None:
    head = sending(web.key)
    body = b'{"from": "a", "to": "b", "content": "x"}'
    wire.send(f"{head}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    reply = wire.reply()
    assert reply is not None and reply.status == 100
    wire.send(body)
    reply = wire.reply()
    assert reply is not None and reply.status == 201
    wire.send(f"{head.replace('Bearer imk', 'Bearer imX')}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode())
    reply = wire.reply()
    assert reply is not None and reply.status == 401
    assert wire.is_closed()


def test_pipelined_requests_are_answered_in_order(web: Web, wire: Wire) -> None:
    paths = [b"/healthz" if n % 2 else b"/x%d" % n for n in range(500)]
    requests = [b"GET %s HTTP/1.1\r\n" % path + HOST + b"\r\n" for path in paths]
    wire.send(b"".join(requests))
    statuses = []
    for _ in requests:
        reply = wire.reply()
        assert reply is not None
        statuses.append(reply.status)
    assert statuses == [404, 200] * 250
    wire.send(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n" + requests[1])
    reply = wire.reply()
    assert reply is not None and reply.headers["connection"] == "close"
    assert wire.is_closed()


def test_slow_requests_are_cut_and_others_are_served(web: Web) -> None:
    """Head byte by byte, body byte by byte, and silence: an absolute deadline each, not one that each byte renews."""
    started = time.monotonic()
    head = sending(web.key)
    slow = {name: web.connect() for name in ("head", "body", "silence")}
    slow["body"].send(f"{head}Content-Length: 1000\r\n\r\n".encode())
    open_ = set(slow)
    statuses = {}

    def drip() -> bool:
        for name in ("head", "body"):
            with contextlib.suppress(OSError):
                slow[name].send(b"G" if name == "head" and len(open_) == 3 else b"a")
        assert web.get("/healthz").status == 200
        for name in list(open_):
            slow[name].sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                reply = slow[name].reply()
                if reply is not None:
                    statuses[name] = reply.status
                open_.discard(name)
        return not open_

    slow["head"].send(b"GET /healthz HTTP/1.1\r\nX: ")
    wait_until(drip, "slow connections to be cut", 15)
    assert statuses == {"head": 408, "body": 408}
    assert time.monotonic() - started > LIMITS["head_timeout"]
    for each in slow.values():
        each.close()


def test_a_client_that_goes_away_in_the_middle_harms_nobody(web: Web) -> None:
    head = sending(web.key)
    for data in (b"GET", head.encode(), f"{head}Content-Length: 50000\r\n\r\n{{".encode()):
        wire = web.connect()
        wire.send(data)
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.close()
    body = b'{"from": "a", "to": "b", "content": "x"}'
    for _ in range(20):  # gone before the answer
        wire = web.connect()
        wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wire.close()
    assert web.get("/healthz").status == 200


def test_ten_thousand_idle_connections(web: Web, system: System) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 500:
        pytest.skip(f"the limit of file descriptors is {hard}: {IDLE} connections need more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections: list[socket.socket] = []
    try:
        for _ in range(IDLE):
            sock = socket.create_connection(web.address, 10)
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            connections.append(sock)
        assert connections[-1].recv(4096).startswith(b"HTTP/1.1 200")
        for n in range(20):
            reply = web.post("/v1/messages", {"from": "idle", "to": "idle2", "content": str(n)})
            assert reply.status == 201
        wait_until(lambda: _connections(web) >= IDLE, "all to be counted", 5)
        assert connections[0].recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for sock in connections:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connections(web: Web) -> int:
    lines = web.get("/metrics").body.decode().splitlines()
    counts = [line for line in lines if line.startswith("imesh_http_connections{")]
    return max(int(float(line.split()[-1])) for line in counts)
