"""Streams of arrays in ZeroMQ messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.wire import REQUEST, SPLIT_AT, encode, join, split

requests = st.tuples(st.just(REQUEST), st.integers(0, 2**60), st.text(max_size=30), st.binary(max_size=100))
items = st.lists(requests, min_size=1, max_size=20)


@given(items)
def test_what_is_joined_splits_again(sent: list[tuple[object, ...]]) -> None:
    found = [item for _, message in join([encode(i) for i in sent]) for item in split(message)]
    assert found == sent


@given(items, st.data())
def test_a_cut_message_is_an_error(sent: list[tuple[object, ...]], data: st.DataObject) -> None:
    ((_, whole),) = join([encode(i) for i in sent])
    with pytest.raises(WireError):
        split(whole[: data.draw(st.integers(0, len(whole) - 1))])


RUBBISH = [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xa1a", b"\x90\x90"]


@pytest.mark.parametrize("message", RUBBISH)
def test_rubbish_is_an_error(message: bytes) -> None:
    with pytest.raises(WireError):
        split(message)


def test_long_turns_are_split_into_several_messages() -> None:
    parts = [encode((REQUEST, i, "m", b"x" * 1000)) for i in range(3000)]
    messages = list(join(parts))
    assert len(messages) > 2
    assert sum(count for count, _ in messages) == len(parts)
    assert all(len(message) <= SPLIT_AT + 2000 for _, message in messages)
