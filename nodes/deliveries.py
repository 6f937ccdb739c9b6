"""Writing published packs to many connections: each is encoded once per codec, whatever their number.

What counts as delivered is a message (14, 15, 16) written to a connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from packs.codec import Codec
from packs.table import MSG_BIZ_NOTIFY, MSG_GROUP_CHAT, MSG_SINGLE_CHAT

if TYPE_CHECKING:
    from nodes.client import Client

MESSAGES = frozenset((MSG_SINGLE_CHAT, MSG_GROUP_CHAT, MSG_BIZ_NOTIFY))


def is_message(body: bytes) -> bool:
    """Whether a pack (msgpack) is a message: an array of five that begins with its type."""
    return body[1] in MESSAGES


def deliver(by_codec: Mapping[Codec, Iterable[Client]], items: Sequence[tuple[str, bytes]]) -> int:
    """Write packs to connections; the number of messages written. An item is (name of the connection that is left out,
    pack in msgpack)."""
    left_out = {skip for skip, _ in items}
    counted = [is_message(body) for _, body in items]
    messages, delivered = sum(counted), 0
    for codec, clients in by_codec.items():
        if not clients:
            continue
        frames = [codec.frame_of(body) for _, body in items]
        together = frames[0] if len(frames) == 1 else b"".join(frames)
        for client in clients:
            if client.name not in left_out:
                client.write(together)
                delivered += messages
                continue
            for (skip, _), one, counts in zip(items, frames, counted, strict=True):
                if skip != client.name:
                    client.write(one)
                    delivered += counts
    return delivered
