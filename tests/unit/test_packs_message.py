"""Numbers spliced into a stored payload equal numbers set before encoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packs.codec import decode_payload, encode_payload
from packs.message import stored_payload, with_numbers
from packs.structs import NO_PUSH_INFO, MsgReq, PushInfo

INT64 = st.integers(-(2**63), 2**63 - 1)
SEQ = st.integers(0, 2**53)
MESSAGES = st.builds(
    MsgReq,
    session_id=st.text(max_size=40),
    seq_id=st.one_of(st.just(0), INT64),
    timestamp=st.one_of(st.just(0), INT64),
    prev_seq_id=st.one_of(st.just(0), INT64),
    sender=st.text(max_size=40),
    to=st.text(min_size=1, max_size=40),
    push_info=st.one_of(st.just(NO_PUSH_INFO), st.builds(PushInfo, title=st.text(max_size=5))),
    content_type=st.integers(-(2**31), 2**31 - 1),
    content=st.text(max_size=300),
    status=st.integers(0, 3),
    mentions=st.lists(st.text(max_size=5), max_size=3),
)


@settings(deadline=None, max_examples=300)
@given(MESSAGES, SEQ, SEQ)
def test_numbers_are_spliced_in(msg: MsgReq, seq_id: int, prev_seq_id: int) -> None:
    stored = stored_payload(msg)
    numbered = decode_payload(MsgReq, with_numbers(stored, seq_id, prev_seq_id))
    msg.seq_id = msg.timestamp = msg.prev_seq_id = 0
    assert decode_payload(MsgReq, stored) == msg
    msg.seq_id, msg.timestamp, msg.prev_seq_id = seq_id, seq_id // 1000, prev_seq_id
    assert numbered == msg


def test_what_a_client_writes_into_the_servers_fields_is_not_stored() -> None:
    plain = MsgReq(sender="a", to="b", content="x")
    forged = MsgReq(sender="a", to="b", content="x", seq_id=5, timestamp=6, prev_seq_id=7)
    assert stored_payload(forged) == stored_payload(plain) == encode_payload(plain)
    assert forged.seq_id == 5


def test_the_fullest_message_is_still_a_fixmap() -> None:
    full = MsgReq(
        session_id="s",
        sender="a",
        to="b",
        push_info=PushInfo(title="t"),
        content_type=1,
        content="c",
        status=1,
        mentions=["*"],
    )
    stored = stored_payload(full)
    assert stored[0] == 0x80 + len(MsgReq.__struct_fields__) - 3
    assert with_numbers(stored, 1, 0)[0] == 0x80 + len(MsgReq.__struct_fields__) <= 0x8F


def test_numbers_are_written_even_when_0() -> None:
    assert b"prevSeqId" in with_numbers(stored_payload(MsgReq(to="b")), 1000, 0)


@pytest.mark.parametrize("payload", [b"\x8d", b"\xde\x00\x01\xa1a\x01", b"\x95", b"{}"])
def test_only_a_fixmap_with_room_is_numbered(payload: bytes) -> None:
    with pytest.raises(KeyError):
        with_numbers(payload, 1, 0)
