"""One client connection as a state machine, both ends of it, without I/O: bytes in, packs out.

A violation ends the connection, and it is raised at once: `Violation.packs` holds what came before it in the same
bytes, complete and in order. The owner answers those, closes, and feeds nothing more (what is fed is ignored).

Deadlines are the owner's: for LOGIN while `state` is NEW, for a frame while `pending` is not 0, for silence always.
Ten thousand idle connections wait in memory, so nothing here has a `__dict__`, and buffers exist only while in use.
"""

from __future__ import annotations

from enum import Enum
from typing import NoReturn

from packs.codec import BY_FIRST_BYTE, MSGPACK, BadPack, Codec, PayloadError, encode_payload
from packs.flags import ACK
from packs.frames import MAX_FRAME, MAX_FRAME_BEFORE_LOGIN, FrameError, FrameReader
from packs.ids import is_pack_id
from packs.pack import VERSION, Pack
from packs.structs import Payload


class CloseReason(Enum):
    """Why a connection was closed, on either end; the value names it in logs and counters."""

    BAD_LENGTH = "bad_length"
    """A frame length outside the limits."""
    UNKNOWN_CODEC = "unknown_codec"
    """The first body begins with no codec's first byte."""
    CODEC_CHANGED = "codec_changed"
    """A later body is in another codec."""
    BAD_HEADER = "bad_header"
    """A header that does not decode."""
    BAD_WEBSOCKET = "bad_websocket"
    """No WebSocket handshake, or a frame against its rules."""
    BAD_PACK_ID = "bad_pack_id"
    """A request whose packId is malformed."""
    BAD_PAYLOAD = "bad_payload"
    """The server sent a payload that does not decode; a client's one is answered instead."""
    LOGIN_TIMEOUT = "login_timeout"
    """Connected and did not log in."""
    FRAME_TIMEOUT = "frame_timeout"
    """Began a frame and did not finish it."""
    IDLE = "idle"
    """Not a byte for two heartbeat periods."""
    LOGIN_FAILED = "login_failed"
    """LOGIN was answered with an error."""
    DENIED = "denied"
    """Asked for something before LOGIN, or was disabled."""
    KICKED = "kicked"
    """The same user logged in with the same device type elsewhere."""
    LOGOUT = "logout"
    """The client asked for it."""
    SLOW_READER = "slow_reader"
    """Did not read what was sent to it."""
    OVERLOADED = "overloaded"
    """The server has no room for it."""
    DRAINING = "draining"
    """The server is stopping."""
    EOF = "eof"
    """The other side closed."""
    IO_ERROR = "io_error"
    """The transport failed."""
    INTERNAL = "internal"
    """Our own error."""


class ConnState(Enum):
    """Where a connection is in its life."""

    NEW = "new"
    LOGGED_IN = "logged_in"
    CLOSED = "closed"


class Violation(Exception):
    """The other side broke the protocol; close the connection. `packs` came before that and are good."""

    def __init__(self, reason: CloseReason, packs: list[Pack]) -> None:
        self.reason = reason
        self.packs = packs
        super().__init__(reason.value)


class ServerConnection:
    """The server's end. The codec is that of the client's first body and None before it."""

    __slots__ = ("_frames", "_max_frame", "codec", "state")

    codecs = BY_FIRST_BYTE
    has_replies = False
    """Whether there is something in `replies`."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        """`max_frame` in bytes holds from `login` on; before that it is at most 16 KiB."""
        self.codec: Codec | None = None
        self.state = ConnState.NEW
        self._max_frame = max_frame
        self._frames = FrameReader(min(max_frame, MAX_FRAME_BEFORE_LOGIN))

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame, 0 for none."""
        return self._frames.pending

    def login(self) -> None:
        """LOGIN succeeded: larger frames are accepted from now on. Calling it again changes nothing."""
        if self.state is ConnState.NEW:
            self.state = ConnState.LOGGED_IN
            self._frames.limit = self._max_frame

    def close(self) -> None:
        """The connection is over; a half frame is dropped and later bytes are ignored."""
        self.state = ConnState.CLOSED
        self._frames = FrameReader()

    def receive(self, data: bytes) -> list[Pack]:
        """Take the next bytes; return the packs that they complete, payloads still in the connection's codec.

        Packs with ACK set are passed on unchecked: they are no requests. Raises `Violation`, see above.
        """
        if self.state is ConnState.CLOSED:
            return []
        reason = None
        try:
            bodies = self._frames.feed(data)
        except FrameError as error:
            bodies, reason = error.bodies, CloseReason(error.reason)
        packs: list[Pack] = []
        for body in bodies:
            codec = self.codec
            if codec is None:
                codec = self.codec = self.codecs.get(body[0])
                if codec is None:
                    self._fail(CloseReason.UNKNOWN_CODEC, packs)
            if body[0] != codec.first_byte:
                self._fail(CloseReason.CODEC_CHANGED, packs)
            try:
                pack = codec.decode(body)
            except BadPack:
                self._fail(CloseReason.BAD_HEADER, packs)
            if not (is_pack_id(pack.pack_id) or pack.flags & ACK):
                self._fail(CloseReason.BAD_PACK_ID, packs)
            packs.append(pack)
        if reason is not None:
            self._fail(reason, packs)
        return packs

    def replies(self) -> bytes:
        """What the transport's own rules make us write now."""
        return b""

    def nudge(self, silent_since: float) -> bytes:
        """What asks the other side for a sign of life, once in each silence, where it answers without the app."""
        return b""

    def farewell(self, reason: CloseReason) -> bytes:
        """What is to be written before the connection is closed for this reason."""
        return b""

    def _fail(self, reason: CloseReason, packs: list[Pack]) -> NoReturn:
        self.close()
        raise Violation(reason, packs) from None


class ClientConnection:
    """The client's end. It chooses the codec and sees canonical payloads only."""

    __slots__ = ("_frames", "closed", "codec")

    def __init__(self, codec: Codec = MSGPACK, max_frame: int = MAX_FRAME) -> None:
        """`max_frame` in bytes: the largest frame taken from the server."""
        self.codec = codec
        self.closed = False
        self._frames = FrameReader(max_frame)

    def request(self, type_: int, payload: Payload | bytes, pack_id: str, flags: int = 0) -> bytes:
        """The frame of a request; `payload` is a struct or canonical. Raises `PayloadError` if bytes do not decode."""
        data = payload if isinstance(payload, bytes) else encode_payload(payload)
        return self.codec.encode_frame(Pack(type_, VERSION, flags, pack_id, data))

    def receive(self, data: bytes) -> list[Pack]:
        """Take the next bytes; return the packs that they complete, with canonical payloads. Raises `Violation`.

        Of a type that the table lacks, a JSON pack arrives with an empty payload: a newer server's push, to be ignored.
        """
        if self.closed:
            return []
        reason = None
        try:
            bodies = self._frames.feed(data)
        except FrameError as error:
            bodies, reason = error.bodies, CloseReason.BAD_LENGTH
        packs: list[Pack] = []
        codec = self.codec
        for body in bodies:
            try:
                pack = codec.decode(body)
                pack.payload = codec.canonical(pack.type, pack.payload, response=pack.flags & ACK != 0)
            except BadPack:
                reason = CloseReason.BAD_HEADER
                break
            except PayloadError:
                reason = CloseReason.BAD_PAYLOAD
                break
            packs.append(pack)
        if reason is not None:
            self.closed = True
            raise Violation(reason, packs)
        return packs
