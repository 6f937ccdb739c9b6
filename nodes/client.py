"""One client connection of the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.streams import Stream, Streams
from nodes.contracts import Origin
from nodes.limits import UserLimits
from nodes.settings import BrokerSettings
from packs.codec import MSGPACK, Codec, inflate
from packs.connection import CloseReason, ServerConnection, Violation
from packs.flags import COMPRESS_MASK, COMPRESS_ZLIB, CRYPTO_MASK
from packs.pack import Pack

if TYPE_CHECKING:
    from nodes.broker import BrokerNode
    from nodes.monitors import Listener

IDLE_HEARTBEATS = 2
"""Heartbeats without a byte after which a connection is closed."""


class Client(Stream):
    """Bytes to packs and back, and what the broker knows of this connection."""

    __slots__ = (
        "_since", "broker", "connection", "goodbye", "limits", "listener", "login", "name", "number", "origin",
        "quarantined", "unanswered",
    )  # fmt: skip

    def __init__(
        self, broker: BrokerNode, streams: Streams, sock: Any, peer: str, name: str, connection: ServerConnection
    ) -> None:
        super().__init__(streams, sock, peer)
        self.broker = broker
        self.name = name  # unique for ever
        self.connection = connection
        self.origin: Origin | None = None  # None until logged in
        self.login: Any = None  # a login under way (nodes.login)
        self.number = 0  # of the login
        self.limits: UserLimits | None = None  # of the user
        self.listener: Listener | None = None  # for who has the right to listen to sessions of others
        self.unanswered = 0
        self.goodbye: Pack | None = None  # a LOGOUT that waits for the answers to what was asked before it
        self.quarantined: dict[str, tuple[str, float]] | None = None  # session -> its first failed message, until when
        self._since = streams.time  # connected, or the first byte of an unfinished frame

    @property
    def codec(self) -> Codec:
        return self.connection.codec or MSGPACK

    def received(self, data: bytes) -> None:
        connection = self.connection
        if not connection.pending:
            self._since = self.heard if self.origin is not None else self._since
        try:
            packs = connection.receive(data)
        except Violation as violation:
            if connection.has_replies:
                self.write(connection.replies())
            if violation.packs:
                self.broker.packs_came(self, violation.packs)
            self.close(violation.reason.value)
            return
        if connection.has_replies:
            self.write(connection.replies())
        if packs:
            if self.origin is not None:
                self._since = self.heard  # of what is left, if anything
            self.broker.packs_came(self, packs)

    def close(self, reason: str) -> None:
        farewell = self.connection.farewell(CloseReason(reason))
        if farewell:
            self.write(farewell)
        super().close(reason)

    def lost(self, reason: str) -> None:
        self.connection.close()
        self.broker.lost(self, reason)

    def send(self, pack: Pack) -> None:
        """Write a pack with a canonical payload in the connection's codec."""
        self.write(self.codec.encode_frame(pack))

    def canonical(self, pack: Pack, limit: int) -> bytes:
        """The request's payload as nodes take it. Raises `PayloadError`."""
        payload = pack.payload
        if pack.flags & (COMPRESS_MASK | CRYPTO_MASK):
            if pack.flags & COMPRESS_MASK == COMPRESS_ZLIB and not pack.flags & CRYPTO_MASK:
                payload = self.codec.compressed(payload)
            pack.flags, payload = inflate(pack.flags, payload, limit)
        return self.codec.canonical(pack.type, payload)

    def overdue(self, time: float, settings: BrokerSettings) -> CloseReason | None:
        """Whether a deadline has passed, and which."""
        if self.origin is None:
            if time - self._since > settings.login_timeout and self.login is None:
                return CloseReason.LOGIN_TIMEOUT
        elif time - self.heard > settings.heartbeat * IDLE_HEARTBEATS:
            return CloseReason.IDLE
        if self.connection.pending and time - self._since > settings.frame_timeout:
            return CloseReason.FRAME_TIMEOUT
        return None

    def quarantine(self, session: str, pack_id: str, until: float) -> None:
        """A message failed: until it comes again, or for some time, nothing else of its session passes."""
        if self.quarantined is None:
            self.quarantined = {}
        first, _ = self.quarantined.get(session, (pack_id, until))
        self.quarantined[session] = first, until

    def is_quarantined(self, session: str, pack_id: str, time: float) -> bool:
        """Whether a message comes too early after a failed one of its session. That one itself ends the wait."""
        if self.quarantined is None or session not in self.quarantined:
            return False
        first, until = self.quarantined[session]
        if pack_id != first and time < until:
            return True
        del self.quarantined[session]
        return False
