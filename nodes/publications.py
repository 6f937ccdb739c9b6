"""What nodes publish to brokers, and on which topics.

    u:<user>    items for all connections of one user
    g:<group>   items for all members of a group; the brokers know which of their connections those are

Items on u:
    [0, skip, body]               deliver the pack `body` (msgpack, complete) to all but connection `skip`
    [1, device type, number]      end logins of this device type with a lower number: kicked out
Items on g:
    [0, skip, body, version]      deliver to members as of `version`; 0: to those that are known
"""

from __future__ import annotations

import msgspec

from packs.pack import VERSION, Pack

USER = "u:"
GROUP = "g:"
DELIVER, KICK = 0, 1

_encode = msgspec.msgpack.Encoder().encode


def delivery(skip: str, pack_type: int, flags: int, pack_id: str, payload: bytes) -> bytes:
    """An item that delivers a pack."""
    return _encode((DELIVER, skip, _encode(Pack(pack_type, VERSION, flags, pack_id, payload))))


def kick(device_type: int, number: int) -> bytes:
    """An item that kicks out older logins."""
    return _encode((KICK, device_type, number))


def group_delivery(skip: str, pack_type: int, flags: int, pack_id: str, payload: bytes, version: int) -> bytes:
    """An item that delivers a pack to the members of a group, as they are in this version."""
    return _encode((DELIVER, skip, _encode(Pack(pack_type, VERSION, flags, pack_id, payload)), version))
