"""The other contestants of `bench.rpc`, each end in a process of its own: blocking pyzmq and zerorpc.

python -m bench.rpc_contestants CONTESTANT server            prints its endpoint, serves until stdin ends
python -m bench.rpc_contestants CONTESTANT client ENDPOINT   to lines `waiters seconds pid-of-server`: an Outcome
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from os import _exit, getpid
from typing import Any

from bench.closed_loop import WARM_UP_SECONDS, blob, run
from bench.measure import CLIENT_CORES, SERVER_CORES, Clock, Outcome, percentile, pin

RAW, ZERORPC = "pyzmq", "zerorpc"
ANSWER_MS = 10_000
"""How long the raw client waits for an answer before it gives up."""
CHECKED = 64
"""The raw client looks at its watch once per so many answers."""

Run = Callable[[int, float, int], Outcome]


class Pair:
    """Both ends of a contestant, running."""

    def __init__(self, contestant: str) -> None:
        self._server = self._start(contestant, "server")
        pin(self._server.pid, SERVER_CORES)
        self._client = self._start(contestant, "client", self._line(self._server))
        self._line(self._client)
        pin(self._client.pid, CLIENT_CORES)

    @staticmethod
    def _start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench.rpc_contestants", *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
        return line

    def run(self, waiters: int, seconds: float) -> Outcome:
        """One closed loop."""
        assert self._client.stdin is not None
        self._client.stdin.write(f"{waiters} {seconds} {self._server.pid}\n")
        self._client.stdin.flush()
        return Outcome(*json.loads(self._line(self._client)))

    def close(self) -> None:
        for process in (self._client, self._server):
            with process:  # closes its stdin, at which it ends, and waits
                pass


def _raw_server() -> None:
    import zmq

    socket = zmq.Context().socket(zmq.ROUTER)
    socket.set_hwm(0)  # the default of 1000 lets a ROUTER drop answers when 1000 are in flight: seen
    socket.bind("tcp://127.0.0.1:*")
    _tell(socket.get_string(zmq.LAST_ENDPOINT))
    while True:
        socket.send_multipart(socket.recv_multipart())


def _raw_client(endpoint: str) -> Run:
    import zmq

    socket = zmq.Context().socket(zmq.DEALER)
    socket.set_hwm(0)
    socket.set(zmq.RCVTIMEO, ANSWER_MS)
    socket.connect(endpoint)

    def loop(until: float, sent: deque[tuple[bytes, float]]) -> tuple[list[float], int]:
        """Ask again after each answer; latencies and number of wrong answers until then. Answers keep their order."""
        latencies: list[float] = []
        wrong = 0
        while True:
            for _ in range(min(CHECKED, len(sent))):
                (answer,) = socket.recv_multipart()
                question, begun = sent.popleft()
                time_ = time.perf_counter()
                if answer != question:
                    wrong += 1
                latencies.append(time_ - begun)
                socket.send_multipart([question])
                sent.append((question, time_))
            if time_ > until:
                return latencies, wrong

    def measure(waiters: int, seconds: float, server: int) -> Outcome:
        sent: deque[tuple[bytes, float]] = deque()
        for number in range(waiters):
            sent.append((blob(number), time.perf_counter()))
            socket.send_multipart([blob(number)])
        _, before = loop(time.perf_counter() + WARM_UP_SECONDS, sent)
        clock = Clock({"server": [server], "client": [getpid()]})
        latencies, wrong = loop(time.perf_counter() + seconds, sent)
        elapsed, used, foreign = clock.stop()
        wrong += before + sum(socket.recv_multipart() != [question] for question, _ in sent)
        return Outcome(
            len(latencies), wrong, elapsed, used["server"], used["client"], foreign,
            percentile(latencies, 0.5), percentile(latencies, 0.99),
        )  # fmt: skip

    return measure


def _zerorpc_server() -> None:
    import zerorpc  # type: ignore[import-untyped]

    class Echo:
        def echo(self, blob: bytes) -> bytes:
            return blob

    server = zerorpc.Server(Echo())
    (bound,) = server.bind("tcp://127.0.0.1:*")
    _tell(bound.addr)
    server.run()


def _zerorpc_client(endpoint: str) -> Run:
    import zerorpc

    client = zerorpc.Client(endpoint)

    def measure(waiters: int, seconds: float, server: int) -> Outcome:
        return run(client.echo, waiters, seconds, server)

    return measure


SERVERS: dict[str, Callable[[], None]] = {RAW: _raw_server, ZERORPC: _zerorpc_server}
CLIENTS: dict[str, Callable[[str], Run]] = {RAW: _raw_client, ZERORPC: _zerorpc_client}


def _tell(line: Any) -> None:
    print(line, flush=True)


def _end_with_stdin() -> None:
    sys.stdin.read()
    _exit(0)


def main() -> None:
    contestant, end, *endpoint = sys.argv[1:]
    if end == "server":
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        SERVERS[contestant]()
        return
    measure = CLIENTS[contestant](*endpoint)
    _tell("ready")
    for line in sys.stdin:
        waiters, seconds, server = line.split()
        _tell(json.dumps(measure(int(waiters), float(seconds), int(server))))


if __name__ == "__main__":
    main()
