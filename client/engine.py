"""What a client does with packs, on whichever connection they come and go: acknowledgements, messages, controls.

    program -> send -> outbox -> connection          connection -> handle -> inbox -> mailbox or callback -> program

Everything that outlives a connection is here. One thread, the reader's, calls `attach`, `handle`, `tick` and `detach`;
any thread may send.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from client.connection import Connection
from client.errors import ConnectionLost, Refused
from client.events import Event, ListChanged, Message, Read, Resync, Sent, Typing
from client.inbox import Inbox
from client.mailbox import Mailbox
from client.monitor import Monitor
from client.outbox import Outbox, Outgoing
from client.presence import Presences, presence_of
from client.requests import OUTCOME_UNKNOWN, Requests
from client.store import HOT, PRIORITY, Store
from client.sync import Sync, change_of, message_of
from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.codec import decode_payload
from packs.codes import Code
from packs.enums import SyncCommand
from packs.errors import PayloadError
from packs.flags import ACK, DUP
from packs.frames import MAX_FRAME
from packs.pack import Pack

MESSAGE_TYPES = frozenset((t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT, t.MSG_BIZ_NOTIFY))
LISTS: dict[int, Literal["friends", "requests", "blocked", "groups", "group", "members"]] = {
    SyncCommand.FRIENDS: "friends",
    SyncCommand.GROUPS: "groups",
    SyncCommand.GROUP_INFO: "group",
    SyncCommand.GROUP_MEMBERS: "members",
    SyncCommand.FRIEND_REQUESTS: "requests",
    SyncCommand.BLOCKLIST: "blocked",
}
"""What each command (25) says has changed."""
_log = logging.getLogger("imesh.client")


class Engine:
    """The parts of one client, and how they work together."""

    def __init__(
        self, user: str, store: Store, outbox: Outbox, catch_up: bool, mailbox: int,
        on_message: Callable[[Message], None] | None, on_event: Callable[[Any], None] | None,
    ) -> None:  # fmt: skip
        kept = store.load()
        self.closing = threading.Event()
        self.lock = threading.RLock()  # of the connection, the outbox and the store
        self.connection: Connection | None = None
        self.max_frame = MAX_FRAME
        self.outbox = outbox
        self.mailbox = Mailbox(self._keep_position, mailbox)
        self.requests = Requests(self._send)
        self.inbox = Inbox(catch_up, synced=kept.cursors.get(HOT, 0) > 0)
        self.presences = Presences(self.requests.request, self.requests.ask, self.tell)
        self.monitor = Monitor(user, self.requests.request, self.requests.ask)
        self.sync = Sync(self.inbox, kept, self.requests.ask, self._unsent, self.tell)
        self._store = store
        self._on_message = on_message
        self._on_event = on_event
        self._kept_cursors = dict(self.sync.cursors)
        self._may_send = False
        self._behind = False  # messages were left on the server, because the mailbox is full
        self._reads: dict[tuple[str, str], int] = {}  # (session, user) -> read up to
        for session, position in kept.positions.items():
            self.inbox.restore(session, position)
        for pack_id, pack_type, session, payload, flags in kept.unsent:
            outbox.add(Outgoing(pack_id, pack_type, session, payload, flags, nobody, tried=True))

    # ---- out

    def send(self, message: Outgoing) -> None:
        """Take a message. Raises `OutboxFull`, or `ConnectionLost` when the client is closed."""
        with self.lock:
            if self.closing.is_set():
                raise ConnectionLost("the client is closed")
            self.outbox.check_room()
            self._store.unsent((message.pack_id, message.pack_type, message.session, message.payload, message.flags))
            self.outbox.add(message)
            self._pump()

    def _pump(self) -> None:
        """Send what is due. Under the lock."""
        connection = self.connection
        if connection is None or not self._may_send:
            return
        for message in self.outbox.due(time.monotonic()):
            flags = message.flags | (DUP if message.tried else 0)
            connection.send(message.pack_type, message.payload, message.pack_id, flags)

    def _send(self, pack_type: int, payload: bytes, pack_id: str, flags: int) -> bool:
        with self.lock:
            connection = self.connection
            if connection is not None:
                connection.send(pack_type, payload, pack_id, flags)
        return connection is not None

    def _unsent(self) -> set[str]:
        with self.lock:
            return {message.pack_id for message in self.outbox}

    # ---- a connection's life

    def attach(self, connection: Connection, now: float) -> None:
        """There is a connection."""
        with self.lock:
            self.connection = connection
            self.max_frame = connection.max_frame
        self.inbox.connected(now)
        self.sync.begin(now)
        self.presences.again()
        self.monitor.again()

    def ready(self) -> None:
        """Let messages out: what is unread is known now (sending moves the read position)."""
        if not self._may_send:
            with self.lock:
                self._may_send = True
                self._pump()

    def detach(self) -> None:
        """The connection is gone."""
        with self.lock:
            self.connection = None
            self.outbox.lost()

    def fail_all(self, error: Exception) -> None:
        """No more tries: whoever waits is told, and what is unacknowledged stays in the outbox."""
        self.requests.fail_all(error)
        with self.lock:
            unfinished = list(self.outbox)
        for message in unfinished:
            done, message.done = message.done, nobody
            done(None, error)

    @property
    def busy(self) -> bool:
        """Whether something is under way that the clock matters to."""
        return self.inbox.has_gaps or bool(len(self.outbox)) or not self._may_send or self._behind

    def tick(self, now: float) -> None:
        """Whatever is due."""
        with self.lock:
            self._pump()
        self.requests.expire(now)
        if self._behind and self.mailbox.roomy:
            self._behind = False
            self.inbox.connected(now)  # what waited did not wait for the server
            self.sync.begin(now)
        if not self._behind:
            self.sync.tick(now)
        self._deliver()
        if self.sync.cursors != self._kept_cursors and self.mailbox.idle and not self.inbox.has_gaps:
            with self.lock:  # all that they announced has arrived
                for name in (HOT, PRIORITY):
                    if self.sync.cursors[name] != self._kept_cursors[name]:
                        self._store.cursor(name, self.sync.cursors[name])
            self._kept_cursors = dict(self.sync.cursors)

    # ---- in

    def handle(self, pack: Pack) -> None:
        """A pack from the server. Raises `Refused` when it says that this client was kicked out."""
        try:
            if pack.flags & ACK:
                if pack.type in MESSAGE_TYPES:
                    self._acknowledged(pack)
                else:
                    self.requests.answered(pack)
            elif pack.type == t.KICKOUT:
                raise Refused(Code.CONN_KICKOUT, "logged in elsewhere, or logged out from there")
            else:
                self._pushed(pack, time.monotonic())
        except PayloadError as error:
            _log.warning("a pack of type %d cannot be read: %s", pack.type, error)

    def _pushed(self, pack: Pack, now: float) -> None:
        if pack.type in MESSAGE_TYPES:
            self._behind = self._behind or self.mailbox.full
            if self._behind:
                return
            self.inbox.offer(message_of(pack, "live"), now)
            self._deliver()
        elif pack.type == t.MSG_CTRL:
            change = change_of(pack)
            if change is not None:
                self.inbox.control(change, now)
                self._deliver()
        elif pack.type == t.MSG_READ:
            self._read(decode_payload(s.MsgReaded, pack.payload))
        elif pack.type == t.TYPING:
            typing = decode_payload(x.Typing, pack.payload)
            self.tell(Typing(typing.session_id, typing.user_id, bool(typing.typing)))
        elif pack.type == t.PRESENCE_PUSH:
            for presence in decode_payload(x.PresencePush, pack.payload).presences:
                self.tell(presence_of(presence))
        elif pack.type == t.SYNC_DATA_CMD:
            self._commanded(decode_payload(s.SyncDataReq, pack.payload), now)

    def _read(self, read: s.MsgReaded) -> None:
        key = (read.session_id, read.user_id)
        if read.seq_id > self._reads.get(key, 0):
            self._reads[key] = read.seq_id
            self.tell(Read(read.session_id, read.seq_id, read.user_id))

    def _commanded(self, command: s.SyncDataReq, now: float) -> None:
        if command.command == SyncCommand.RESYNC:
            self.tell(Resync())
            self.sync.begin(now)
        elif (what := LISTS.get(command.command)) is not None:
            self.tell(ListChanged(what, command.content))

    def _acknowledged(self, pack: Pack) -> None:
        ack = decode_payload(s.MsgAck, pack.payload)
        code, now = ack.error_code.code, time.monotonic()
        stored = code in (Code.SUCCESS, Code.MSG_REPEATED)
        with self.lock:
            if code in OUTCOME_UNKNOWN:
                self.outbox.unknown(pack.pack_id, now, ack.error_code.retry_after / 1000)
                return
            message = self.outbox.take(pack.pack_id)
            if message is None:
                return
            if stored:
                self.inbox.own(ack.session_id, ack.seq_id, ack.prev_seq_id, now)
            self._store.sent(pack.pack_id)
            self._pump()
        if stored:
            message.done(Sent(ack.session_id, ack.seq_id, ack.timestamp, pack.pack_id), None)
        else:
            message.done(None, Refused(code, ack.error_code.desc))
        self._deliver()

    def _deliver(self) -> None:
        for session, message, position, change in self.inbox.take():
            if change is not None:
                self.tell(change)
            elif message is not None and self._on_message is None:
                self.mailbox.put(message, position)
                continue
            elif message is not None and self._on_message is not None:
                safely(self._on_message)(message)
            if position is not None:
                self.mailbox.advance(session, position)

    def _keep_position(self, session: str, position: int) -> None:
        with self.lock:
            self._store.position(session, position)

    def tell(self, event: Event) -> None:
        """An event that is no message. Whoever takes messages by a callback and gives none for events wants none."""
        if self._on_event is not None:
            safely(self._on_event)(event)
        elif self._on_message is None:
            self.mailbox.tell(event)


def safely(callback: Callable[..., None]) -> Callable[..., None]:
    """`callback`, whose errors are logged: the reader has more to do than to serve it."""

    def call(*arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:
            _log.exception("a callback of the program failed")

    return call


def nobody(result: Any, error: Exception | None) -> None:
    """Nobody waits for this outcome."""
