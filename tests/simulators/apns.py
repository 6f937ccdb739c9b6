"""Apple APNs: HTTP/2, ES256 tokens."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import Any

import gevent
import jwt
from gevent.event import Event
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from tests.simulators.keys import private_pem, signing_keys
from tests.simulators.server import Answer, Call, Shown, Simulator

KEY_ID, TEAM, TOPIC = "KEY4567890", "TEAM567890", "org.example.chat"


class _Replies:
    """What a connection has to answer: `last` is the last stream that it has looked at."""

    def __init__(self) -> None:
        self.last = 0
        self.ready: list[tuple[int, Answer]] = []


class Apns(Simulator):
    """Answers when it is asked to, not in order. `plan` knows "goaway" too: the next request and later ones are not
    looked at, earlier ones are answered."""

    name = "apns"
    answers = {
        "throttled": Answer(429, {"reason": "TooManyProviderTokenUpdates"}, {"retry-after": "7"}),
        "busy": Answer(429, {"reason": "TooManyRequests"}),
        "server": Answer(503, {"reason": "ServiceUnavailable"}),
        "bad": Answer(400, {"reason": "BadCollapseId"}),
        "config": Answer(400, {"reason": "TopicDisallowed"}),
    }
    max_streams = 1000
    window = 65_535

    def __init__(self, directory: Any) -> None:
        super().__init__(directory)
        self.context.set_alpn_protocols(["h2"])
        self.resets = 0
        self.connections = 0
        self.key = signing_keys()[0]
        self._public = self.key.public_key()
        self._checked: dict[str, str] = {}
        self._going: set[H2Connection] = set()
        self._thawed = Event()
        self._thawed.set()

    def token(self, number: int) -> str:
        return f"{number:064x}"

    def own_settings(self) -> dict[str, Any]:
        path = self.directory / "apns.p8"
        path.write_text(private_pem(self.key))
        return {"key": f"file:{path}", "key_id": KEY_ID, "team_id": TEAM}

    def freeze(self) -> None:
        """Answer nothing on any connection until `thaw`."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    # ---- HTTP/2

    def serve(self, sock: Any) -> None:
        self.connections += 1
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        codes = {SettingCodes.MAX_CONCURRENT_STREAMS: self.max_streams, SettingCodes.INITIAL_WINDOW_SIZE: self.window}
        h2.local_settings = Settings(client=False, initial_values=codes)
        h2.initiate_connection()
        sock.sendall(h2.data_to_send())
        calls: dict[int, tuple[dict[str, str], bytearray]] = {}
        replies = _Replies()
        while data := sock.recv(65_536):
            self._thawed.wait()
            for event in h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    calls[event.stream_id] = dict(event.headers), bytearray()
                elif isinstance(event, DataReceived):
                    calls[event.stream_id][1].extend(event.data)
                    h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamReset):
                    self.resets += 1
                elif isinstance(event, StreamEnded):
                    headers, body = calls.pop(event.stream_id)
                    if self._arrived(h2, sock, event.stream_id, Call(headers[":path"], headers, bytes(body)), replies):
                        return
            ready, replies.ready = replies.ready, []
            if self.delay and ready:
                gevent.spawn_later(self.delay, self._reply, h2, sock, ready)
                ready = []
            self._reply(h2, sock, ready)

    def _arrived(self, h2: H2Connection, sock: Any, stream: int, call: Call, replies: _Replies) -> bool:
        """Have it answered now or later; True when the connection is to be cut."""
        fault = self.plan.popleft() if self.plan else ""
        self.calls[call.path.rsplit("/", 1)[0]] += 1
        if fault == "hang" or h2 in self._going:
            return False
        if fault == "refuse":
            return True
        if fault == "goaway":
            frame = GoAwayFrame(0, last_stream_id=replies.last, additional_data=b'{"reason":"Shutdown"}')
            self._going.add(h2)
            sock.sendall(frame.serialize())  # h2 itself would answer nothing any more
            return False
        found = self.faulty(fault) if fault and fault != "cut" else self.answer(call)
        if fault == "cut":
            return True
        replies.last = max(replies.last, stream)
        replies.ready.append((stream, found))
        return False

    def _reply(self, h2: H2Connection, sock: Any, ready: list[tuple[int, Answer]]) -> None:
        for stream, answer in ready:
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            with contextlib.suppress(ProtocolError):  # the client has reset it
                h2.send_headers(stream, [(":status", str(answer.status)), *answer.headers.items()], end_stream=not body)
                if body:
                    h2.send_data(stream, body, end_stream=True)
        with contextlib.suppress(OSError):
            self._flush(h2, sock)

    @staticmethod
    def _flush(h2: H2Connection, sock: Any) -> None:
        if data := h2.data_to_send():
            sock.sendall(data)

    # ---- what APNs checks

    def answer(self, call: Call) -> Answer:
        headers, apns_id = call.headers, call.headers.get("apns-id", "")
        refused = self._proof(headers.get("authorization", "")) or self._wrong(call)
        if refused:
            return Answer(refused[0], {"reason": refused[1]}, {"apns-id": apns_id})
        token = call.path.removeprefix("/3/device/")
        if token in self.dead:
            return Answer(410, {"reason": "Unregistered", "timestamp": int(time.time() * 1000)}, {"apns-id": apns_id})
        try:
            aps = json.loads(call.body)["aps"]
        except (ValueError, KeyError):
            return Answer(400, {"reason": "PayloadEmpty"})
        alert, collapse = aps["alert"], headers.get("apns-collapse-id", "")
        self.show(Shown(token, alert["title"], alert["body"], aps.get("badge"), collapse, ""))
        return Answer(200, b"", {"apns-id": apns_id})

    def _proof(self, header: str) -> tuple[int, str] | None:
        token = header.removeprefix("bearer ")
        if not token or token == header:
            return 403, "MissingProviderToken"
        if token not in self._checked:
            self._checked[token] = self._verified(token)
        self.issued.add(token)
        if token in self.expired:
            return 403, "ExpiredProviderToken"
        return (403, self._checked[token]) if self._checked[token] else None

    def _verified(self, token: str) -> str:
        try:
            if jwt.get_unverified_header(token).get("kid") != KEY_ID:
                return "InvalidProviderToken"
            claims = jwt.decode(token, self._public, algorithms=["ES256"])
        except jwt.InvalidTokenError:
            return "InvalidProviderToken"
        if claims["iss"] != TEAM:
            return "InvalidProviderToken"
        return "ExpiredProviderToken" if abs(time.time() - claims["iat"]) > 3600 else ""

    @staticmethod
    def _wrong(call: Call) -> tuple[int, str] | None:
        headers, token = call.headers, call.path.removeprefix("/3/device/")
        if headers.get("apns-topic") != TOPIC:
            return 400, "BadTopic" if "apns-topic" in headers else "MissingTopic"
        if headers.get("apns-push-type") not in ("alert", "background"):
            return 400, "InvalidPushType"
        if len(token) != 64 or not all(c in "0123456789abcdef" for c in token):
            return 400, "BadDeviceToken"
        if len(headers.get("apns-collapse-id", "")) > 64:
            return 400, "BadCollapseId"
        if str(uuid.UUID(headers["apns-id"])) != headers["apns-id"]:
            return 400, "BadMessageId"
        if headers.get("apns-priority") not in ("10", "5", "1"):
            return 400, "BadPriority"
        if not 0 <= int(headers.get("apns-expiration", 0)) <= time.time() + 30 * 86_400:
            return 400, "BadExpirationDate"
        if len(call.body) > 4096:
            return 413, "PayloadTooLarge"
        return None if call.body else (400, "PayloadEmpty")
