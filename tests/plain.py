"""A client that is written from docs/protocol.md alone, with the plain libraries: what our own codecs could hide from
each other, it sees."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import struct
import zlib
from typing import Any, NamedTuple

import msgpack

from tests.raw import opened

ACK, ZLIB = 1, 1 << 6
LOGIN = 11

_ids = itertools.count(1)


class Got(NamedTuple):
    """A pack that came."""

    type: int
    flags: int
    pack_id: str
    payload: dict[str, Any]


class Plain:
    """One connection, in "msgpack" or "json"; `compress`: each request is."""

    def __init__(self, address: tuple[str, int], codec: str, compress: bool = False) -> None:
        self.sock = socket.create_connection(address, 8.0)
        self._codec = codec
        self._compress = compress
        self._waiting: list[Got] = []
        opened.append(self)  # type: ignore[arg-type]  # the end of the test closes it

    def close(self) -> None:
        self.sock.close()

    def login(self, user: str, device_type: int = 5, device_id: str = "dev") -> None:
        answer = self.ask(LOGIN, {"clientId": user, "deviceType": device_type, "deviceId": device_id})
        assert answer["errorCode"]["code"] == 0, answer

    # ---- out

    def send(self, number: int, payload: dict[str, Any], flags: int = 0) -> str:
        pack_id = f"plain{next(_ids)}"
        flags |= ZLIB if self._compress else 0
        body = self._json(number, flags, pack_id, payload) if self._codec == "json" else b""
        body = body or self._msgpack(number, flags, pack_id, payload)
        self.sock.sendall(struct.pack(">I", len(body) + 4) + body)
        return pack_id

    def _json(self, number: int, flags: int, pack_id: str, payload: dict[str, Any]) -> bytes:
        shown: Any = payload
        if self._compress:
            shown = base64.b64encode(zlib.compress(json.dumps(payload, ensure_ascii=False).encode())).decode()
        return json.dumps({"type": number, "version": 1, "flags": flags, "packId": pack_id, "payload": shown}).encode()

    def _msgpack(self, number: int, flags: int, pack_id: str, payload: dict[str, Any]) -> bytes:
        data = msgpack.packb(payload)
        body: bytes = msgpack.packb([number, 1, flags, pack_id, zlib.compress(data) if self._compress else data])
        return body

    # ---- in

    def ask(self, number: int, payload: dict[str, Any], flags: int = 0) -> dict[str, Any]:
        """Send a request; the payload of its answer. What came before it waits."""
        return self.answer(number, self.send(number, payload, flags), flags)

    def answer(self, number: int, pack_id: str, flags: int = 0) -> dict[str, Any]:
        """The payload of the answer to a request."""
        before = []
        while (got := self.next()).pack_id != pack_id or not got.flags & ACK:
            before.append(got)
        assert (got.type, got.flags) == (number, flags | ACK), "answers are never compressed"
        self._waiting = before + self._waiting
        return got.payload

    def push(self, number: int) -> Got:
        """The next push of a type; others are passed over."""
        while (got := self.next()).type != number or got.flags & ACK:
            pass
        return got

    def next(self) -> Got:
        if self._waiting:
            return self._waiting.pop(0)
        (length,) = struct.unpack(">I", self._read(4))
        return self.unpacked(self._decoded(self._read(length - 4)))

    def _decoded(self, body: bytes) -> Any:
        return json.loads(body) if self._codec == "json" else msgpack.unpackb(body)

    def unpacked(self, pack: Any) -> Got:
        """A pack as it lies in a frame or in a list."""
        if isinstance(pack, dict):
            assert pack["version"] == 1
            return Got(pack["type"], pack["flags"], pack["packId"], pack["payload"])
        number, version, flags, pack_id, payload = pack
        assert version == 1 and isinstance(payload, bytes)
        return Got(number, flags, pack_id, msgpack.unpackb(payload) if payload else {})

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "the server closed the connection"
            data += more
        return data
