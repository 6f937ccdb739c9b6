"""A client of the load that speaks the protocol itself. Nothing of the SDK is in it, so the SDK cannot hide what the
server does wrong, and it keeps the same promises: it resends what has no ack, oldest first and marked DUP, after a lost
connection and after the codes 6, 7 and 8; it closes every gap in the numbers from history.

`Wire` is the protocol without I/O, the clock is an argument; `WireClient` moves its bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
from gevent.lock import RLock

from packs import structs as s
from packs import table as t
from packs.codec import encode_payload
from packs.codes import Code
from packs.connection import ClientConnection, Violation
from packs.flags import ACK, COUNTER, DUP
from packs.ids import single_session
from packs.pack import Pack
from packs.structs import Payload
from tests.raw import decode

ANSWER_SECONDS = 6.0
"""The server promises 5 s; the rest is for a busy machine."""
GAP_SECONDS = 0.1
"""How long a gap may be before it is pulled: an ack and a push can overtake each other."""
TICK_SECONDS = 0.05
CONNECT_SECONDS = 2.0
RECONNECT_SECONDS = 0.1
PAGE = 200
OUTCOME_UNKNOWN = (Code.UNAVAILABLE, Code.REFUSED, Code.EXCEPTION)

Write = Callable[[int, "Payload | bytes", str, int], None]
"""(type, payload, packId, flags): send a request."""
Acked = Callable[[int | None], None]
"""Called once for a message: its number, or None when it was refused for good."""


class Outgoing:
    """A message without an ack."""

    __slots__ = ("done", "payload", "tried")

    def __init__(self, payload: bytes, done: Acked) -> None:
        self.payload = payload
        self.done = done
        self.tried = False  # it was written once, on whatever connection


class Wire:
    """One end of one single chat."""

    def __init__(self, user: str, peer: str, write: Write, on_message: Callable[[int, str], None]) -> None:
        self.session = single_session(user, peer)
        self.violations: list[str] = []
        self.unacked: dict[str, Outgoing] = {}  # by packId, oldest first
        self._user = user
        self._peer = peer
        self._write = write
        self._on_message = on_message
        self._next_id = 0
        self._texts: dict[int, str] = {}  # by number: everything that was ever seen there
        self._own: dict[str, str] = {}  # packId -> text
        self._have = 0  # everything up to this number was delivered
        self._waiting: dict[int, tuple[int, bool, str]] = {}  # number -> (the one before it, ours?, text)
        self._gap_since = 0.0
        self._page: list[s.MsgReq] = []
        self.disconnected()

    def disconnected(self) -> None:
        """What belonged to the connection is gone."""
        self._due: Counter[str] = Counter()  # requests without an answer
        self._due_since: dict[str, float] = {}
        self._pushed: set[int] = set()  # without DUP
        self._online = False
        self._resend_at: float | None = None
        self._pulling = ""
        self._pull_wanted = True
        self._page = []

    # ---- out

    def connected(self, time: float) -> None:
        """Logged in: what was sent before is sent again, before anything newer."""
        self._online = True
        self._resend(time)
        self._pull(time)

    def send(self, text: str, done: Acked, time: float) -> None:
        """Send a text, or keep it while there is no connection or an older one has failed."""
        self._next_id += 1
        pack_id = f"{self._user}.{self._next_id}"
        message = s.MsgReq(to=self._peer, content=text, content_type=1)
        self._own[pack_id] = text
        self.unacked[pack_id] = Outgoing(encode_payload(message), done)
        if self._online and self._resend_at is None:
            self._put(pack_id, time)

    def _put(self, pack_id: str, time: float) -> None:
        out = self.unacked[pack_id]
        flags = COUNTER | (DUP if out.tried else 0)
        out.tried = True
        self._ask(t.MSG_SINGLE_CHAT, out.payload, pack_id, flags, time)

    def _resend(self, time: float) -> None:
        self._resend_at = None
        for pack_id in list(self.unacked):
            self._put(pack_id, time)

    def _ask(self, pack_type: int, payload: Payload | bytes, pack_id: str, flags: int, time: float) -> None:
        self._due[pack_id] += 1
        self._due_since.setdefault(pack_id, time)
        self._write(pack_type, payload, pack_id, flags)

    def ping(self, time: float) -> None:
        self._next_id += 1
        self._ask(t.PING, b"", f"{self._user}.ping{self._next_id}", 0, time)

    def tick(self, time: float) -> None:
        """Every `TICK_SECONDS` while connected: resend, pull, and see that the server answers."""
        if self._resend_at is not None and time >= self._resend_at and not any(map(self._due.get, self.unacked)):
            self._resend(time)
        gap = bool(self._waiting) and time - self._gap_since > GAP_SECONDS
        if (gap or self._pull_wanted) and not self._pulling:
            self._pull(time)
        late = [pack_id for pack_id, since in self._due_since.items() if time - since > ANSWER_SECONDS]
        for pack_id in late:
            self.violations.append(f"{pack_id}: no answer within {ANSWER_SECONDS} s")
            del self._due_since[pack_id]

    # ---- in

    def came(self, pack: Pack, time: float) -> None:
        """A pack of the server, after the answer to LOGIN."""
        if pack.flags & ACK:
            self._answered(pack, time)
        elif pack.type == t.MSG_SINGLE_CHAT:
            self._pushed_one(pack, time)
        elif pack.type == t.SYNC_DATA_CMD:
            self._pull_wanted = True

    def _answered(self, pack: Pack, time: float) -> None:
        if not self._due[pack.pack_id]:
            self.violations.append(f"{pack.pack_id}: one more answer than requests")
            return
        self._due[pack.pack_id] -= 1
        self._due_since.pop(pack.pack_id, None)
        if pack.type == t.MSG_SINGLE_CHAT:
            self._acked(pack.pack_id, decode(pack), time)
        elif pack.type == t.HISTORY_MSG_PULL and pack.pack_id == self._pulling:
            self._pulled(decode(pack), time)

    def _acked(self, pack_id: str, ack: s.MsgAck, time: float) -> None:
        code = ack.error_code.code
        if code in OUTCOME_UNKNOWN:
            self._resend_at = time + ack.error_code.retry_after / 1000
            return
        out = self.unacked.pop(pack_id, None)
        if code not in (Code.SUCCESS, Code.MSG_REPEATED):
            if out is not None:
                out.done(None)
            return
        self._take(ack.seq_id, ack.prev_seq_id, True, self._own[pack_id], time)
        if out is not None:
            out.done(ack.seq_id)

    def _pushed_one(self, pack: Pack, time: float) -> None:
        message = decode(pack)
        if message.session_id != self.session or message.sender != self._peer or message.to != self._user:
            self.violations.append(f"not ours: {message}")
        if not pack.flags & DUP:  # a copy with DUP may come at any time: also first, from who resent it for a hung node
            if message.seq_id in self._pushed:
                self.violations.append(f"pushed twice without DUP: {message.content}")
            self._pushed.add(message.seq_id)
        self._take(message.seq_id, message.prev_seq_id, False, message.content, time)

    def _take(self, seq: int, prev: int, own: bool, text: str, time: float) -> None:
        known = self._texts.setdefault(seq, text) if seq in self._texts or seq > self._have else None
        if known != text:
            self.violations.append(f"number {seq} denotes {known or 'nothing, says the chain'} and {text}")
        if seq <= self._have:
            return
        if not self._waiting:
            self._gap_since = time
        self._waiting[seq] = (prev, own, text)
        self._advance(time)

    def _advance(self, time: float) -> None:
        while self._waiting:
            seq = min(self._waiting)
            prev, own, text = self._waiting[seq]
            if prev > self._have:
                return
            del self._waiting[seq]
            self._have, self._gap_since = seq, time
            if not own:
                self._on_message(seq, text)

    # ---- history

    def _pull(self, time: float, below: int = 0) -> None:
        if not below:
            self._page, self._pull_wanted = [], False
        self._next_id += 1
        self._pulling = f"{self._user}.pull{self._next_id}"
        request = s.HistoryMsgPullReq(session_id=self.session, seq_id=below, count=PAGE)
        self._ask(t.HISTORY_MSG_PULL, request, self._pulling, 0, time)

    def _pulled(self, response: s.HistoryMsgPullResp, time: float) -> None:
        self._pulling = ""
        if response.error_code.code != Code.SUCCESS:
            self._pull_wanted = True
            return
        page = [decode(pack) for pack in response.msgs]
        self._page += page
        if page and page[-1].prev_seq_id > self._have:
            self._pull(time, page[-1].prev_seq_id)
            return
        for message in reversed(self._page):
            if message.seq_id > self._have:
                own = message.sender == self._user
                self._take(message.seq_id, message.prev_seq_id, own, message.content, time)
        self._page, self._gap_since = [], time


class WireClient:
    """Moves the bytes of a `Wire`, over one connection after another."""

    def __init__(self, addresses: list[str], user: str, peer: str, on_message: Callable[[int, str], None]) -> None:
        self.wire = Wire(user, peer, self._request, on_message)
        self._addresses = addresses
        self._user = user
        self._sock: Any = None
        self._machine = ClientConnection()
        self._writing = RLock()  # one frame at a time: a socket that is full lets another greenlet run
        self._greenlet = gevent.spawn(self._run)

    @property
    def online(self) -> bool:
        return self._sock is not None

    @property
    def unacknowledged(self) -> int:
        return len(self.wire.unacked)

    def send(self, text: str, done: Acked) -> None:
        self.wire.send(text, done, time.monotonic())

    def close(self) -> None:
        self._greenlet.kill()

    def _run(self) -> None:
        for tries in itertools.count():
            host, port = self._addresses[tries % len(self._addresses)].rsplit(":", 1)
            address = host, int(port)
            with contextlib.suppress(OSError, Violation), socket.create_connection(address, CONNECT_SECONDS) as sock:
                self._serve(sock)
            self._sock = None
            self.wire.disconnected()
            gevent.sleep(RECONNECT_SECONDS)

    def _serve(self, sock: socket.socket) -> None:
        """Log in, then read until the connection is lost."""
        self._machine = ClientConnection()
        login = s.LoginReq(client_id=self._user, device_type=5, device_id="wire")
        sock.settimeout(ANSWER_SECONDS)
        sock.sendall(self._machine.request(t.LOGIN, login, f"{self._user}.login"))
        packs: list[Pack] = []
        while not packs:
            packs = self._receive(sock)
        response = decode(packs.pop(0))
        if response.error_code.code != Code.SUCCESS:
            return
        heartbeat = json.loads(response.extra_data)["heartbeat"]
        self._sock = sock
        now = heard = pinged = ticked = time.monotonic()
        self.wire.connected(now)
        while now - heard < 2 * heartbeat:
            for pack in packs:
                self.wire.came(pack, now)
            if now - ticked >= TICK_SECONDS:
                ticked = now
                self.wire.tick(now)
            if now - pinged > heartbeat / 2:
                pinged = now
                self.wire.ping(now)
            readable = _wait_readable(sock, TICK_SECONDS)
            now = time.monotonic()
            packs = self._receive(sock) if readable else []
            heard = now if readable else heard

    def _receive(self, sock: socket.socket) -> list[Pack]:
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError
        return self._machine.receive(data)

    def _request(self, pack_type: int, payload: Payload | bytes, pack_id: str, flags: int) -> None:
        with self._writing:
            if self._sock is None:
                return  # lost while another greenlet wrote; it is sent again on the next connection
            try:
                self._sock.sendall(self._machine.request(pack_type, payload, pack_id, flags))
            except OSError:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)  # the reader hears of it


def _wait_readable(sock: socket.socket, seconds: float) -> bool:
    """Whether there is something to read. Apart from `recv`, so that writes keep a timeout of their own."""
    try:
        gevent.socket.wait_read(sock.fileno(), seconds)
    except TimeoutError:
        return False
    return True
