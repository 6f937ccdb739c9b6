"""Writing published packs to many connections: each is encoded once per codec, whatever their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from packs.codec import MSGPACK, Codec, frame

if TYPE_CHECKING:
    from nodes.client import Client


def deliver(by_codec: Mapping[Codec, Iterable[Client]], items: Sequence[tuple[str, bytes]]) -> None:
    """Write packs to connections. An item is (name of the connection that is left out, pack in msgpack)."""
    left_out = {skip for skip, _ in items}
    for codec, clients in by_codec.items():
        if not clients:
            continue
        frames = [frame(body) if codec is MSGPACK else codec.encode_frame(MSGPACK.decode(body)) for _, body in items]
        together = frames[0] if len(frames) == 1 else b"".join(frames)
        for client in clients:
            if client.name not in left_out:
                client.write(together)
                continue
            for (skip, _), one in zip(items, frames, strict=True):
                if skip != client.name:
                    client.write(one)
