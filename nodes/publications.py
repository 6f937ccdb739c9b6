"""What nodes publish to brokers, and on which topics.

    u:<user>    items for all connections of one user

An item is one of
    [0, skip, body]             deliver the pack `body` (msgpack, complete) to all but connection `skip`
    [1, device type, number]    end logins of this device type with a lower number: kicked out
"""

from __future__ import annotations

import msgspec

from packs.pack import VERSION, Pack

USER = "u:"
DELIVER, KICK = 0, 1

_encode = msgspec.msgpack.Encoder().encode


def delivery(skip: str, pack_type: int, flags: int, pack_id: str, payload: bytes) -> bytes:
    """An item that delivers a pack."""
    return _encode((DELIVER, skip, _encode(Pack(pack_type, VERSION, flags, pack_id, payload))))


def kick(device_type: int, number: int) -> bytes:
    """An item that kicks out older logins."""
    return _encode((KICK, device_type, number))

