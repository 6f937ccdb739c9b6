"""What the generators of load make of bytes, and that they notice what is lost, doubled or out of order."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bench.dialects import Dialect, Peer, text_of
from bench.dialects.imesh import Imesh
from bench.dialects.mqtt import Mqtt
from bench.dialects.xmpp import Xmpp
from bench.pairs import Result, received

TEXT = "0 1 2.000000".rjust(64)


@pytest.fixture
def peer() -> Iterator[Peer]:
    one, other = socket.socketpair()
    yield Peer("alice", one)
    one.close()
    other.close()


def _xmpp(text: str) -> bytes:
    return (f"<message from='bob@localhost/b' to='alice@localhost/b' type='chat'><body>{text}</body>"
            "</message><a xmlns='urn:xmpp:sm:3' h='1'/>").encode()  # fmt: skip


def _mqtt(text: str) -> bytes:
    sender = Peer("bob", socket.socket())
    sender.number = 1
    sent = Mqtt().single(sender, "alice", text)
    sender.sock.close()
    return sent + b"\x40\x02\x00\x01"


@pytest.mark.parametrize(("dialect", "data"), [(Xmpp(), _xmpp(TEXT)), (Mqtt(), _mqtt(TEXT))])
def test_messages_and_acknowledgements_are_found_however_they_are_cut(
    dialect: Dialect, data: bytes, peer: Peer
) -> None:
    for cut in range(len(data)):
        peer.rest, peer.count, peer.out = b"", 0, []
        one, other = dialect.take(peer, data[:cut]), dialect.take(peer, data[cut:])
        assert (one.texts + other.texts, one.acked + other.acked, one.refused + other.refused) == ([TEXT], 1, 0)


@pytest.mark.parametrize("dialect", [Imesh(), Mqtt(), Xmpp()])
def test_who_only_counts_finds_messages_to_a_group_however_they_are_cut(dialect: Dialect, peer: Peer) -> None:
    peer.number = 1
    data = dialect.to_group(peer, "GC_1", TEXT) * 2
    for cut in range(len(data)):
        peer.rest = b""
        assert dialect.counted(peer, data[:cut]) + dialect.counted(peer, data[cut:]) == 2


def test_imesh_texts_are_read_as_they_were_written(peer: Peer) -> None:
    peer.number = 1
    assert Imesh().take(peer, Imesh().single(peer, "bob", TEXT)).texts == [TEXT]


@pytest.mark.parametrize(("numbers", "wrong"), [([1, 2, 3], 0), ([1, 3], 1), ([1, 1, 2], 1), ([1, 3, 2], 2), ([2], 1)])
def test_what_is_lost_doubled_or_out_of_order_is_noticed(numbers: list[int], wrong: int, peer: Peer) -> None:
    sender = Peer("bob", peer.sock)
    result = Result()
    for number in numbers:
        sender.number = number - 1
        received(result, peer, [text_of(sender, 0.0)])
    assert (result.wrong, result.delivered) == (wrong, len(numbers))
