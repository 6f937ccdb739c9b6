"""A client that speaks WebSocket over raw TCP: a second reading of RFC 6455, apart from the server's."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from typing import Any

from packs.codec import JSON
from packs.pack import Pack
from tests.raw import Raw

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, payload: bytes, *, last: bool = True, mask: bytes = b"\x37\xfa\x21\x3d", bits: int = 0) -> bytes:
    """A frame of a client; without bytes to mask with (b""), one that is not masked. (Frames name tests, so the mask is
    always the same.)"""
    size = len(payload)
    masked = 0x80 if mask else 0
    if size < 126:
        head = struct.pack(">BB", last << 7 | bits | opcode, masked | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", last << 7 | bits | opcode, masked | 126, size)
    else:
        head = struct.pack(">BBQ", last << 7 | bits | opcode, masked | 127, size)
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + payload


class WebRaw(Raw):
    """One WebSocket connection."""

    def __init__(self, address: tuple[str, int], *, shake: bool = True, origin: str = "", **options: Any) -> None:
        super().__init__(address, **options)
        self.controls: list[tuple[int, bytes]] = []
        """Opcode and payload of control frames that came."""
        self._rest = b""
        if shake:
            key = base64.b64encode(os.urandom(16)).decode()
            head = self.shake(key, *([f"Origin: {origin}"] if origin else []))
            assert head.startswith("HTTP/1.1 101 "), head
            accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
            assert f"Sec-WebSocket-Accept: {accept}\r\n" in head

    def shake(self, key: str, *headers: str, request: str = "GET /chat?x=1 HTTP/1.1") -> str:
        """Send a handshake, whose usual headers `headers` replace; the head of the answer."""
        usual = {
            "host": "h", "upgrade": "websocket", "connection": "keep-alive, Upgrade", "sec-websocket-key": key,
            "sec-websocket-version": "13",
        }  # fmt: skip
        for header in headers:
            usual.pop(header.partition(":")[0].lower(), None)
        lines = [request, *(f"{name}: {value}" for name, value in usual.items()), *headers]
        self.send_bytes(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self.head()

    def head(self) -> str:
        """The head of an HTTP answer; packs behind it are kept."""
        while b"\r\n\r\n" not in self._rest:
            data = self.sock.recv(65536)
            assert data, "the server closed the connection"
            self._rest += data
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 "):
            self._packs += self.packs_of(b"")
        return head.decode() + "\r\n"

    def send_body(self, body: bytes) -> None:
        self.send_bytes(frame(TEXT if self.codec is JSON else BINARY, body))

    def packs_of(self, data: bytes) -> list[Pack]:
        self._rest += data
        packs = []
        while (found := self._frame()) is not None:
            opcode, payload = found
            if opcode in (TEXT, BINARY):
                assert opcode == (TEXT if self.codec is JSON else BINARY)
                packs += super().packs_of(struct.pack(">I", len(payload) + 4) + payload)
            else:
                self.controls.append(found)
        return packs

    def _frame(self) -> tuple[int, bytes] | None:
        data = self._rest
        if len(data) < 2:
            return None
        size, at = data[1], 2
        assert data[0] & 0xF0 == 0x80 and size < 128, "whole and not masked"
        if size >= 126:
            at = 4 if size == 126 else 10
            if len(data) < at:
                return None
            size = int.from_bytes(data[2:at], "big")
        if len(data) < at + size:
            return None
        self._rest = data[at + size :]
        return data[0] & 0x0F, data[at : at + size]

    def closing(self) -> tuple[int, str]:
        """Code and reason of the Close that the server sends at the end; what came before it is read away."""
        self.rest()
        opcode, payload = self.controls[-1]
        assert opcode == CLOSE
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
