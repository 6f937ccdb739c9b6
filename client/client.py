"""A client: one connection that mends itself, sends that survive it, messages that come once and in order.

One thread reads, and does what has to be done in time (pings, resends, pulls of gaps). Any thread may send and ask.
What callers see of a lost connection is that things take longer; `close` ends it. What is asked for by subject is under
`groups`, `friends`, `profiles`, `sessions`, `presence`, `devices`, `pushes` and `monitor`.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from client.connection import How
from client.devices import Devices
from client.dial import parse_address
from client.engine import Engine, nobody, safely
from client.errors import ClientError, NotAnswered, Refused
from client.events import Event, Message, Sent
from client.friends import Friends
from client.groups import Groups
from client.mailbox import MAILBOX
from client.monitor import Monitor
from client.outbox import OUTBOX, Outbox, Outgoing
from client.presence import Presences
from client.profiles import Profiles
from client.pushes import Pushes
from client.reader import Reader
from client.requests import REQUEST_SECONDS, Done, Waiter
from client.sessions import HotSession, Sessions, session_of
from client.store import MemoryStore, Store
from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.codec import MSGPACK, Codec, encode_payload
from packs.codes import Code
from packs.enums import ControlCommand
from packs.flags import COUNTER
from packs.ids import is_group_id, is_user_id
from packs.pack import VERSION, Pack

LOGIN_SECONDS = 10.0
"""How long `connect` waits, unless told otherwise."""
SEND_SECONDS = 30.0
"""How long `send` waits, unless told otherwise."""
MAX_EXPANSION = 8
"""No codec writes a payload more than this many times as long as it is."""


class Client:
    """See the package's docstring for an example. All times in seconds."""

    groups: Groups
    friends: Friends
    profiles: Profiles
    sessions: Sessions
    presence: Presences
    devices: Devices
    pushes: Pushes
    monitor: Monitor

    def __init__(
        self, address: str | Sequence[str], user: str, password: str = "", *, device_type: int = 5,
        device_id: str = "python", codec: Codec = MSGPACK, tls: ssl.SSLContext | None = None, compress: int = 0,
        on_message: Callable[[Message], None] | None = None, on_event: Callable[[Event], None] | None = None,
        store: Store | None = None, window: int = 16, catch_up: bool = True, outbox: int = OUTBOX,
        mailbox: int = MAILBOX,
    ) -> None:  # fmt: skip
        """`address`: "host:port" or several, tried in turn. `password`: or a token. `device_type`: one connection of
        each is there at a time. `compress`: payloads of at least so many bytes are compressed (msgpack only).

        `on_message` and `on_event`, if given, get messages and everything else on the reader's thread instead of
        `messages` and `events`; they may send with `wait=False`, and ask nothing that has to be waited for.
        `catch_up`: deliver what is unread in sessions that `store` does not know. `window`: messages of a session that
        are under way at once. `outbox`: messages that may wait for their acknowledgement; over that, `send` raises
        `OutboxFull`. `mailbox`: messages and events that may wait for the program; over that, messages are left on the
        server until there is room, and other events are dropped (`Missed` says how many).
        Raises `ValueError` for an address that is none.
        """
        self.user = user
        self._addresses = [address] if isinstance(address, str) else list(address)
        for each in self._addresses:
            parse_address(each)
        login = s.LoginReq(client_id=user, password=password, device_type=device_type, device_id=device_id)
        self._how = How(codec, tls, login, compress)
        self._engine = Engine(
            user, store or MemoryStore(), Outbox(window, limit=outbox), catch_up, mailbox, on_message, on_event
        )
        self._reader: Reader | None = None
        request = self._engine.requests.request
        self.groups = Groups(request)
        self.friends = Friends(request)
        self.profiles = Profiles(request)
        self.sessions = Sessions(user, request)
        self.presence = self._engine.presences
        self.devices = Devices(request)
        self.pushes = Pushes(request)
        self.monitor = self._engine.monitor

    # ---- life

    def connect(self, timeout: float | None = LOGIN_SECONDS) -> Client:
        """Connect and log in; returns itself. May be called again after it failed, and after `close`.

        Raises `LoginRefused`, `ConnectionLost` when no address answers, or `NotAnswered` after `timeout`.
        """
        self.close()
        self._reader = reader = Reader(self._engine, self._addresses, self._how, f"imesh-{self.user}")
        try:
            reader.first_login.get(timeout, "login")
        except ClientError as error:
            self.close()
            raise (reader.refusal if isinstance(error, NotAnswered) and reader.refusal else error) from None
        return self

    def close(self) -> None:
        """Log out and end, within a second. What is unacknowledged, and what the program has not taken yet, stays in
        the store if that keeps anything; whoever waits for it gets `ConnectionLost`."""
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> Client:
        return self if self._reader is not None else self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        return self._engine.connection is not None

    @property
    def unacknowledged(self) -> int:
        """Messages that are not known to be stored yet."""
        return len(self._engine.outbox)

    # ---- messages

    def send(
        self, to: str, content: str, *, content_type: int = 1, mentions: Sequence[str] = (), flags: int = COUNTER,
        wait: bool = True, timeout: float | None = SEND_SECONDS, done: Done | None = None,
    ) -> Sent | None:  # fmt: skip
        """Send a message to a user, or to a group by its id.

        Waits until it is stored, also across reconnects, and returns its numbers; with `wait=False` returns at once,
        and `done(sent, error)`, if given, is called later. `flags`: with `packs.flags.HIGH_PRIORITY` it is also kept
        where nobody misses it, without COUNTER it does not count as unread. Raises `Refused`; `OutboxFull`;
        `ConnectionLost` when the client is closed; or `NotAnswered` after `timeout`: it is still in the outbox then
        and may be stored later.
        """
        group = is_group_id(to)
        if not group and not is_user_id(to):
            raise ValueError(f"{to!r} is no user or group id")
        session = session_of(self.user, to)
        payload = encode_payload(
            s.MsgReq(session_id=session, to=to, content=content, content_type=content_type, mentions=list(mentions))
        )
        pack_type = t.MSG_GROUP_CHAT if group else t.MSG_SINGLE_CHAT
        waiter = Waiter()
        completion: Done = waiter if wait else safely(done) if done is not None else nobody
        message = Outgoing(str(uuid.uuid4()), pack_type, session, payload, flags, completion)
        self._check_size(message)
        self._engine.send(message)
        if not wait:
            return None
        sent: Sent = waiter.get(timeout, f"message to {to}")
        return sent

    def _check_size(self, message: Outgoing) -> None:
        """A frame over the server's limit would cost the connection, again and again."""
        limit = self._engine.max_frame
        if len(message.payload) * MAX_EXPANSION < limit:
            return
        pack = Pack(message.pack_type, VERSION, message.flags, message.pack_id, message.payload)
        if len(self._how.codec.encode_frame(pack)) > limit:
            raise Refused(Code.MSG_TOO_LONG, f"message is longer than a frame of {limit} bytes")

    def revoke(self, message: Message | Sent) -> None:
        """Take a message back: others see that there was one, and no longer what it said. Only one's own, for as long
        as the server allows; a group's owner may always, with any message of the group. Raises `Refused`."""
        self._control(message, ControlCommand.REVOKE)

    def edit(self, message: Message | Sent, content: str) -> None:
        """Replace what a message says; allowed as `revoke` is."""
        self._control(message, ControlCommand.OVERRIDE, content)

    def delete(self, message: Message | Sent) -> None:
        """Remove a message for everybody, without a trace; allowed as `revoke` is, at any time."""
        self._control(message, ControlCommand.DELETE)

    def _control(self, message: Message | Sent, command: ControlCommand, content: str = "") -> None:
        payload = s.MsgControl(
            command=int(command), session_id=message.session_id, pack_id=message.pack_id, seq_id=message.seq_id,
            content=content,
        )  # fmt: skip
        self.request(t.MSG_CTRL, payload)

    def mark_read(self, where: str, seq_id: int | None = None) -> None:
        """Everything of a session up to and including `seq_id` (None: the newest) is read. Never moves back. One's
        other devices, and the peer of a single chat, get a `Read`. `where`: a user, a group or a session."""
        self.sessions.mark_read(where, seq_id)

    def typing(self, where: str, on: bool = True) -> None:
        """Let the others in a conversation know that something is being written. Does not wait, and may be lost."""
        self.ask(t.TYPING, x.Typing(session_id=session_of(self.user, where), typing=int(on)))

    # ---- receiving

    def messages(self, timeout: float | None = None) -> Iterator[Message]:
        """Received messages as they come, each once, in order per session; also those that one has sent from another
        device. Ends at `close`, or after `timeout` seconds without one. Other events are dropped."""
        return self._engine.mailbox.messages(timeout)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Messages and everything else of `client.events`, in the order in which it happened. Use this or `messages`,
        not both."""
        return self._engine.mailbox.events(timeout)

    def history(self, where: str, before: int = 0, count: int = 30) -> list[Message]:
        """A page of messages of a session, newest first: from `before` (inclusive; 0: the newest) downwards."""
        return self.sessions.history(where, before, count)

    def scroll(self, where: str, before: int = 0) -> Iterator[Message]:
        """All messages of a session, newest first, fetched as they are taken."""
        return self.sessions.scroll(where, before)

    def search(
        self, text: str, where: str = "", *, sender: str = "", since: int = 0, until: int = 0
    ) -> Iterator[Message]:  # fmt: skip
        """Messages that have all words of `text`, newest first, fetched as they are taken (`Sessions.search`)."""
        return self.sessions.search(text, where, sender=sender, since=since, until=until)

    def hot_sessions(self) -> list[HotSession]:
        """All recent sessions with their unread counts, ascending by activity."""
        return self.sessions.hot()

    # ---- anything else

    def request(
        self, pack_type: int, payload: s.Payload | None = None, timeout: float = REQUEST_SECONDS
    ) -> Any:  # fmt: skip
        """Any request of the protocol; its answer. It is made again while its outcome is unknown.
        Raises `Refused`, `ConnectionLost` or `NotAnswered`."""
        return self._engine.requests.request(pack_type, payload, timeout)

    def ask(self, pack_type: int, payload: s.Payload | None = None, done: Done = nobody) -> None:
        """As `request`, once and without waiting: `done(answer, error)` is called on the reader's thread."""
        self._engine.requests.ask(pack_type, payload, safely(done))
