"""Bodies to packs and back, in the codec of the connection, and the one canonical form that nodes work with.

Canonical is msgpack: a payload is a map with the wire names, or empty for an empty map. The broker turns what clients
send into it (`Codec.canonical`), nodes read and write only it (`decode_payload`, `encode_payload`), and brokers encode
answers and pushes back into each connection's codec (`Codec.encode`).

Every decoder is bounded: in size by the frame, in depth by the interpreter's recursion limit, in memory by the input
(lengths that lie are found before anything is allocated). Input of any kind ends in a value, `BadPack` or
`PayloadError`; the library's own texts never reach a client.
"""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, field

from packs.codes import Code, describe
from packs.errors import BadPack, PayloadError
from packs.flags import ACK, COMPRESS_MASK, COMPRESS_ZLIB, CRYPTO_MASK
from packs.pack import VERSION, Int32, Int64, Pack
from packs.structs import (
    CommonErrorCode,
    HistoryMsgPullResp,
    HotSessionItem,
    HotSessionResp,
    MsgHighPrioritySyncResp,
    Payload,
    missing,
)
from packs.table import payload_struct

__all__ = [
    "JSON",
    "MSGPACK",
    "BadPack",
    "Codec",
    "PayloadError",
    "decode_payload",
    "encode_error",
    "encode_payload",
    "frame",
    "inflate",
]

_UNREADABLE = (ValueError, RecursionError)
"""What msgspec raises on bad input: its own errors and bad UTF-8 are ValueErrors, deep nesting is a RecursionError."""

_EMPTY_MAP = b"\x80"

_FIELD = re.compile(r"at `\$\.([\w.\[\]]+)`")
"""The field that a validation error of msgspec is about; only names of our structs and indexes occur in it."""

_decode_pack = msgspec.msgpack.Decoder(Pack).decode
_encode_json = msgspec.json.Encoder().encode

P = TypeVar("P", bound=Payload)


@cache
def _decoder(struct: type[Payload]) -> Callable[[bytes], Any]:
    return msgspec.msgpack.Decoder(struct).decode


