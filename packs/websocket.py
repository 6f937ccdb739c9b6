"""WebSocket (RFC 6455), the server's end of it, without I/O: after the handshake one message is one body, without a
length. Binary messages are msgpack, text messages JSON.

    bytes -> handshake -> frames, unmasked -> messages, put together -> bodies      `WebSocketReader`, as `FrameReader`
    bodies -> one frame each                                                       `WEB_MSGPACK`, `WEB_JSON`

Pings are answered (of many in one read the last), a Close with a Close, and whoever breaks the rules is told so in one.
Who is silent is asked for a sign of life by a ping, which browsers answer by themselves, also in a hidden page. There
are no extensions and no subprotocols: compression is the packs' own.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Callable, Mapping
from hashlib import sha1
from struct import Struct
from typing import Final

from packs.codec import Codec, JsonCodec, MsgpackCodec
from packs.connection import CloseReason, ServerConnection
from packs.frames import MAX_FRAME, FrameError, FrameReader

MAX_HEAD: Final = 8192
"""Bytes of a handshake."""
MAX_CONTROL: Final = 125
"""Bytes in a ping, a pong or a Close."""

MAX_EMPTY: Final = 64
"""Control frames and empty fragments in one read: they cost as much as messages, and no limit counts them."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
"""Opcodes."""
FIN, MASKED, RESERVED, CONTROL = 0x80, 0x80, 0x70, 0x08
"""Bits of the first two bytes of a frame."""
NORMAL, GOING_AWAY, BROKEN, NO_TEXT, POLICY, TOO_BIG = 1000, 1001, 1002, 1007, 1008, 1009
"""Codes of a Close."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OPENING_BRACE = ord("{")
_PREFIX = 4  # of a frame on TCP, which limits count
_short, _long = Struct(">BBH").pack, Struct(">BBQ").pack

CLOSE_CODES = {
    CloseReason.LOGOUT: NORMAL, CloseReason.EOF: NORMAL, CloseReason.DRAINING: GOING_AWAY,
    CloseReason.BAD_LENGTH: TOO_BIG, CloseReason.UNKNOWN_CODEC: BROKEN, CloseReason.CODEC_CHANGED: BROKEN,
    CloseReason.BAD_HEADER: BROKEN, CloseReason.BAD_PACK_ID: BROKEN, CloseReason.BAD_WEBSOCKET: BROKEN,
}  # fmt: skip
"""What a Close says for each reason; for all others it is POLICY."""


class WebSocketError(FrameError):
    """The other side does not speak WebSocket, breaks its rules, or closes; see `FrameError`."""

    def __init__(self, reason: CloseReason, bodies: list[bytes]) -> None:
        super().__init__(0, bodies)
        self.reason = reason.value


IsAllowed = Callable[[str], bool]
"""Whether pages of an origin may connect. What is no browser sends no origin."""


def anybody(origin: str) -> bool:
    """Pages of any origin."""
    return True


def message(opcode: int, body: bytes) -> bytes:
    """A frame of the server: one whole message, or a control frame."""
    size = len(body)
    if size <= MAX_CONTROL:
        return bytes((FIN | opcode, size)) + body
    return (_short(FIN | opcode, 126, size) if size < 65_536 else _long(FIN | opcode, 127, size)) + body


def unmasked(data: bytes, mask: bytes) -> bytes:
    """What a client sent behind its mask; masking is the same."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


WEB_MSGPACK: Codec = MsgpackCodec(lambda body: message(BINARY, body))
WEB_JSON: Codec = JsonCodec(lambda body: message(TEXT, body))


# ---- the handshake


class Refusal(Exception):
    """A request that is no handshake; `answer` says so in HTTP."""

    def __init__(self, status: str, text: str, headers: str = "") -> None:
        body = text + "\n"
        self.answer = (
            f"HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}"
        ).encode()
        super().__init__(text)


