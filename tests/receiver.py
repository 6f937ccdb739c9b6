"""Another system that is told of events and asked before messages: takes, fails, hangs, goes away, comes back."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from tests.waiting import wait_until
from tests.web import Web

TAKES, FAILS, HANGS = "takes", "fails", "hangs"
PAIRS = 6


class Receiver:
    """Listens on a port of its own. `taken`: the events that it answered with 200, in that order."""

    def __init__(self) -> None:
        self.mode = TAKES  # towards all
        self.telling = TAKES  # towards those who tell
        self.secrets: dict[str, str] = {}  # path -> secret
        self.taken: list[dict[str, Any]] = []
        self.tries = 0
        self.forged: list[str] = []
        self.decide: Callable[[dict[str, Any]], Any] = lambda data: None
        self.asked: list[dict[str, Any]] = []
        self._port = 0
        self._server: WSGIServer | None = None
        self.come()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def come(self) -> None:
        self._server = WSGIServer(("127.0.0.1", self._port), self._app, log=None, error_log=None, spawn=Pool(100))
        self._server.start()
        self._port = self._server.server_port

    def go(self) -> None:
        """Listen no more, and cut whoever is there."""
        assert self._server is not None
        self._server.stop(timeout=0)

    def of(self, *types: str) -> list[dict[str, Any]]:
        """Events of these types, without those that came again."""
        found = {event["id"]: event for event in self.taken if event["type"] in types}
        return list(found.values())

    def _app(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        body, path = environ["wsgi.input"].read(), environ["PATH_INFO"]
        self.tries += 1
        if not self._genuine(path, environ, body):
            self.forged.append(path)
        mode = self.mode if path == "/ask" or self.mode != TAKES else self.telling
        if mode == HANGS:
            gevent.sleep(60)
        answer = b""
        if path == "/ask":
            event = json.loads(body)
            self.asked.append(event["data"])
            decided = self.decide(event["data"])
            answer = b"" if decided is None else json.dumps(decided).encode()
        elif mode == TAKES:
            self.taken.append(json.loads(body))
        start("200 OK" if mode == TAKES else "500 Oh", [("Content-Length", str(len(answer)))])
        return [answer]

    def _genuine(self, path: str, environ: dict[str, Any], body: bytes) -> bool:
        """As standardwebhooks.com says."""
        secret = base64.b64decode(self.secrets.get(path, "whsec_AAAA").removeprefix("whsec_"))
        event_id, timestamp = environ["HTTP_WEBHOOK_ID"], environ["HTTP_WEBHOOK_TIMESTAMP"]
        mac = hmac.new(secret, f"{event_id}.{timestamp}.".encode() + body, sha256).digest()
        good = environ["HTTP_WEBHOOK_SIGNATURE"] == f"v1,{base64.b64encode(mac).decode()}"
        fresh = abs(int(timestamp) - time.time()) < 60
        return good and fresh and (path == "/ask" or json.loads(body)["id"] == event_id)


class Sent:
    """What is sent between users, and what was told of it: by session, each once, in the order in which it came."""

    def __init__(self, web: Web, receiver: Receiver) -> None:
        self._web = web
        self._receiver = receiver
        self.seqs: dict[str, list[int]] = defaultdict(list)

    def send(self, rounds: int) -> None:
        for _ in range(rounds):
            for n in range(PAIRS):
                reply = self._web.post("/v1/messages", {"from": f"a{n}", "to": f"b{n}", "content": "x"})
                assert reply.status == 201, reply
                self.seqs[reply.json["session_id"]].append(reply.json["seq_id"])

    def wait_told(self, why: str) -> None:
        wait_until(lambda: self._told() == self.seqs, why, 30)

    def _told(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for event in self._receiver.of("message.sent"):
            found[event["data"]["session_id"]].append(event["data"]["seq_id"])
        return found
