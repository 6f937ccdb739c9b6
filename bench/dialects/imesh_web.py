"""imesh's protocol in msgpack over WebSocket: chats and logins; no groups, no catching up."""

from __future__ import annotations

import socket

from bench.dialects import Peer, dial, until
from bench.dialects.imesh import Imesh
from packs.websocket import BINARY, message, unmasked

_SHAKE = (
    b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_MASK = b"\x37\xfa\x21\x3d"
_MASKED = 0x80


class ImeshWeb(Imesh):
    """A dialect."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = "ws"

    def _dial(self, address: tuple[str, int]) -> socket.socket:
        sock = dial(address)
        sock.sendall(_SHAKE)
        until(Peer("handshake", sock), b"\r\n\r\n")
        return sock

    def _framed(self, body: bytes) -> bytes:
        frame = message(BINARY, body)
        head = len(frame) - len(body)
        return bytes((frame[0], frame[1] | _MASKED)) + frame[2:head] + _MASK + unmasked(body, _MASK)

    def _bodies(self, peer: Peer, data: bytes) -> list[bytes]:
        found = []
        data = peer.rest + data
        start, end = 0, len(data)
        while end - start >= 2:
            size, at = data[start + 1], start + 2
            if size == 126:
                at += 2
                size = int.from_bytes(data[start + 2 : at], "big") if at <= end else end
            if at + size > end:
                break
            found.append(data[at : at + size])
            start = at + size
        peer.rest = data[start:]
        return found