def shake(head: bytes, is_allowed: IsAllowed) -> bytes:
    """The answer to a handshake, `head` without the empty line. Raises `Refusal`."""
    request, *lines = head.decode("latin-1").split("\r\n")
    headers = _headers(lines)
    method, _, rest = request.partition(" ")
    if not rest.endswith(" HTTP/1.1") or rest.count(" ") != 1:
        raise Refusal("400 Bad Request", "not an HTTP/1.1 request")
    if method != "GET":
        raise Refusal("405 Method Not Allowed", "a WebSocket begins with GET", "Allow: GET\r\n")
    if "websocket" not in _tokens(headers, "upgrade") or "upgrade" not in _tokens(headers, "connection"):
        upgrade = "Upgrade: websocket\r\n"
        raise Refusal("426 Upgrade Required", "this is a WebSocket port of imesh: connect with ws://", upgrade)
    if headers.get("sec-websocket-version") != "13":
        raise Refusal("426 Upgrade Required", "version 13 only", "Sec-WebSocket-Version: 13\r\n")
    if "host" not in headers:
        raise Refusal("400 Bad Request", "no header host")
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise Refusal("400 Bad Request", "Sec-WebSocket-Key is not 16 bytes of base64")
    origin = headers.get("origin")
    if origin is not None and not is_allowed(origin):
        raise Refusal("403 Forbidden", "pages of this origin may not connect: see ws_origins")
    accept = b64encode(sha1(key.encode() + _GUID).digest()).decode()
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def _headers(lines: list[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise Refusal("400 Bad Request", "a header that is none")
        name = name.lower()
        if name in found and (name in ("host", "origin", "sec-websocket-key", "sec-websocket-version")):
            raise Refusal("400 Bad Request", f"two headers {name}")
        found[name] = f"{found[name]}, {value.strip()}" if name in found else value.strip()
    return found


def _tokens(headers: Mapping[str, str], name: str) -> set[str]:
    return {token.strip().lower() for token in headers.get(name, "").split(",")}


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except (BadBase64, ValueError):
        return False


# ---- messages


class WebSocketReader(FrameReader):
    """Splits what one connection sends. `limit` is that of a frame on TCP."""

    __slots__ = ("_answer", "_close", "_code", "_empty", "_is_allowed", "_opcode", "_parts", "_pong", "open")

    def __init__(self, limit: int = MAX_FRAME, is_allowed: IsAllowed = anybody) -> None:
        super().__init__(limit)
        self.open = False  # the handshake is done, and no Close came
        self._is_allowed = is_allowed
        self._answer = self._pong = self._close = b""  # to the handshake, to the last ping, to a Close
        self._code = 0  # of the Close that is to be sent, where its reason is not enough
        self._empty = 0  # frames with nothing in them, in this read
        self._parts: bytearray | None = None  # of an unfinished message
        self._opcode = 0  # of that message

    @property
    def pending(self) -> int:
        """Bytes held of an unfinished frame or message, and one for a message that has none yet; 0 for nothing."""
        return super().pending + (0 if self._parts is None else len(self._parts) + 1)

    @property
    def has_replies(self) -> bool:
        """Whether there is something in `replies`."""
        return bool(self._pong or self._answer)

    def replies(self) -> bytes:
        """What must be written now."""
        replies, self._answer, self._pong = self._answer + self._pong, b"", b""
        return replies

    def farewell(self, reason: CloseReason) -> bytes:
        """What is still to be written to a connection that is closed now."""
        replies = self.replies() + self._close
        self._close = b""
        self._rest = self._parts = None
        if self.open:
            self.open = False
            code = self._code or CLOSE_CODES.get(reason, POLICY)
            replies += message(CLOSE, code.to_bytes(2, "big") + reason.value.encode())
        return replies

    # ---- inside

    def _broken(self, bodies: list[bytes], code: int = BROKEN) -> WebSocketError:
        self._code = code
        return WebSocketError(CloseReason.BAD_WEBSOCKET, bodies)

    def _split(self, data: bytes) -> list[bytes]:
        self._empty = 0
        if not self.open:
            data = self._shake(data)
        bodies: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= 2:
            stop = self._frame(data, start, end, bodies)
            if stop > end:
                self._need = stop - start
                break
            start = stop
        else:
            self._need = 0
        if start < end:
            self._rest = bytearray(memoryview(data)[start:])
        return bodies

    def _shake(self, data: bytes) -> bytes:
        """Answer the handshake when it is whole; returns what is behind it."""
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(data) < MAX_HEAD:
                self._rest, self._need = bytearray(data), 0
                return b""
            refusal = Refusal("431 Request Header Fields Too Large", f"more than {MAX_HEAD} bytes")
        else:
            try:
                self._answer = shake(data[:end], self._is_allowed)
                self.open = True
                return data[end + 4 :]
            except Refusal as error:
                refusal = error
        self._answer = refusal.answer
        raise WebSocketError(CloseReason.BAD_WEBSOCKET, [])

    def _frame(self, data: bytes, start: int, end: int, bodies: list[bytes]) -> int:
        """Take one frame; returns where it ends. When that is behind `end`, nothing was taken."""
        first, second = data[start], data[start + 1]
        size, at = second & 0x7F, start + 2
        if size > MAX_CONTROL:
            at += 2 if size == 126 else 8
            if at > end:
                return at
            size = int.from_bytes(data[start + 2 : at], "big")
            if size <= (MAX_CONTROL if at - start == 4 else 0xFFFF):
                raise self._broken(bodies)  # it would have fitted a shorter one
        if not second & MASKED or first & RESERVED:
            raise self._broken(bodies)
        if first & CONTROL and (size > MAX_CONTROL or not first & FIN):
            raise self._broken(bodies)
        if size + len(self._parts or b"") > self.limit - _PREFIX:
            raise WebSocketError(CloseReason.BAD_LENGTH, bodies)
        stop = at + 4 + size
        if stop > end:
            return stop
        payload = unmasked(data[at + 4 : stop], data[at : at + 4])
        opcode = first & 0x0F
        if opcode & CONTROL or not size:
            self._empty += 1
            if self._empty > MAX_EMPTY:
                raise self._broken(bodies, POLICY)
        if opcode & CONTROL:
            self._control(opcode, payload, bodies)
        elif (opcode == CONTINUATION) == (self._parts is None) or opcode > BINARY:
            raise self._broken(bodies)
        elif first & FIN and self._parts is None:
            self._message(opcode, payload, bodies)
        else:
            self._part(opcode, payload, bool(first & FIN), bodies)
        return stop

    def _part(self, opcode: int, payload: bytes, last: bool, bodies: list[bytes]) -> None:
        parts = self._parts
        if parts is None:
            self._opcode, self._parts = opcode, bytearray(payload)
            return
        parts += payload
        if last:
            self._parts = None
            self._message(self._opcode, bytes(parts), bodies)

    def _message(self, opcode: int, body: bytes, bodies: list[bytes]) -> None:
        if not body:
            self._code = BROKEN
            raise WebSocketError(CloseReason.BAD_LENGTH, bodies)
        if opcode == TEXT and not _is_text(body):
            raise self._broken(bodies, NO_TEXT)
        if (opcode == TEXT) != (body[0] == _OPENING_BRACE):
            raise WebSocketError(CloseReason.UNKNOWN_CODEC, bodies)
        bodies.append(body)

    def _control(self, opcode: int, payload: bytes, bodies: list[bytes]) -> None:
        if opcode == PING:
            self._pong = message(PONG, payload)  # of several the last one is answered
        elif opcode == CLOSE:
            if payload and not _is_code(payload[:2]):
                raise self._broken(bodies)
            if not _is_text(payload[2:]):
                raise self._broken(bodies, NO_TEXT)
            self._close = message(CLOSE, payload[:2])
            self.open = False
            raise WebSocketError(CloseReason.EOF, bodies)
        elif opcode != PONG:
            raise self._broken(bodies)


def _is_code(data: bytes) -> bool:
    """Whether a Close may say this."""
    code = int.from_bytes(data, "big")
    return len(data) == 2 and (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999)


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class WebSocketConnection(ServerConnection):
    """The server's end of a connection over WebSocket."""

    __slots__ = ("_pinged", "_web")

    codecs = {codec.first_byte: codec for codec in (WEB_MSGPACK, WEB_JSON)}

    def __init__(self, max_frame: int = MAX_FRAME, is_allowed: IsAllowed = anybody) -> None:
        super().__init__(max_frame)
        self._frames = self._web = WebSocketReader(self._frames.limit, is_allowed)
        self._pinged = 0.0  # the silence since this time was asked about

    @property
    def has_replies(self) -> bool:  # type: ignore[override]
        return self._web.has_replies

    def replies(self) -> bytes:
        return self._web.replies()

    def nudge(self, silent_since: float) -> bytes:
        if not self._web.open or self._pinged == silent_since:
            return b""
        self._pinged = silent_since
        return message(PING, b"")

    def farewell(self, reason: CloseReason) -> bytes:
        return self._web.farewell(reason)
