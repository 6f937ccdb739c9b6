"""A client: one connection that mends itself, sends that survive it, messages that come once and in order.

One thread reads, and does what has to be done in time (pings, resends, pulls of gaps). Any thread may send. What
callers see of a lost connection is that things take longer; `close` ends it.
"""

from __future__ import annotations

import queue
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from client.connection import Connection
from client.errors import ClientError, ConnectionLost, LoginRefused, NotAnswered, Refused
from client.inbox import Inbox, Message, Pull
from client.outbox import Outbox, Outgoing
from client.store import MemoryStore, Store
from packs import structs as s
from packs import table as t
from packs.codec import MSGPACK, Codec, decode_payload, encode_payload
from packs.codes import Code
from packs.errors import PayloadError
from packs.flags import ACK, COUNTER, DUP
from packs.ids import is_group_id, is_user_id, single_session
from packs.pack import Pack

RECONNECT_SECONDS, RECONNECT_SECONDS_MAX = 0.1, 10.0
REQUEST_SECONDS = 6.0
"""The server answers within 5 s; later than this an answer will not come."""
TICK_SECONDS = 0.2
BUSY_TICK_SECONDS = 0.05
PAGE = 200
RESYNC = 5
RETRY_LOGIN = (Code.UNAVAILABLE, Code.REFUSED, Code.EXCEPTION)
UNKNOWN = (Code.UNAVAILABLE, Code.REFUSED, Code.EXCEPTION)
"""After these codes a message is sent again."""
MESSAGE_TYPES = (t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT, t.MSG_BIZ_NOTIFY)


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


