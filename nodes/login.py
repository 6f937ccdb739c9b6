"""How a connection of the broker becomes a user's, and ceases to be.

    LOGIN -> form (20) -> user.login (21, 24, 7) -> subscribe the user's topic at every publisher, wait for them
    -> read his groups, subscribe their topics, wait (nodes/memberships.py)
    -> user.enter: a number; older logins of the device type are kicked out -> answer

The topic is subscribed before the number is given, so that the kick of any later login reaches this broker. From the
answer on every publication reaches the connection or is announced by a hint to resync.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from mesh.contract import start
from mesh.errors import AppError, CallError, Overloaded
from mesh.loop import now
from nodes import publications
from nodes.contracts import Accepted, Login, Origin
from nodes.monitors import Listener
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.connection import CloseReason
from packs.enums import DeviceType
from packs.errors import PayloadError
from packs.flags import ACK
from packs.frames import MAX_FRAME_BEFORE_LOGIN
from packs.ids import is_device_id, is_user_id
from packs.pack import Pack
from packs.structs import LoginReq, LoginResp
from packs.table import LOGIN
from store.devices import record

if TYPE_CHECKING:
    from nodes.broker import BrokerNode
    from nodes.client import Client

DEVICE_TYPES = range(1, 16)
OVERLOADED_MS = 1000
"""When a client that met an overloaded system may try again."""
RECHECK_BATCH = 500
"""Logins asked after at once when publications were lost."""
DEVICE_NAME_MAX = 64
"""Characters that are kept."""
UNREPORTED_MAX = 100_000
"""Ended logins that wait for a user node."""
UNKNOWN = 0
"""The number of a login of which nobody said whether it was entered."""
ALL_TYPES = 0
"""In a kick: whatever the device type."""
SERVER = "imesh/0.1.0"


Ended = tuple[str, int, int, int, bool, str]
"""A login that ended: user, device type, number, when, whether it logged out, connection."""


class Attempt:
    """A login under way."""

    __slots__ = ("device", "entered", "issued", "kicked_by", "login", "monitor", "pack", "topics", "user")

    def __init__(self, pack: Pack, login: Login, device: bytes) -> None:
        self.pack = pack
        self.login = login
        self.device = device  # as it is kept
        self.user = ""
        self.issued = 0  # when his token was (s)
        self.monitor = False  # may listen to sessions of others
        self.topics: list[str] = []  # subscribed for it
        self.entered = False  # among those whose groups are known here
        self.kicked_by = 0  # the highest number that a kick named meanwhile


class Logins:
    """Logins of one broker."""

    def __init__(self, broker: BrokerNode) -> None:
        self._broker = broker
        self._pending: dict[str, list[Client]] = {}  # user -> connections whose login is under way
        self._unreported: list[Ended] = []
        self._phones = bool(broker.process.topology.instances("push"))  # whether somebody asks where phones are

    # ---- the steps

    def request(self, client: Client, pack: Pack) -> None:
        """A pack of a connection that has not logged in, or a LOGIN."""
        if pack.type != LOGIN or client.login is not None:
            self._broker.refuse(client, pack, Code.CONN_DENIED)
            client.close(CloseReason.DENIED.value)
            return
        if wait := self._broker.limits.login(client.peer):
            self._fail(client, pack, Code.REFUSED, "too many logins from your address", int(wait * 1000) + 1)
            return
        try:
            message = decode_payload(LoginReq, client.canonical(pack, MAX_FRAME_BEFORE_LOGIN))
        except PayloadError as error:
            self._fail(client, pack, error.code, error.desc)
            return
        good = is_user_id(message.client_id) and is_device_id(message.device_id) and message.device_type in DEVICE_TYPES
        if not good:
            self._fail(client, pack, Code.CONN_IDENTITY)
            return
        self._forget(client)  # logging in again replaces who it was
        login = Login(
            message.client_id, message.user_name, message.password, message.device_type, message.device_id, client.peer
        )
        device = record(message.device_id, message.device_name[:DEVICE_NAME_MAX], client.name)
        attempt = client.login = Attempt(pack, login, device)
        user_node = self._broker.user
        start(user_node.login, lambda accepted, error: self._checked(client, attempt, accepted, error), login)

    def _checked(self, client: Client, attempt: Attempt, accepted: Accepted | None, error: Exception | None) -> None:
        if not client.open:
            return
        if accepted is None:
            self._refused(client, attempt, error)
            return
        user, attempt.monitor, attempt.issued = accepted
        attempt.user = user
        attempt.topics = self._topics(user, attempt.login.device_type)
        self._pending.setdefault(user, []).append(client)
        self._broker.process.fanout.subscribe(
            attempt.topics,
            lambda whole: self._subscribed(client, attempt),
            late=lambda: self._broker.hint_resync(client),
        )

    def _subscribed(self, client: Client, attempt: Attempt) -> None:
        if not client.open:
            return  # `leave` has unsubscribed
        attempt.entered = True
        self._broker.memberships.enter(attempt.user, lambda: self._grouped(client, attempt))

    def _grouped(self, client: Client, attempt: Attempt) -> None:
        if not client.open:
            return
        user_node = self._broker.user
        start(
            user_node.enter,
            lambda number, error: self._entered(client, attempt, number, error),
            attempt.user, attempt.login.device_type, attempt.device, attempt.issued,
        )  # fmt: skip

    def _entered(self, client: Client, attempt: Attempt, number: int | None, error: Exception | None) -> None:
        unknown = isinstance(error, CallError) and error.ran != "no"
        if not client.open or unknown:
            if number is not None or unknown:
                self._ended(client, attempt.user, attempt.login.device_type, number or UNKNOWN)
            if not client.open:
                return
        if number is None:
            self._refused(client, attempt, error)
            return
        self._no_longer_pending(client, attempt)
        client.login = None
        client.number = number
        client.connection.login()
        client.listener = Listener(client) if attempt.monitor else None
        client.limits = self._broker.limits.of_user(attempt.user)
        login = attempt.login
        client.origin = Origin(attempt.user, login.device_type, login.device_id, client.name, client.peer, others=False)
        online = self._broker.online.setdefault(attempt.user, [])
        online.append(client)
        _note_others(online)
        self._broker.memberships.came(attempt.user, client)
        settings = self._broker.settings
        extra = msgspec.json.encode(
            {
                "heartbeat": settings.heartbeat, "maxFrame": settings.max_frame, "maxPayload": self._broker.max_payload,
                "server": SERVER,
            }
        ).decode()  # fmt: skip
        response = encode_payload(LoginResp(client_id=attempt.user, extra_data=extra))
        client.send(Pack(LOGIN, attempt.pack.version, attempt.pack.flags | ACK, attempt.pack.pack_id, response))
        if attempt.kicked_by > number:
            self._broker.kicked_out(client)

    def _topics(self, user: str, device_type: int) -> list[str]:
        """What a connection holds."""
        phone = self._phones and device_type in (DeviceType.IOS, DeviceType.ANDROID)
        return [publications.USER + user, publications.MOBILE + user] if phone else [publications.USER + user]

    # ---- refusals

    def _refused(self, client: Client, attempt: Attempt, error: Exception | None) -> None:
        if isinstance(error, AppError):
            self._fail(client, attempt.pack, error.code, error.text, error.retry_after)
        elif isinstance(error, Overloaded):
            self._fail(client, attempt.pack, Code.REFUSED, "overloaded", OVERLOADED_MS)
        else:
            self._fail(client, attempt.pack, Code.UNAVAILABLE)

    def _fail(self, client: Client, pack: Pack, code: int, text: str = "", retry_after: int = 0) -> None:
        self._broker.refuse(client, pack, code, text, retry_after)
        client.close(CloseReason.LOGIN_FAILED.value)

    # ---- the end

    def leave(self, client: Client) -> None:
        """The connection is over."""
        attempt = client.login
        if attempt is not None:
            client.login = None
            if attempt.topics:
                self._no_longer_pending(client, attempt)
                self._broker.process.fanout.unsubscribe(attempt.topics)
            if attempt.entered:
                self._broker.memberships.leave(attempt.user)
        self._forget(client)

    def _forget(self, client: Client) -> None:
        """The connection is nobody's any more. Removes its own entry only."""
        origin, client.origin = client.origin, None
        if origin is None:
            return
        listener, client.listener = client.listener, None
        if listener is not None:
            self._broker.monitors.leave(listener, origin)
        self._broker.memberships.went(origin.user, client)
        self._broker.watches.leave(client)
        online = self._broker.online.get(origin.user, [])
        if client in online:
            online.remove(client)
            _note_others(online)
            if not online:
                del self._broker.online[origin.user]
        self._broker.process.fanout.unsubscribe(self._topics(origin.user, origin.device_type))
        self._broker.memberships.leave(origin.user)
        self._ended(client, origin.user, origin.device_type, client.number)

    def _ended(self, client: Client, user: str, device_type: int, number: int) -> None:
        """The connection of a login ended: have it noted, again if need be."""
        when = int((time.time() - (now() - client.heard)) * 1000)
        self._report((user, device_type, number, when, client.goodbye is not None, client.name))

    def _report(self, ended: Ended) -> None:
        def noted(_: None, error: Exception | None) -> None:
            if error is not None and len(self._unreported) < UNREPORTED_MAX:
                self._unreported.append(ended)

        start(self._broker.user.left, noted, *ended)

    def report(self) -> None:
        """Try again what could not be noted. Once a second."""
        ended, self._unreported = self._unreported, []
        for login in ended:
            self._report(login)

    def _no_longer_pending(self, client: Client, attempt: Attempt) -> None:
        waiting = self._pending.get(attempt.user, [])
        if client in waiting:
            waiting.remove(client)
            if not waiting:
                del self._pending[attempt.user]

    # ---- one connection per user and device type

    def kick_out(self, user: str, device_type: int, number: int) -> None:
        """Of a device type, only the login with this number or a higher one stays."""
        for client in list(self._broker.online.get(user, ())):
            self._kick(client, device_type, number)
        for client in self._pending.get(user, ()):
            attempt: Attempt = client.login
            if device_type in (ALL_TYPES, attempt.login.device_type):
                attempt.kicked_by = max(attempt.kicked_by, number)  # its own number is still to come

    def _kick(self, client: Client, device_type: int, number: int) -> None:
        origin = client.origin
        if origin is not None and device_type in (ALL_TYPES, origin.device_type) and client.number < number:
            self._broker.kicked_out(client)

    def recheck(self) -> None:
        """Publications were lost, kicks perhaps among them: ask which logins are still the newest."""
        clients = [c for clients in self._broker.online.values() for c in clients]
        for i in range(0, len(clients), RECHECK_BATCH):
            self._recheck(clients[i : i + RECHECK_BATCH])

    def _recheck(self, clients: list[Client]) -> None:
        asked = [(c, c.origin.user, c.origin.device_type) for c in clients if c.origin is not None]

        def answered(newest: tuple[int, ...] | None, error: Exception | None) -> None:
            if newest is None:
                return  # the next loss asks again; the login that kicked is announced to the client itself
            for (client, user, device_type), number in zip(asked, newest, strict=True):
                if client.origin is not None and client.origin.user == user:
                    self._kick(client, device_type, number)

        start(self._broker.user.newest, answered, tuple((user, device_type) for _, user, device_type in asked))


def _note_others(online: list[Client]) -> None:
    """Tell each connection of a user whether there are others here (a message's sender has copies to send, or not)."""
    others = len(online) > 1
    for client in online:
        if client.origin is not None and client.origin.others != others:
            client.origin = client.origin._replace(others=others)
