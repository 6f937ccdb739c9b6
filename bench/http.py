"""What a request costs the http node: a text over keep-alive, a batch of 1,000; beside a framework doing nothing.

Two callers' loads, window 1 on each of 32 connections: a text per request with and without an Idempotency-Key, /healthz
(the server and nothing behind it), and batches of 1,000 messages on one connection. The http node has a process of its
own here, so that its CPU can be told from the others'. The bare contestant is gevent's pywsgi answering a constant:
what a request costs before anybody does anything with it, without the deadlines and limits that ours has.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import CLIENT_CORES, SERVER_CORES, Figures, Mark, Report, Rounds, cpu_us, pin, progress, table
from bench.running import Mesh, make_parser, parse

CONNECTIONS = 32
BATCH = 1_000
MOST_US, LEAST_RATE, MOST_BATCH_US = 400.0, 2_000.0, 60.0
TOPOLOGY = """\
[mesh]
stats = "127.0.0.1:0"
[node.broker]
listen = "127.0.0.1:0"
[node.http]
listen = "127.0.0.1:0"
requests_per_second = 0.0
[process.edge]
nodes = ["broker", "user"]
[process.api]
nodes = ["http"]
[process.core]
nodes = ["chat", "group", "history", "msgop"]
"""
BARE = """
import socket
from gevent.pywsgi import WSGIHandler, WSGIServer
class Handler(WSGIHandler):  # which sends head and body apart: each would wait for an ack of the other
    def __init__(self, sock, *rest):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, *rest)
def app(environ, start):
    environ["wsgi.input"].read()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", "15")])
    return [b'{"status":"ok"}']
server = WSGIServer(("127.0.0.1", 0), app, log=None, handler_class=Handler)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> int:
    parser = make_parser("http", "What a request costs the http node.", rounds=3, seconds=4.0, quick=(1, 1.5))
    options = parse(parser)
    pin(os.getpid(), CLIENT_CORES)
    rounds = Rounds()
    for number in range(options.rounds):
        _round(rounds, options.seconds)
        _bare(rounds, options.seconds)
        progress(f"round {number + 1}/{options.rounds}  text: {rounds.text('a text', 'us')} µs")
    settings = {
        "rounds": f"{options.rounds} of {options.seconds:g} s each, a fresh system in each",
        "load": f"{CONNECTIONS} connections, one request at a time each; 64-byte texts; embedded Redis, fsync always",
    }
    report = Report("HTTP", settings, rounds=rounds.figures)
    rows = [
        [load, rounds.text(load, "us"), rounds.text(load, "all_us"), rounds.text(load, "rate", 0)]
        for load in rounds.figures
    ]
    report.tables = {"Requests": table(["load", "CPU µs, http process", "all of ours", "per second"], rows)}
    report.marks = [
        Mark.at_most("refused or wrong", rounds.total("wrong"), 0, ""),
        Mark.at_most("a text", rounds.of("a text", "us").median, MOST_US, "µs"),
        Mark.at_least("texts per second", rounds.of("a text", "rate").median, LEAST_RATE, ""),
        Mark.at_most("one of a batch", rounds.of("one of a batch", "us").median, MOST_BATCH_US, "µs"),
    ]
    return report.publish(options.json)


def _round(rounds: Rounds, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="imesh-bench-") as directory:
        path = Path(directory, "topology.toml")
        path.write_text(TOPOLOGY)
        with Mesh(path, {}) as mesh:
            key = re.findall(r"imk_\w+_[\w-]+", mesh.log)[0]
            host, _, port = mesh.status["api-1"]["nodes"]["http"]["http"].rpartition(":")
            load = Load((host, int(port)), key)
            load.run("text", 0.5)  # warm
            for name, kind in (("a text", "text"), ("a text, with a key", "keyed"), ("/healthz", "health")):
                rounds.add(name, _measured(mesh, load, kind, seconds))
            rounds.add("one of a batch", _measured(mesh, load, "batch", seconds))
            load.close()


def _measured(mesh: Mesh, load: Load, kind: str, seconds: float) -> Figures:
    clock = mesh.clock()
    done, took, wrong = load.run(kind, seconds)
    _, used, _ = clock.stop()
    used.pop("launcher", None)
    return {"us": used["api-1"] / done, "all_us": sum(used.values()) / done, "rate": done / took, "wrong": wrong}


def _bare(rounds: Rounds, seconds: float) -> None:
    server = subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        pin(server.pid, SERVER_CORES)
        load = Load(("127.0.0.1", port), "")
        load.run("text", 0.3)
        before = cpu_us(server.pid)
        done, took, wrong = load.run("text", seconds)
        used = (cpu_us(server.pid) - before) / done
        rounds.add("bare pywsgi", {"us": used, "all_us": used, "rate": done / took, "wrong": wrong})
        load.close()
    finally:
        server.kill()
        server.wait()


class Load:
    """Connections that each send their next request when the last one is answered."""

    def __init__(self, address: tuple[str, int], key: str) -> None:
        self._head = f"Host: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        self._socks = [socket.create_connection(address) for _ in range(CONNECTIONS)]
        self._number = 0
        self._start = os.urandom(4).hex()

    def close(self) -> None:
        for sock in self._socks:
            sock.close()

    def _request(self, kind: str) -> bytes:
        self._number += 1
        if kind == "health":
            return f"GET /healthz HTTP/1.1\r\n{self._head}\r\n".encode()
        n = self._number
        one = {"from": f"a{n % 500}", "to": f"b{n % 500}", "content": "x" * 64}
        path = "/v1/messages"
        body = json.dumps(one)
        if kind == "batch":
            path = "/v1/messages/batch"
            body = json.dumps({"messages": [{**one, "to": f"b{i % 500}"} for i in range(BATCH)]})
        more = f"Idempotency-Key: {self._start}{n}\r\n" if kind == "keyed" else ""
        return f"POST {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def run(self, kind: str, seconds: float) -> tuple[int, float, int]:
        """Requests (messages of batches) answered, seconds, and how many were not answered well."""
        socks = self._socks[:1] if kind == "batch" else self._socks
        waiting = dict.fromkeys(socks, b"")
        done = wrong = 0
        begun = time.perf_counter()
        for sock in socks:
            sock.sendall(self._request(kind))
        poll = select.epoll()
        by_fd = {sock.fileno(): sock for sock in socks}
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        busy = len(socks)
        while busy:
            for fd, _ in poll.poll():
                sock = by_fd[fd]
                data = waiting[sock] + sock.recv(262_144)
                head, end, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head) if end else None
                if length is None or len(body) < int(length[1]):
                    waiting[sock] = data
                    continue
                waiting[sock] = b""
                wrong += not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")) or b'"error"' in body
                done += BATCH if kind == "batch" else 1
                if time.perf_counter() - begun < seconds:
                    sock.sendall(self._request(kind))
                else:
                    busy -= 1
        poll.close()
        return done, time.perf_counter() - begun, wrong


if __name__ == "__main__":
    sys.exit(main())