class _Waiter:
    """One answer, waited for by a thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._outcome: tuple[Any, Exception | None] = (None, None)

    def __call__(self, result: Any, error: Exception | None) -> None:
        self._outcome = (result, error)
        self._ready.set()

    def get(self, timeout: float | None, what: str) -> Any:
        if not self._ready.wait(timeout):
            raise NotAnswered(f"{what}: no answer within {timeout} s")
        result, error = self._outcome
        if error is not None:
            raise error
        return result


Done = Callable[[Any, Exception | None], None]


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
        "kicked", "refused", "resync". `catch_up`: deliver what is unread in sessions that `store` does not know."""
        self.user = user
        self._addresses = [address] if isinstance(address, str) else list(address)
        self._login = s.LoginReq(client_id=user, password=password, device_type=device_type, device_id=device_id)
        self._codec = codec
        self._tls = tls
        self._on_message = on_message
        self._on_event = on_event or (lambda name, detail: None)
        self._store: Store = store or MemoryStore()
        self._lock = threading.RLock()
        self._outbox = Outbox(window)
        self._inbox = Inbox(catch_up)
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._waiting: dict[str, tuple[int, Done, float]] = {}  # packId -> (type, completion, deadline)
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._first: _Waiter | None = None
        self._thread: threading.Thread | None = None
        self._heartbeat = 25.0
        self._random = random.Random()
        self._cursor, positions, unsent = self._store.load()
        for session, position in positions.items():
            self._inbox.restore(session, position)
        for pack_id, pack_type, session, payload, flags in unsent:
            message = Outgoing(pack_id, pack_type, session, payload, flags, _nobody, tried=True)
            self._outbox.add(message)

    # ---- life

    def connect(self, timeout: float | None = None) -> Client:
        """Connect and log in; returns itself. Raises `LoginRefused`, or `ConnectionLost` when no address answers."""
        self._first = _Waiter()
        self._thread = threading.Thread(target=self._run, name=f"imesh-{self.user}", daemon=True)
        self._thread.start()
        try:
            self._first.get(timeout, "login")
        except ClientError:
            self.close()
            raise
        return self

    def reopen(self) -> None:
        """Make a client that could not connect, or was closed, ready for `connect`."""
        self.close()
        self._closing.clear()
        self._thread = None
        self._messages = queue.Queue()

    def close(self) -> None:
        """Log out and end. What is unacknowledged stays in the store, if it keeps anything."""
        self._closing.set()
        with self._lock:
            if self._connection is not None:
                self._connection.log_out()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._messages.put(None)

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
        and `done(sent, error)`, if given, is called later. Raises `Refused`, or `NotAnswered` after `timeout`: it is
        still in the outbox then and may be stored later.
        """
        group = is_group_id(to)
        if not group and not is_user_id(to):
            raise ValueError(f"{to!r} is no user or group id")
        session = to if group else single_session(self.user, to)
        request = s.MsgReq(session_id=session, to=to, content=content, content_type=content_type)
        pack_type = t.MSG_GROUP_CHAT if group else t.MSG_SINGLE_CHAT
        waiter = _Waiter() if wait else None
        message = Outgoing(
            str(uuid.uuid4()), pack_type, session, encode_payload(request), flags, waiter or done or _nobody
        )
        with self._lock:
            self._store.unsent((message.pack_id, pack_type, session, message.payload, flags))
            self._outbox.add(message)
            self._pump()
        if waiter is None:
            return None
        sent: Sent = waiter.get(timeout, f"message to {to}")
        return sent

    def request(self, pack_type: int, payload: s.Payload | None = None, timeout: float = REQUEST_SECONDS) -> Any:
        """Any other request; its answer. Raises `Refused`, `ConnectionLost` or `NotAnswered`."""
        waiter = _Waiter()
        self._ask(pack_type, payload or s.Empty(), waiter)
        return waiter.get(timeout, t.TABLE[pack_type].name if pack_type in t.TABLE else str(pack_type))

    def _ask(self, pack_type: int, payload: s.Payload, done: Done) -> None:
        pack_id = str(uuid.uuid4())
        with self._lock:
            connection = self._connection
            if connection is not None:
                self._waiting[pack_id] = (pack_type, done, time.monotonic() + REQUEST_SECONDS)
                connection.send(pack_type, encode_payload(payload), pack_id, 0)
        if connection is None:
            done(None, ConnectionLost("not connected"))

    def _pump(self) -> None:
        """Send what is due. Under the lock."""
        connection = self._connection
        if connection is None:
            return
        for message in self._outbox.due(time.monotonic()):
            flags = message.flags | (DUP if message.tried else 0)
            connection.send(message.pack_type, message.payload, message.pack_id, flags)

    # ---- receiving

    def messages(self, timeout: float | None = None) -> Iterator[Message]:
        """Received messages as they come, each once, in order per session. Ends at `close`, or after `timeout` seconds
        without one."""
        while True:
            try:
                message = self._messages.get(timeout=timeout)
            except queue.Empty:
                return
            if message is None:
                return
            yield message

    def history(self, peer_or_session: str, before: int = 0, count: int = 30) -> list[Message]:
        """Messages with a peer or of a session, newest first: from `before` (inclusive; 0: the newest) downwards."""
        session = self._session(peer_or_session)
        response = self.request(
            t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=before, count=count)
        )
        return [_message(pack, "history") for pack in response.msgs]

    def hot_sessions(self) -> list[HotSession]:
        """All recent sessions, ascending by activity."""
        found: dict[str, HotSession] = {}
        cursor = 0
        while True:
            response = self.request(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
            for item in response.sessions:
                newest = _message(item.last_msgs[0], "history") if item.last_msgs else None
                found.pop(item.session_id, None)
                found[item.session_id] = HotSession(item.session_id, item.read_seq_id, item.unread_count, newest)
            cursor = response.timestamp
            if response.error_code.code != Code.HOT_SESSION_MORE:
                return list(found.values())

    def _session(self, peer_or_session: str) -> str:
        is_session = is_group_id(peer_or_session) or peer_or_session.startswith(("SC_", "BM_"))
        return peer_or_session if is_session else single_session(self.user, peer_or_session)

    # ---- the reader

    def _run(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            address = self._addresses[attempt % len(self._addresses)]
            try:
                connection = Connection(address, self._codec, self._tls, self._login)
            except LoginRefused as error:
                if error.code not in RETRY_LOGIN or self._first is not None:
                    self._over("refused", error)
                    return
                self._back_off(attempt, error.retry_after / 1000)
                attempt += 1
                continue
            except (OSError, ConnectionLost) as error:
                if self._first is not None and attempt + 1 >= len(self._addresses):
                    self._over("refused", ConnectionLost(f"no imesh on {', '.join(self._addresses)}: {error}"))
                    return
                self._back_off(attempt, 0.0)
                attempt += 1
                continue
            attempt = 0
            if self._serve(connection):
                return
            if not self._closing.is_set():
                self._back_off(0, 0.0)

    def _back_off(self, attempt: int, least: float) -> None:
        limit = min(RECONNECT_SECONDS * 2**attempt, RECONNECT_SECONDS_MAX)
        self._closing.wait(max(least, self._random.uniform(0.02, limit)))

    def _over(self, event: str, error: ClientError) -> None:
        """No more tries."""
        self._closing.set()
        self._on_event(event, str(error))
        first, self._first = self._first, None
        if first is not None:
            first(None, error)
        with self._lock:
            for message in self._outbox:
                message.done(None, error)
        self._messages.put(None)

    def _serve(self, connection: Connection) -> bool:
        """Use a connection until it breaks. True: it is over for good."""
        kicked = False
        with self._lock:
            self._connection = connection
            self._heartbeat = connection.heartbeat
            self._pump()
        self._on_event("connected", connection.address)
        first, self._first = self._first, None
        self._sync(self._cursor)
        if first is not None:
            first(None, None)
        try:
            while not (self._closing.is_set() and connection.logged_out):
                busy = self._inbox.has_gaps or len(self._outbox)
                for pack in connection.receive(BUSY_TICK_SECONDS if busy else TICK_SECONDS):
                    kicked = kicked or pack.type == t.KICKOUT
                    self._handle(pack)
                self._tick(connection)
        except (OSError, ConnectionLost) as error:
            if not self._closing.is_set() and not kicked:
                self._on_event("disconnected", str(error))
        self._drop(connection)
        if kicked:
            self._over("kicked", Refused(Code.CONN_KICKOUT, "logged in elsewhere"))
        return kicked

    def _drop(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            self._connection = None
            self._outbox.lost()
            waiting, self._waiting = self._waiting, {}
        for _, done, _ in waiting.values():
            done(None, ConnectionLost("the connection broke before the answer"))

    def _tick(self, connection: Connection) -> None:
        now = time.monotonic()
        connection.keep_alive(now, self._heartbeat)
        with self._lock:
            self._pump()
            late = [pack_id for pack_id, (_, _, deadline) in self._waiting.items() if now > deadline]
            expired = [self._waiting.pop(pack_id)[1] for pack_id in late]
            pulls = self._inbox.pulls(now)
        for done in expired:
            done(None, NotAnswered("no answer"))
        for pull in pulls:
            self._pull(pull, pull.top, [])
        self._deliver()

    def _handle(self, pack: Pack) -> None:
        if pack.flags & ACK:
            if pack.type in MESSAGE_TYPES:
                self._acknowledged(pack)
            else:
                self._answered(pack)
        elif pack.type in MESSAGE_TYPES:
            with self._lock:
                self._inbox.offer(_message(pack, "live"), time.monotonic())
            self._deliver()
        elif pack.type == t.SYNC_DATA_CMD and decode_payload(s.SyncDataReq, pack.payload).command == RESYNC:
            self._on_event("resync", "")
            self._sync(self._cursor)

    def _acknowledged(self, pack: Pack) -> None:
        ack = decode_payload(s.MsgAck, pack.payload)
        code, now = ack.error_code.code, time.monotonic()
        with self._lock:
            if code in UNKNOWN:
                self._outbox.unknown(pack.pack_id, now, ack.error_code.retry_after / 1000)
                return
            message = self._outbox.take(pack.pack_id)
            if message is None:
                return
            self._store.sent(pack.pack_id)
            if code in (Code.SUCCESS, Code.MSG_REPEATED):
                self._inbox.own(ack.session_id, ack.seq_id, ack.prev_seq_id, now)
            self._pump()
        if code in (Code.SUCCESS, Code.MSG_REPEATED):
            message.done(Sent(ack.session_id, ack.seq_id, ack.timestamp), None)
        else:
            message.done(None, Refused(code, ack.error_code.desc))
        self._deliver()

    def _answered(self, pack: Pack) -> None:
        with self._lock:
            found = self._waiting.pop(pack.pack_id, None)
        if found is None:
            return
        pack_type, done, _ = found
        try:
            response: Any = decode_payload(t.payload_struct(pack_type, response=True), pack.payload)
        except PayloadError as error:
            done(None, Refused(error.code, error.desc))
            return
        outcome = response if isinstance(response, s.CommonErrorCode) else response.error_code
        if outcome.code in (Code.SUCCESS, Code.HOT_SESSION_MORE):
            done(response, None)
        else:
            done(None, Refused(outcome.code, outcome.desc, outcome.retry_after))

    # ---- being up to date

    def _sync(self, cursor: int) -> None:
        """Ask what is new since `cursor`; gaps that it shows are pulled by the ticks."""

        def done(response: Any, error: Exception | None) -> None:
            if error is not None:
                return  # the next connection, or the next hint, asks again
            now = time.monotonic()
            with self._lock:
                for item in response.sessions:
                    if item.last_msgs:
                        newest = _message(item.last_msgs[0], "history").seq_id
                        self._inbox.hot(item.session_id, newest, item.read_seq_id, now)
                self._cursor = response.timestamp
                self._store.cursor(self._cursor)
                more = response.error_code.code == Code.HOT_SESSION_MORE
                if not more:
                    self._inbox.synced(now)
            if more:
                self._sync(self._cursor)

        self._ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor), done)

    def _pull(self, pull: Pull, top: int, so_far: list[Message]) -> None:
        """Fetch pages from `top` down to the floor of `pull`."""

        def done(response: Any, error: Exception | None) -> None:
            now = time.monotonic()
            if error is not None:
                with self._lock:
                    self._inbox.failed(pull, now)
                return
            page = [_message(pack, "history") for pack in response.msgs]
            so_far.extend(m for m in page if m.seq_id > pull.floor)
            if page and page[-1].seq_id > pull.floor and page[-1].prev_seq_id > pull.floor:
                self._pull(pull, page[-1].seq_id - 1, so_far)
                return
            with self._lock:
                self._inbox.page(pull, so_far, {m.pack_id for m in self._outbox}, now)
            self._deliver()

        self._ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=pull.session, seq_id=top, count=PAGE), done)

    def _deliver(self) -> None:
        with self._lock:
            ready = self._inbox.take()
            for message in ready:
                self._store.position(message.session_id, message.seq_id)
        for message in ready:
            if self._on_message is not None:
                self._on_message(message)
            else:
                self._messages.put(message)


def _nobody(result: Any, error: Exception | None) -> None:
    """Nobody waits for this outcome."""


def _message(pack: Pack, via: str) -> Message:
    m = decode_payload(s.MsgReq, pack.payload)
    return Message(
        m.session_id, m.seq_id, m.prev_seq_id, m.timestamp, m.sender, m.to, m.content, m.content_type, pack.flags,
        pack.pack_id, via,
    )  # fmt: skip
