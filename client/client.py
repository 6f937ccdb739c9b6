"""A client: one connection that mends itself, sends that survive it, messages that come once and in order.

One thread reads, and does what has to be done in time (pings, resends, pulls of gaps). Any thread may send. What
callers see of a lost connection is that things take longer; `close` ends it.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from client.connection import Connection, parse_address
from client.errors import ClientError, ConnectionLost, LoginRefused, NotAnswered, Refused
from client.inbox import Inbox, Message
from client.mailbox import Mailbox
from client.outbox import Outbox, Outgoing
from client.requests import Done, Requests, Waiter
from client.store import MemoryStore, Store
from client.sync import OUTCOME_UNKNOWN, Sync, message_of
from packs import structs as s
from packs import table as t
from packs.codec import MSGPACK, Codec, decode_payload, encode_payload
from packs.codes import Code
from packs.enums import SyncCommand
from packs.errors import PayloadError
from packs.flags import ACK, COUNTER, DUP
from packs.frames import MAX_FRAME
from packs.ids import is_group_id, is_user_id, single_session
from packs.pack import VERSION, Pack

LOGIN_SECONDS = 10.0
"""How long `connect` waits, unless told otherwise."""
REQUEST_SECONDS = 6.0
"""The server answers within 5 s; later than this an answer will not come."""
RECONNECT_SECONDS, RECONNECT_SECONDS_MAX = 0.1, 10.0
"""Pause before a new connection, doubled each time, with full jitter."""
STABLE_SECONDS = 5.0
"""A connection that lasted this long was a good one: the next pause is a short one again."""
TICK_SECONDS, BUSY_TICK_SECONDS = 0.5, 0.05
"""How often the reader looks at the clock, when nothing is under way and when something is."""
FIRST_SYNC_SECONDS = 2.0
"""How long the first messages wait for the first sync. Sending moves the read position, so what is unread has to be
known before."""
MAX_EXPANSION = 8
"""No codec writes a payload more than this many times as long as it is."""
MESSAGE_TYPES = frozenset((t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT, t.MSG_BIZ_NOTIFY))

_log = logging.getLogger("imesh.client")


@dataclass(frozen=True)
class Sent:
    """A stored message: its session, number (µs), and time (ms)."""

    session_id: str
    seq_id: int
    timestamp: int


@dataclass(frozen=True)
class HotSession:
    """A recent session: `newest` is its last message."""

    session_id: str
    read_seq_id: int
    unread: int
    newest: Message | None


class Client:
    """See the package's docstring for an example. All times in seconds."""

    def __init__(
        self, address: str | Sequence[str], user: str, password: str = "", *, device_type: int = 5,
        device_id: str = "python", codec: Codec = MSGPACK, tls: ssl.SSLContext | None = None,
        on_message: Callable[[Message], None] | None = None, on_event: Callable[[str, str], None] | None = None,
        store: Store | None = None, window: int = 16, catch_up: bool = True,
    ) -> None:  # fmt: skip
        """`address`: "host:port" or several, tried in turn. `password`: or a token. `on_message`, if given, gets each
        message on the reader's thread instead of `messages`. `on_event(name, detail)`: "connected", "disconnected",
        "resync"; and last of all "kicked" or "refused", after which nothing more comes. `catch_up`: deliver what is
        unread in sessions that `store` does not know. Raises `ValueError` for an address that is none."""
        self.user = user
        self._addresses = [address] if isinstance(address, str) else list(address)
        for each in self._addresses:
            parse_address(each)
        self._login = s.LoginReq(client_id=user, password=password, device_type=device_type, device_id=device_id)
        self._codec = codec
        self._tls = tls
        self._on_message = on_message
        self._on_event = on_event
        self._store: Store = store or MemoryStore()
        self._kept_cursor, positions, unsent = self._store.load()
        self._lock = threading.RLock()  # of the connection, the outbox and the store
        self._outbox = Outbox(window)
        self._inbox = Inbox(catch_up, synced=self._kept_cursor > 0)
        self._mailbox = Mailbox(self._keep_position)
        self._requests = Requests()
        self._sync = Sync(self._inbox, self._kept_cursor, self._ask, self._unsent)
        self._connection: Connection | None = None
        self._max_frame = MAX_FRAME
        self._closing = threading.Event()
        self._first: Waiter | None = None
        self._may_send = False
        self._refusal: LoginRefused | None = None
        self._thread: threading.Thread | None = None
        self._random = random.Random()
        for session, position in positions.items():
            self._inbox.restore(session, position)
        for pack_id, pack_type, session, payload, flags in unsent:
            self._outbox.add(Outgoing(pack_id, pack_type, session, payload, flags, _nobody, tried=True))

    # ---- life

    def connect(self, timeout: float | None = LOGIN_SECONDS) -> Client:
        """Connect and log in; returns itself. May be called again after it failed, and after `close`.

        Raises `LoginRefused`, `ConnectionLost` when no address answers, or `NotAnswered` after `timeout`.
        """
        self.close()
        self._closing.clear()
        self._mailbox.open()
        self._refusal = None
        self._first = first = Waiter()
        self._thread = threading.Thread(target=self._run, name=f"imesh-{self.user}", daemon=True)
        self._thread.start()
        try:
            first.get(timeout, "login")
        except ClientError as error:
            self.close()
            raise (self._refusal if isinstance(error, NotAnswered) and self._refusal else error) from None
        return self

    def close(self) -> None:
        """Log out and end. What is unacknowledged, and what the program has not taken yet, stays in the store if that
        keeps anything; whoever waits for it gets `ConnectionLost`."""
        self._closing.set()
        with self._lock:
            if self._connection is not None:
                self._connection.log_out()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Client:
        return self if self._thread is not None else self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def unacknowledged(self) -> int:
        """Messages that are not known to be stored yet."""
        return len(self._outbox)

    # ---- sending

    def send(
        self, to: str, content: str, *, content_type: int = 1, flags: int = COUNTER, wait: bool = True,
        timeout: float | None = 30.0, done: Done | None = None,
    ) -> Sent | None:  # fmt: skip
        """Send a message to a user, or to a group by its id.

        Waits until it is stored, also across reconnects, and returns its numbers; with `wait=False` returns at once,
        and `done(sent, error)`, if given, is called later. Raises `Refused`, `ConnectionLost` when the client is
        closed, or `NotAnswered` after `timeout`: it is still in the outbox then and may be stored later.
        """
        group = is_group_id(to)
        if not group and not is_user_id(to):
            raise ValueError(f"{to!r} is no user or group id")
        session = to if group else single_session(self.user, to)
        payload = encode_payload(s.MsgReq(session_id=session, to=to, content=content, content_type=content_type))
        pack_type = t.MSG_GROUP_CHAT if group else t.MSG_SINGLE_CHAT
        waiter = Waiter()
        completion: Done = waiter if wait else self._safely(done) if done is not None else _nobody
        message = Outgoing(str(uuid.uuid4()), pack_type, session, payload, flags, completion)
        self._check_size(message)
        with self._lock:
            if self._closing.is_set():
                raise ConnectionLost("the client is closed")
            self._store.unsent((message.pack_id, pack_type, session, payload, flags))
            self._outbox.add(message)
            self._pump()
        if not wait:
            return None
        sent: Sent = waiter.get(timeout, f"message to {to}")
        return sent

    def _check_size(self, message: Outgoing) -> None:
        """A frame over the server's limit would cost the connection, again and again."""
        if len(message.payload) * MAX_EXPANSION < self._max_frame:
            return
        pack = Pack(message.pack_type, VERSION, message.flags, message.pack_id, message.payload)
        if len(self._codec.encode_frame(pack)) > self._max_frame:
            raise Refused(Code.MSG_TOO_LONG, f"message is longer than a frame of {self._max_frame} bytes")

    def request(self, pack_type: int, payload: s.Payload | None = None, timeout: float = REQUEST_SECONDS) -> Any:
        """Any other request; its answer. Raises `Refused`, `ConnectionLost` or `NotAnswered`."""
        waiter = Waiter()
        self._ask(pack_type, payload or s.Empty(), waiter)
        return waiter.get(timeout, t.TABLE[pack_type].name if pack_type in t.TABLE else str(pack_type))

    def _ask(self, pack_type: int, payload: s.Payload, done: Done) -> None:
        with self._lock:
            connection = self._connection
            if connection is not None:
                pack_id = self._requests.add(pack_type, done, time.monotonic() + REQUEST_SECONDS)
                connection.send(pack_type, encode_payload(payload), pack_id, 0)
        if connection is None:
            done(None, ConnectionLost("not connected"))

    def _pump(self) -> None:
        """Send what is due. Under the lock."""
        connection = self._connection
        if connection is None or not self._may_send:
            return
        for message in self._outbox.due(time.monotonic()):
            flags = message.flags | (DUP if message.tried else 0)
            connection.send(message.pack_type, message.payload, message.pack_id, flags)

    def _unsent(self) -> set[str]:
        with self._lock:
            return {message.pack_id for message in self._outbox}

    # ---- receiving

    def messages(self, timeout: float | None = None) -> Iterator[Message]:
        """Received messages as they come, each once, in order per session. Ends at `close`, or after `timeout` seconds
        without one."""
        return self._mailbox.messages(timeout)

    def history(self, peer_or_session: str, before: int = 0, count: int = 30) -> list[Message]:
        """Messages with a peer or of a session, newest first: from `before` (inclusive; 0: the newest) downwards."""
        is_session = is_group_id(peer_or_session) or peer_or_session.startswith(("SC_", "BM_"))
        session = peer_or_session if is_session else single_session(self.user, peer_or_session)
        response = self.request(
            t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=before, count=count)
        )
        return [message_of(pack, "history") for pack in response.msgs]

    def hot_sessions(self) -> list[HotSession]:
        """All recent sessions, ascending by activity."""
        found: dict[str, HotSession] = {}
        cursor = 0
        while True:
            response = self.request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
            for item in response.sessions:
                newest = message_of(item.last_msgs[0], "history") if item.last_msgs else None
                found.pop(item.session_id, None)
                found[item.session_id] = HotSession(item.session_id, item.read_seq_id, item.unread_count, newest)
            cursor = response.timestamp
            if response.error_code.code != Code.HOT_SESSION_MORE:
                return list(found.values())

    # ---- the reader: from connection to connection

    def _run(self) -> None:
        error: ClientError = ConnectionLost("the client is closed")
        event = ""
        try:
            self._stay_connected()
        except (ConnectionLost, LoginRefused) as reason:
            error, event = reason, "refused"
        except Refused as reason:
            error, event = reason, "kicked"
        except Exception as bug:
            error, event = ClientError(f"the client failed: {bug!r}"), "refused"
            raise
        finally:
            self._over(error, event)

    def _stay_connected(self) -> None:
        """Until closed. Raises `LoginRefused`, `Refused` when kicked out, `ConnectionLost` if there never was one."""
        attempt = 0
        while not self._closing.is_set():
            began, pause = time.monotonic(), 0.0
            try:
                self._serve(Connection(self._addresses[attempt % len(self._addresses)], *self._how()))
            except LoginRefused as error:
                if error.code not in OUTCOME_UNKNOWN:
                    raise
                self._refusal, pause = error, error.retry_after / 1000
            except (OSError, ConnectionLost) as error:
                if self._first is not None and attempt + 1 >= len(self._addresses):
                    raise ConnectionLost(f"no imesh on {', '.join(self._addresses)}: {error}") from None
            attempt = 0 if time.monotonic() - began > STABLE_SECONDS and self._first is None else attempt + 1
            limit = min(RECONNECT_SECONDS * 2 ** min(attempt, 10), RECONNECT_SECONDS_MAX)
            self._closing.wait(max(pause, self._random.uniform(RECONNECT_SECONDS / 4, limit)))

    def _how(self) -> tuple[Codec, ssl.SSLContext | None, s.LoginReq]:
        return self._codec, self._tls, self._login

    def _serve(self, connection: Connection) -> None:
        """Use a connection until it breaks or the client is closed. Raises `Refused` when kicked out."""
        try:
            with self._lock:
                self._connection = connection
                self._max_frame = connection.max_frame
            began = time.monotonic()
            self._inbox.connected(began)
            self._sync.begin(began)
            self._tell("connected", connection.address)
            self._tick(connection)
            while not (self._closing.is_set() and connection.log_out()):
                if self._sync.tried or time.monotonic() - began > FIRST_SYNC_SECONDS:
                    self._ready()
                for pack in connection.receive(self._tick_seconds(connection)):
                    self._handle(pack)
                self._tick(connection)
        except (OSError, ConnectionLost) as error:
            if not self._closing.is_set():
                self._tell("disconnected", str(error))
        finally:
            with self._lock:
                self._connection = None
                self._outbox.lost()
            connection.close()  # nobody sends any more
            self._requests.fail_all(ConnectionLost("the connection broke before the answer"))

    def _ready(self) -> None:
        """Let messages out, and `connect` return."""
        first, self._first = self._first, None
        if first is not None:
            first(None, None)
        if not self._may_send:
            with self._lock:
                self._may_send = True
                self._pump()

    def _over(self, error: ClientError, event: str) -> None:
        """No more tries: whoever waits is told, and what is unacknowledged stays in the outbox."""
        self._closing.set()
        first, self._first = self._first, None
        if first is not None:
            first(None, error)
        with self._lock:
            unfinished = list(self._outbox)
        for message in unfinished:
            done, message.done = message.done, _nobody
            done(None, error)
        self._mailbox.close()
        if event:
            self._tell(event, str(error))

    # ---- the reader: on a connection

    def _tick_seconds(self, connection: Connection) -> float:
        busy = self._inbox.has_gaps or len(self._outbox) or not self._may_send
        return BUSY_TICK_SECONDS if busy else min(TICK_SECONDS, connection.heartbeat / 4)

    def _tick(self, connection: Connection) -> None:
        now = time.monotonic()
        connection.keep_alive(now)
        with self._lock:
            self._pump()
        self._requests.expire(now)
        self._sync.tick(now)
        self._deliver()
        cursor = self._sync.cursor
        if cursor != self._kept_cursor and self._mailbox.idle and not self._inbox.has_gaps:
            self._kept_cursor = cursor  # all that it announced has arrived
            with self._lock:
                self._store.cursor(cursor)

    def _handle(self, pack: Pack) -> None:
        try:
            if pack.flags & ACK:
                if pack.type in MESSAGE_TYPES:
                    self._acknowledged(pack)
                else:
                    self._requests.answered(pack)
            elif pack.type in MESSAGE_TYPES:
                self._inbox.offer(message_of(pack, "live"), time.monotonic())
                self._deliver()
            elif pack.type == t.KICKOUT:
                raise Refused(Code.CONN_KICKOUT, "logged in elsewhere")
            elif pack.type == t.SYNC_DATA_CMD and _is_resync(pack):
                self._tell("resync", "")
                self._sync.begin(time.monotonic())
        except PayloadError as error:
            _log.warning("a pack of type %d cannot be read: %s", pack.type, error)

    def _acknowledged(self, pack: Pack) -> None:
        ack = decode_payload(s.MsgAck, pack.payload)
        code, now = ack.error_code.code, time.monotonic()
        stored = code in (Code.SUCCESS, Code.MSG_REPEATED)
        with self._lock:
            if code in OUTCOME_UNKNOWN:
                self._outbox.unknown(pack.pack_id, now, ack.error_code.retry_after / 1000)
                return
            message = self._outbox.take(pack.pack_id)
            if message is None:
                return
            if stored:
                self._inbox.own(ack.session_id, ack.seq_id, ack.prev_seq_id, now)
            self._store.sent(pack.pack_id)
            self._pump()
        if stored:
            message.done(Sent(ack.session_id, ack.seq_id, ack.timestamp), None)
        else:
            message.done(None, Refused(code, ack.error_code.desc))
        self._deliver()

    def _deliver(self) -> None:
        for session, message, position in self._inbox.take():
            if message is not None and self._on_message is None:
                self._mailbox.put(message, position)
                continue
            if message is not None and self._on_message is not None:
                self._safely(self._on_message)(message)
            if position is not None:
                self._mailbox.advance(session, position)

    def _keep_position(self, session: str, position: int) -> None:
        with self._lock:
            self._store.position(session, position)

    # ---- the program's callbacks

    def _tell(self, event: str, detail: str) -> None:
        if self._on_event is not None:
            self._safely(self._on_event)(event, detail)

    @staticmethod
    def _safely(callback: Callable[..., None]) -> Callable[..., None]:
        """`callback`, whose errors are logged: the reader has more to do than to serve it."""

        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception:
                _log.exception("a callback of the program failed")

        return call


def _nobody(result: Any, error: Exception | None) -> None:
    """Nobody waits for this outcome."""


def _is_resync(pack: Pack) -> bool:
    return decode_payload(s.SyncDataReq, pack.payload).command == SyncCommand.RESYNC
