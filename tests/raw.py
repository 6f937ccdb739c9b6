"""A client that speaks the protocol over raw TCP, byte by byte if need be: what the server does is tested with this,
not with the SDK."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Any

import msgpack

from packs import structs as s
from packs import table as t
from packs.codec import JSON, MSGPACK, Codec, decode_payload
from packs.connection import ClientConnection
from packs.flags import ACK, COUNTER
from packs.pack import Pack
from packs.structs import Payload

_ids = itertools.count(1)
opened: list[Raw] = []
"""Connections of the running test; its end closes them."""


class Raw:
    """One TCP connection."""

    def __init__(
        self, address: tuple[str, int], codec: Codec = MSGPACK, tls: ssl.SSLContext | None = None, timeout: float = 8.0
    ) -> None:
        sock = socket.create_connection(address, timeout)
        self.sock: Any = tls.wrap_socket(sock, server_hostname="localhost") if tls else sock
        self.sock.settimeout(timeout)
        self.codec = codec
        self._machine = ClientConnection(codec)
        self._packs: list[Pack] = []
        self.closed = False
        opened.append(self)

    # ---- bytes

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_body(self, body: bytes) -> None:
        self.sock.sendall(struct.pack(">I", len(body) + 4) + body)

    def close(self) -> None:
        self.sock.close()

    # ---- packs

    def request(self, pack_type: int, payload: Payload | bytes = b"", pack_id: str = "", flags: int = 0) -> str:
        """Send a request; returns its packId."""
        pack_id = pack_id or f"p{next(_ids)}"
        self.send_body(self._machine.request(pack_type, payload, pack_id, flags)[4:])
        return pack_id

    def receive(self) -> Pack | None:
        """The next pack, or None when the server has closed the connection."""
        while not self._packs:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                return None
            self._packs += self.packs_of(data)
        return self._packs.pop(0)

    def packs_of(self, data: bytes) -> list[Pack]:
        """The packs that these bytes complete."""
        return self._machine.receive(data)

    def pack(self) -> Pack:
        """The next pack; the connection must not be closed."""
        pack = self.receive()
        assert pack is not None, "the server closed the connection"
        return pack

    def answer(self, pack_id: str) -> Any:
        """The decoded response to a request; what came before it stays for later."""
        before: list[Pack] = []
        while True:
            pack = self.pack()
            if pack.flags & ACK and pack.pack_id == pack_id:
                self._packs = before + self._packs
                return decode(pack)
            before.append(pack)

    def ask(self, pack_type: int, payload: Payload | bytes = b"", pack_id: str = "", flags: int = 0) -> Any:
        """Send a request and return its decoded response."""
        return self.answer(self.request(pack_type, payload, pack_id, flags))

    def push(self, pack_type: int) -> Any:
        """The payload of the next pushed pack, which must be of this type."""
        pack = self.pack()
        assert pack.type == pack_type and not pack.flags & ACK, pack
        return decode(pack)

    def take(self) -> list[Pack]:
        """The packs that were read and that nobody has looked at."""
        found, self._packs = self._packs, []
        return found

    def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while. (To see that something does not happen takes time.)"""
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            if self._packs:
                return False
            self._packs += self.packs_of(self.sock.recv(65536))
            return False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(before)

    def rest(self) -> list[Pack]:
        """What comes until the server closes the connection, which it must do."""
        found = []
        while (pack := self.receive()) is not None:
            found.append(pack)
        return found

    # ---- requests that our own encoders would not make

    def send_any(
        self, pack_type: Any, payload: Mapping[str, Any] | bytes = b"", pack_id: Any = None, flags: Any = 0,
        version: Any = 1,
    ) -> str:  # fmt: skip
        """Send a pack of any values; returns its packId."""
        pack_id = f"p{next(_ids)}" if pack_id is None else pack_id
        self.send_body(any_body(self.codec, pack_type, payload, pack_id, flags, version))
        return str(pack_id)

    def ask_any(self, pack_type: int, payload: Mapping[str, Any] | bytes = b"", **header: Any) -> Any:
        """`send_any`, and the decoded response."""
        return self.answer(self.send_any(pack_type, payload, **header))

    # ---- what tests do all the time

    def login(self, user: str, device_type: int = 5, device_id: str = "dev", password: str = "") -> s.LoginResp:
        message = s.LoginReq(client_id=user, device_type=device_type, device_id=device_id, password=password)
        response: s.LoginResp = self.ask(t.LOGIN, message)
        return response

    def text(self, to: str, content: str, pack_id: str = "", flags: int = COUNTER) -> s.MsgAck:
        """Send a text in a single chat and return its ack."""
        ack: s.MsgAck = self.ask(t.MSG_SINGLE_CHAT, s.MsgReq(to=to, content=content, content_type=1), pack_id, flags)
        return ack

    def history(self, session: str, seq: int = 0, count: int = 200) -> list[s.MsgReq]:
        response = self.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=seq, count=count))
        assert response.error_code.code == 0, response
        return [decode(pack) for pack in response.msgs]


def any_body(
    codec: Codec, pack_type: Any, payload: Mapping[str, Any] | bytes, pack_id: Any, flags: Any = 0, version: Any = 1
) -> bytes:
    """A body with these values, well formed or not, made with the plain libraries. In JSON, bytes are the payload's
    text."""
    if codec is JSON:
        text = payload.decode() if isinstance(payload, bytes) else json.dumps(payload)
        header = {"type": pack_type, "version": version, "flags": flags, "packId": pack_id}
        return f'{json.dumps(header)[:-1]}, "payload": {text or "{}"}}}'.encode()
    packed = payload if isinstance(payload, bytes) else msgpack.packb(payload)
    body: bytes = msgpack.packb([pack_type, version, flags, pack_id, packed])
    return body


def code(response: Any) -> int:
    """The code of a decoded response."""
    found: int = response.code if isinstance(response, s.CommonErrorCode) else response.error_code.code
    return found


def decode(pack: Pack) -> Any:
    """The payload of a pack as its struct."""
    return decode_payload(t.payload_struct(pack.type, response=bool(pack.flags & ACK)), pack.payload)
