"""What all simulated vendors share: a TLS server on a real socket, certificates, faults, and what phones show.

A simulator checks what the vendor checks (signatures, limits, required fields) and answers as its documents say.
`plan` holds faults for the next push calls: "" for none, "hang", "cut" (accepted, but the answer never comes), "refuse"
(closed before it is read), "garbage" (a proxy's page), or a key of `answers`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer

from tests.simulators.keys import certificate

FOREVER = 600.0


class Call(NamedTuple):
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    """A response."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}


class Shown(NamedTuple):
    """A notification on a phone. `key`: what the vendor knows repeats by, "" where it cannot."""

    token: str
    title: str
    body: str
    badge: int | None
    collapse: str
    key: str


class Simulator:
    """A vendor. Start it with `start`, end it with `stop`; it listens on the same port when it is started again."""

    name: ClassVar[str]
    limits: ClassVar[dict[str, int]] = {}
    answers: ClassVar[Mapping[str, Answer]] = {}
    """How this vendor says: throttled, busy, server, bad, config, quota."""

    def __init__(self, directory: Path) -> None:
        """Secrets are written to `directory`."""
        self.directory = directory
        self.port = 0
        self.delay = 0.0
        self.plan: deque[str] = deque()
        self.dead: set[str] = set()
        self.expired: set[str] = set()
        """Credentials that were good and are not any more."""
        self.issued: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.accepted: list[Shown] = []
        """Every push that the vendor took."""
        self.shown: dict[tuple[str, str], Shown] = {}
        """(token, collapse) -> what that phone shows now."""
        self.repeats = 0
        """Pushes that the vendor took for repeats."""
        self._keys: set[tuple[str, str]] = set()
        self._server: StreamServer | None = None
        self._open: set[Any] = set()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca_file, chain = certificate()
        self.context.load_cert_chain(chain)

    # ---- life

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def settings(self) -> dict[str, Any]:
        """The table [push.app.NAME.VENDOR] for it."""
        return {"url": self.url, "ca_file": self.ca_file, **self.own_settings()}

    def own_settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def token(self, number: int) -> str:
        """A device token as the vendor makes them."""
        return f"{self.name}-token-{number}"

    def start(self) -> None:
        self._server = StreamServer(("127.0.0.1", self.port), self._serve, spawn=Pool())
        self._server.start()
        self.port = self._server.server_port

    def stop(self) -> None:
        """Cut every connection, listen no more."""
        self.cut()
        if self._server is not None:
            self._server.stop(timeout=0)
            self._server = None

    def cut(self) -> None:
        """End every connection."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def expire(self) -> None:
        """No credential in use is good any more."""
        self.expired |= self.issued

    def _serve(self, raw: Any, _address: object) -> None:
        try:
            sock = self.context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            return
        self._open.add(sock)
        try:
            self.serve(sock)
        except (OSError, ValueError):
            pass  # the client has gone
        finally:
            self._open.discard(sock)
            sock.close()

    # ---- HTTP/1.1

    def serve(self, sock: Any) -> None:
        """Answer requests of one connection."""
        reader = sock.makefile("rb")
        while (call := read_call(reader)) is not None:
            fault = self.plan.popleft() if self.plan and self.is_push(call) else ""
            self.calls[call.path] += 1
            if fault == "hang":
                gevent.sleep(FOREVER)
            if fault == "refuse":
                return
            if self.delay:
                gevent.sleep(self.delay)
            found = self.faulty(fault) if fault and fault != "cut" else self.answer(call)
            if fault == "cut":
                return
            sock.sendall(as_bytes(found))

    def faulty(self, fault: str) -> Answer:
        if fault == "garbage":
            return Answer(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"})
        return self.answers[fault]

    def is_push(self, call: Call) -> bool:
        """Whether it is a push, not a request for a credential."""
        return True

    def answer(self, call: Call) -> Answer:
        raise NotImplementedError

    # ---- phones

    def show(self, shown: Shown) -> bool:
        """A phone gets a notification; False when the vendor knows that it has got it before."""
        if shown.key:
            if (shown.token, shown.key) in self._keys:
                self.repeats += 1
                return False
            self._keys.add((shown.token, shown.key))
        self.accepted.append(shown)
        self.shown[shown.token, shown.collapse] = shown
        return True

    def bodies(self, token: str) -> list[str]:
        """Texts of all that this phone ever got."""
        return [s.body for s in self.accepted if s.token == token]


def read_call(reader: Any) -> Call | None:
    """The next request of a connection; None at its end."""
    first = reader.readline().split()
    if len(first) != 3:
        return None
    headers = {}
    while (line := reader.readline().strip()) != b"":
        key, _, value = line.partition(b":")
        headers[key.decode().lower()] = value.strip().decode()
    body = reader.read(int(headers.get("content-length", 0)))
    return Call(first[1].decode(), headers, body) if first[0] == b"POST" else None


def as_bytes(answer: Answer) -> bytes:
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class Everything(set[str]):
    """Has whatever is asked for."""

    def __contains__(self, _item: object) -> bool:
        return True
