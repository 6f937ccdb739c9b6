"""Headers, the choice of a codec, and compression."""

from __future__ import annotations

import json
import tracemalloc
import zlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packs.codec import BY_FIRST_BYTE, JSON, MSGPACK, BadPack, Codec, PayloadError, encode_payload, frame, inflate
from packs.codes import Code
from packs.flags import ACK, COMPRESS_MASK, COMPRESS_ZLIB, COUNTER, CRYPTO_MASK
from packs.pack import Pack
from packs.structs import CommonErrorCode, MsgReq

LIMIT = 10_000
PING = Pack(10, 1, 0, "p1", b"")


def test_the_msgpack_header_on_the_wire() -> None:
    assert MSGPACK.encode(Pack(14, 1, 4, "p1", b"\x80")) == b"\x95\x0e\x01\x04\xa2p1\xc4\x01\x80"
    assert MSGPACK.encode_frame(PING) == b"\x00\x00\x00\x0d\x95\x0a\x01\x00\xa2p1\xc4\x00"


def test_the_json_header_on_the_wire() -> None:
    body = b'{"type":10,"packId":"p1","version":1,"flags":0,"payload":{}}'
    assert JSON.encode(PING) == body
    assert JSON.encode_frame(PING) == frame(body) == JSON.frame(body)
    assert JSON.decode(body) == Pack(10, 1, 0, "p1", b"{}")
    assert JSON.decode(b'{"type":10,"packId":"p1"}') == Pack(10, 1, 0, "p1", b"{}")


def test_codecs_are_known_by_their_first_byte() -> None:
    assert BY_FIRST_BYTE == {0x7B: JSON, 0x95: MSGPACK}


@settings(deadline=None)
@given(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.text(),
    st.binary(),
)
def test_any_msgpack_pack_survives(type_: int, version: int, flags: int, pack_id: str, payload: bytes) -> None:
    pack = Pack(type_, version, flags, pack_id, payload)
    body = MSGPACK.encode(pack)
    assert MSGPACK.decode(body) == MSGPACK.decode(memoryview(body)) == pack
    assert MSGPACK.encode_frame(pack) == frame(body)
    assert MSGPACK.canonical(type_, payload) is payload