@cache
def _json_decoder(struct: type[Payload]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(struct).decode


def _decode(decoder: Callable[[bytes], Any], payload: bytes) -> Any:
    try:
        return decoder(payload)
    except _UNREADABLE as error:
        match = _FIELD.search(str(error))
        raise PayloadError(Code.MSG_FORMAT, f"bad {match[1]}" if match else "") from None


def decode_payload(struct_type: type[P], payload: bytes) -> P:
    """Decode a canonical payload and check that it is complete.

    Raises `PayloadError`: 42 when it does not decode or a field has the wrong type, 2 when a required field is missing.
    """
    value: P = _decode(_decoder(struct_type), payload or _EMPTY_MAP)
    if (name := missing(value)) is not None:
        raise PayloadError(Code.PARAM, f"missing {name}")
    return value


encode_payload = msgspec.msgpack.Encoder().encode
"""Encode a payload struct into its canonical form."""


def encode_error(type_: int, code: int, desc: str = "", retry_after: int = 0) -> bytes:
    """The canonical payload of an error response of any type, known or not. `retry_after` in ms, 0 for none."""
    error = CommonErrorCode(code=int(code), desc=desc or describe(code), retry_after=retry_after)
    struct: Any = payload_struct(type_, response=True)
    return encode_payload(error if struct is CommonErrorCode else struct(error_code=error))


def inflate(flags: int, payload: bytes, limit: int) -> tuple[int, bytes]:
    """Undo the compression that `flags` tell of: the payload and the flags without those bits.

    `limit` is in bytes of the inflated payload. Raises `PayloadError`: 1 for crypto and for unknown compression, 41
    above the limit, 42 when it is not exactly one zlib stream.
    """
    if not flags & (COMPRESS_MASK | CRYPTO_MASK):
        return flags, payload
    if flags & CRYPTO_MASK:
        raise PayloadError(Code.PROTOCOL, "encrypted payloads are not supported: use TLS")
    if flags & COMPRESS_MASK != COMPRESS_ZLIB:
        raise PayloadError(Code.PROTOCOL, "unknown compression")
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(payload, limit + 1)
    except zlib.error:
        raise PayloadError(Code.MSG_FORMAT) from None
    if len(inflated) > limit:
        raise PayloadError(Code.MSG_TOO_LONG)
    if not stream.eof or stream.unused_data:
        raise PayloadError(Code.MSG_FORMAT)
    return flags & ~COMPRESS_MASK, inflated


def frame(body: bytes) -> bytes:
    """A body as it travels on TCP: uint32 big endian length, including its own 4 bytes, then the body."""
    return (len(body) + 4).to_bytes(4, "big") + body


class Codec(ABC):
    """How one connection writes packs. Stateless; there is one instance of each for each way that bodies travel."""

    __slots__ = ("frame",)

    name: str
    first_byte: int
    """First byte of every body in this codec."""

    def __init__(self, frame: Callable[[bytes], bytes]) -> None:
        self.frame = frame
        """A body, ready to be written to a connection."""

    @abstractmethod
    def decode(self, body: bytes | memoryview) -> Pack:
        """Decode a body; the pack's payload stays in this codec's form. Raises `BadPack`."""

    def compressed(self, payload: bytes) -> bytes:
        """The compressed bytes that a decoded body has for a payload. Raises `PayloadError` with code 42."""
        return payload

    @abstractmethod
    def canonical(self, pack_type: int, payload: bytes, *, response: bool = False) -> bytes:
        """Turn the payload of a decoded body into its canonical form. Raises `PayloadError` with code 42."""

    @abstractmethod
    def encode(self, pack: Pack) -> bytes:
        """Encode a pack with a canonical payload into a body. Raises `PayloadError` when that is not what it has."""

    @abstractmethod
    def frame_of(self, body: bytes) -> bytes:
        """A pack in msgpack, ready to be written to a connection of this codec."""

    def encode_frame(self, pack: Pack) -> bytes:
        """`encode`, ready to be written."""
        return self.frame(self.encode(pack))


class MsgpackCodec(Codec):
    """msgpack: what is canonical is also what travels."""

    __slots__ = ()

    name = "msgpack"
    first_byte = 0x95

    def decode(self, body: bytes | memoryview) -> Pack:
        try:
            return _decode_pack(body)
        except _UNREADABLE as error:
            raise BadPack(str(error)) from None

    def canonical(self, pack_type: int, payload: bytes, *, response: bool = False) -> bytes:
        return payload

    def encode(self, pack: Pack) -> bytes:
        return encode_payload(pack)

    def frame_of(self, body: bytes) -> bytes:
        return self.frame(body)

    def encode_frame(self, pack: Pack) -> bytes:
        return self.frame(encode_payload(pack))


class _JsonPack(msgspec.Struct, rename="camel", gc=False):
    """A pack as a JSON object; `payload` is the text of an object, compressed: of a base64 string. People type
    these, so three fields may be absent."""

    type: Int32
    pack_id: str
    version: Int32 = VERSION
    flags: Int64 = 0
    payload: Raw = Raw(b"{}")


class _JsonHotSessionItem(HotSessionItem, kw_only=True):
    last_msgs: list[_JsonPack] = field(default_factory=list)  # type: ignore[assignment]


class _JsonHotSessionResp(HotSessionResp, kw_only=True):
    sessions: list[_JsonHotSessionItem] = field(default_factory=list)  # type: ignore[assignment]


class _JsonMsgHighPrioritySyncResp(MsgHighPrioritySyncResp, kw_only=True):
    msgs: list[_JsonPack] = field(default_factory=list)  # type: ignore[assignment]


class _JsonHistoryMsgPullResp(HistoryMsgPullResp, kw_only=True):
    msgs: list[_JsonPack] = field(default_factory=list)  # type: ignore[assignment]


_WITH_PACKS: dict[type[Payload], type[Payload]] = {
    HotSessionResp: _JsonHotSessionResp,
    MsgHighPrioritySyncResp: _JsonMsgHighPrioritySyncResp,
    HistoryMsgPullResp: _JsonHistoryMsgPullResp,
}
"""Payloads that hold packs, and how they are read from JSON, where a pack is an object and not an array."""


def _map_packs(value: Any, convert: Callable[[Any], Any]) -> None:
    """Replace every pack inside a payload of `_WITH_PACKS`."""
    if isinstance(value, HotSessionResp):
        for item in value.sessions:
            item.last_msgs = list(map(convert, item.last_msgs))
    else:
        value.msgs = list(map(convert, value.msgs))


class JsonCodec(Codec):
    """JSON: payloads pass through their structs in both directions, so unknown fields end here."""

    __slots__ = ()

    name = "json"
    first_byte = ord("{")

    def decode(self, body: bytes | memoryview) -> Pack:
        try:
            pack = _decode_json_pack(body)
            payload = bytes(pack.payload)
        except _UNREADABLE:
            try:
                pack = _decode_json_pack(_SURROGATE.sub(rb"\\ufffd", body))
            except _UNREADABLE as error:
                raise BadPack(str(error)) from None
            payload = _BAD_JSON  # refused as a payload: closing would make its sender try for ever
        return Pack(pack.type, pack.version, pack.flags, pack.pack_id, payload)

    def compressed(self, payload: bytes) -> bytes:
        data: bytes = _decode(_decode_base64, payload)
        return data

    def canonical(self, pack_type: int, payload: bytes, *, response: bool = False) -> bytes:
        if not payload:
            return b""
        struct = payload_struct(pack_type, response=response)
        value = _decode(_json_decoder(_WITH_PACKS.get(struct, struct)), payload)
        if struct in _WITH_PACKS:
            _map_packs(value, self._pack_from_json)
        return encode_payload(value)

    def frame_of(self, body: bytes) -> bytes:
        return self.encode_frame(MSGPACK.decode(body))

    def encode(self, pack: Pack) -> bytes:
        return _encode_json(self._pack_to_json(pack, response=pack.flags & ACK != 0))

    def _pack_from_json(self, pack: _JsonPack) -> Pack:
        """A pack inside a payload. It is a stored push, never a response: so nothing nests deeper than this."""
        payload = self.canonical(pack.type, bytes(pack.payload))
        return Pack(pack.type, pack.version, pack.flags, pack.pack_id, payload)

    def _pack_to_json(self, pack: Pack, *, response: bool = False) -> _JsonPack:
        struct = payload_struct(pack.type, response=response)
        value = _decode(_decoder(struct), pack.payload or _EMPTY_MAP)
        if struct in _WITH_PACKS:
            _map_packs(value, self._pack_to_json)
        payload = Raw(_encode_json(value))
        return _JsonPack(pack.type, pack.pack_id, pack.version, pack.flags, payload)


_decode_json_pack = msgspec.json.Decoder(_JsonPack).decode
_decode_base64 = msgspec.json.Decoder(bytes).decode

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
"""Half a character, where a text was cut inside one: browsers write it and no decoder takes it."""

_BAD_JSON = b"\xff"

MSGPACK: Codec = MsgpackCodec(frame)
JSON: Codec = JsonCodec(frame)

BY_FIRST_BYTE = {codec.first_byte: codec for codec in (MSGPACK, JSON)}
"""The codec of a TCP connection whose first body begins with this byte."""
