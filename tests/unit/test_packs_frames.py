"""Frames, however the bytes are cut."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packs.codec import frame
from packs.frames import MAX_FRAME, FrameError, FrameReader

BODIES = [b"a", b"bc" * 10, b"\x00\x00\x00\x05", b"d" * 300]
STREAM = b"".join(map(frame, BODIES))


def test_a_frame_is_its_length_and_the_body() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x07abc"


def test_one_chunk_of_whole_frames() -> None:
    reader = FrameReader()
    assert reader.feed(STREAM) == BODIES
    assert reader.pending == 0


def test_cut_in_two_at_every_byte() -> None:
    for cut in range(len(STREAM) + 1):
        reader = FrameReader()
        first = reader.feed(STREAM[:cut])
        assert reader.pending == cut - len(b"".join(map(frame, first)))
        assert first + reader.feed(STREAM[cut:]) == BODIES
        assert reader.pending == 0


def test_byte_by_byte() -> None:
    reader = FrameReader()
    assert [body for byte in STREAM for body in reader.feed(bytes((byte,)))] == BODIES
    assert reader.pending == 0


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.lists(st.integers(0, 500), max_size=20))
def test_any_bodies_cut_anyhow(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, bodies))
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    reader = FrameReader()
    got = [body for a, b in pairwise(edges) for body in reader.feed(stream[a:b])]
    assert got == bodies
    assert reader.pending == 0


@pytest.mark.parametrize("length", [0, 1, 4, MAX_FRAME + 1, 2**31, 2**32 - 1])
def test_a_length_outside_the_limits_is_refused_before_its_body_is_kept(length: int) -> None:
    prefix = length.to_bytes(4, "big")
    for chunks in ([prefix + b"x" * 100], [prefix[:3], prefix[3:]]):
        reader = FrameReader()
        with pytest.raises(FrameError) as refused:
            for chunk in chunks:
                reader.feed(chunk)
        assert refused.value.length == length
        assert refused.value.bodies == []
        assert reader.pending == 0


def test_the_limits_themselves_are_allowed() -> None:
    largest = b"x" * (MAX_FRAME - 4)
    assert FrameReader().feed(frame(b"x") + frame(largest)) == [b"x", largest]


def test_bodies_before_a_bad_length_are_delivered_with_it() -> None:
    reader = FrameReader()
    assert reader.feed(STREAM[:2]) == []
    with pytest.raises(FrameError) as refused:
        reader.feed(STREAM[2:] + b"\x00\x00\x00\x00")
    assert refused.value.bodies == BODIES


def test_the_limit_can_be_raised_between_calls() -> None:
    reader = FrameReader(limit=10)
    with pytest.raises(FrameError):
        reader.feed(frame(b"x" * 7))
    reader = FrameReader(limit=10)
    assert reader.feed(frame(b"x" * 6)) == [b"x" * 6]
    reader.limit = 11
    assert reader.feed(frame(b"x" * 7)) == [b"x" * 7]


def test_a_large_frame_in_small_pieces_takes_linear_time() -> None:
    """Copying what is there for each piece would move 50 GB, some ten seconds; this needs a twentieth of one."""
    reader = FrameReader()
    stream = frame(b"x" * (MAX_FRAME - 4))
    start = time.process_time()
    got = [body for at in range(0, len(stream), 4) for body in reader.feed(stream[at : at + 4])]
    assert list(map(len, got)) == [MAX_FRAME - 4]
    assert time.process_time() - start < 2