BAD_HEADERS: dict[str, tuple[Codec, bytes]] = {
    "empty": (MSGPACK, b""),
    "four fields": (MSGPACK, msgpack.packb([10, 1, 0, "p"])),
    "six fields": (MSGPACK, msgpack.packb([10, 1, 0, "p", b"", 0])),
    "a map": (MSGPACK, msgpack.packb({"type": 10})),
    "payload is str": (MSGPACK, msgpack.packb([10, 1, 0, "p", "x"])),
    "payload is a map": (MSGPACK, msgpack.packb([10, 1, 0, "p", {}])),
    "payload is nil": (MSGPACK, msgpack.packb([10, 1, 0, "p", None])),
    "packId is bin": (MSGPACK, msgpack.packb([10, 1, 0, b"p", b""])),
    "packId is no UTF-8": (MSGPACK, b"\x95\x0a\x01\x00\xa1\xff\xc4\x00"),
    "type is a float": (MSGPACK, msgpack.packb([10.0, 1, 0, "p", b""])),
    "type is huge": (MSGPACK, msgpack.packb([2**40, 1, 0, "p", b""])),
    "flags above int64": (MSGPACK, msgpack.packb([10, 1, 2**63, "p", b""])),
    "ext": (MSGPACK, msgpack.packb([10, 1, msgpack.ExtType(1, b""), "p", b""])),
    "payload length lies": (MSGPACK, b"\x95\x0a\x01\x00\xa1p\xc6\xff\xff\xff\xff"),
    "array length lies": (MSGPACK, b"\xdd\xff\xff\xff\xff\x0a"),
    "deep": (MSGPACK, b"\x95" * 200_000),
    "trailing bytes": (MSGPACK, msgpack.packb([10, 1, 0, "p", b""]) + b"\x00"),
    "JSON for msgpack": (MSGPACK, b'{"type":10,"packId":"p"}'),
    "no type": (JSON, b'{"packId":"p"}'),
    "no packId": (JSON, b'{"type":10}'),
    "type is text": (JSON, b'{"type":"10","packId":"p"}'),
    "type is not whole": (JSON, b'{"type":1e1,"packId":"p"}'),
    "type above int32": (JSON, b'{"type":99999999999999999999999999,"packId":"p"}'),
    "packId is null": (JSON, b'{"type":10,"packId":null}'),
    "packId in JSON is no UTF-8": (JSON, b'{"type":10,"packId":"\xff"}'),
    "deep payload": (JSON, b'{"type":10,"packId":"p","payload":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "payload is cut": (JSON, b'{"type":10,"packId":"p","payload":{"a":1}'),
    "two objects": (JSON, b'{"type":10,"packId":"p"}{}'),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header(name: str) -> None:
    codec, body = BAD_HEADERS[name]
    with pytest.raises(BadPack):
        codec.decode(body)


def test_a_body_cut_anywhere_is_a_bad_pack() -> None:
    pack = Pack(14, 1, 0, "p1", encode_payload(MsgReq(to="b", content="hi")))
    for codec in (MSGPACK, JSON):
        body = codec.encode(pack)
        for end in range(len(body)):
            with pytest.raises(BadPack):
                codec.decode(body[:end])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_noise_is_a_pack_or_a_bad_pack(noise: bytes) -> None:
    for codec, body in ((MSGPACK, noise), (MSGPACK, b"\x95" + noise), (JSON, noise), (JSON, b'{"type":' + noise)):
        try:
            codec.decode(body)
        except BadPack:
            pass


def test_a_payload_that_is_not_canonical_cannot_be_written_as_json() -> None:
    with pytest.raises(PayloadError):
        JSON.encode(Pack(14, 1, 0, "p", b"\xc1"))


def test_json_picks_the_struct_by_the_ack_flag() -> None:
    error = Pack(10, 1, ACK, "p", encode_payload(CommonErrorCode(code=6)))
    assert json.loads(JSON.encode(error))["payload"] == {"code": 6, "desc": ""}
    assert JSON.canonical(10, b'{"code":6}') == b"\x80"
    assert JSON.canonical(10, b'{"code":6}', response=True) == encode_payload(CommonErrorCode(code=6))
    assert JSON.canonical(10, b"") == b""


def test_what_is_not_compressed_passes_untouched() -> None:
    payload = b"\x80"
    assert inflate(COUNTER, payload, 0) == (COUNTER, payload)


@given(st.binary(max_size=LIMIT))
def test_zlib_is_undone(payload: bytes) -> None:
    assert inflate(COUNTER | COMPRESS_ZLIB, zlib.compress(payload), LIMIT) == (COUNTER, payload)


def test_the_limit_is_inclusive() -> None:
    assert inflate(COMPRESS_ZLIB, zlib.compress(b"x" * LIMIT), LIMIT) == (0, b"x" * LIMIT)


BOMB = zlib.compress(b"\x00" * 50_000_000)


@pytest.mark.parametrize(
    ("flags", "payload", "code"),
    [
        (COMPRESS_ZLIB, zlib.compress(b"x" * (LIMIT + 1)), Code.MSG_TOO_LONG),
        (COMPRESS_ZLIB, BOMB, Code.MSG_TOO_LONG),
        (COMPRESS_ZLIB, b"", Code.MSG_FORMAT),
        (COMPRESS_ZLIB, b"noise", Code.MSG_FORMAT),
        (COMPRESS_ZLIB, zlib.compress(b"hello")[:-1], Code.MSG_FORMAT),
        (COMPRESS_ZLIB, zlib.compress(b"hello") + b"x", Code.MSG_FORMAT),
        (2 << 6, b"", Code.PROTOCOL),
        (COMPRESS_MASK, b"", Code.PROTOCOL),
        (1 << 9, b"\x80", Code.PROTOCOL),
        (CRYPTO_MASK | COMPRESS_ZLIB, zlib.compress(b"\x80"), Code.PROTOCOL),
    ],
)
def test_bad_compression_and_crypto(flags: int, payload: bytes, code: Code) -> None:
    with pytest.raises(PayloadError) as refused:
        inflate(flags, payload, LIMIT)
    assert refused.value.code == code


def test_a_bomb_is_not_inflated_beyond_the_limit() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError):
            inflate(COMPRESS_ZLIB, BOMB, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
