"""What nodes publish to brokers, and on which topics.

    u:<user>    items for all connections of one user
    g:<group>   items for all members of a group; the brokers know which of their connections those are
    g:*         items for brokers, which all hold it
    s:<session> copies for those who listen to a session of others; most have no holder
    p:<user>    items for brokers with a connection that watches the presence of the user
    m:<user>    nothing: held while a phone of the user is connected, where pushes are sent

Items on u:
    [0, skip, body]               deliver the pack `body` (msgpack, complete) to all but connection `skip`
    [1, device type, number]      end logins of this device type (0: of all) with a lower number: kicked out
    [2, group, version, newest]   he is in the group as of this version of its members; `newest` seqId at that time
Items on g:
    [0, skip, body, version]      deliver to members as of `version`; 0: to those that are known
    [3, version, added, removed]  the members changed: from `version` - 1 to this
    [4]                           the group is no more
Item on s:
    [0, skip, body]               as on u:
Item on g:*
    [5, users, items]             each of these users' items, where there are many users
Item on p:
    [6]                           his presence, or who may know of it, may have changed: ask
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mesh.fanout import Publication
from packs.codec import encode_payload
from packs.pack import VERSION, Pack
from packs.structs import SyncDataReq
from packs.table import SYNC_DATA_CMD

USER = "u:"
GROUP = "g:"
SESSION = "s:"
EVERYWHERE = "g:*"
PRESENCE = "p:"
MOBILE = "m:"
DELIVER, KICK, JOINED, MEMBERS, DISMISSED, EACH, STIRRED = 0, 1, 2, 3, 4, 5, 6

_encode = msgspec.msgpack.Encoder().encode


def delivery(skip: str, pack_type: int, flags: int, pack_id: str, payload: bytes) -> Publication:
    """An item that delivers a pack to a user."""
    return DELIVER, skip, _encode(Pack(pack_type, VERSION, flags, pack_id, payload))


def kick(device_type: int, number: int) -> Publication:
    """An item that kicks out older logins."""
    return KICK, device_type, number


def sync(skip: str, command: int, content: str, pack_id: str = "") -> Publication:
    """An item that tells a user what to fetch again."""
    return delivery(skip, SYNC_DATA_CMD, 0, pack_id, encode_payload(SyncDataReq(command=command, content=content)))


def joined(group: str, version: int, newest: int) -> Publication:
    """An item that tells a user's brokers that he is in a group."""
    return JOINED, group, version, newest


def group_delivery(skip: str, pack_type: int, flags: int, pack_id: str, payload: bytes, version: int) -> Publication:
    """An item that delivers a pack to the members of a group, as they are in this version."""
    return DELIVER, skip, _encode(Pack(pack_type, VERSION, flags, pack_id, payload)), version


def group_sync(skip: str, command: int, group: str, version: int) -> Publication:
    """An item that tells the members of a group what to fetch again."""
    payload = encode_payload(SyncDataReq(command=command, content=group))
    return group_delivery(skip, SYNC_DATA_CMD, 0, "", payload, version)


def members(version: int, added: Sequence[str], removed: Sequence[str]) -> Publication:
    """An item that changes the members of a group to `version`."""
    return MEMBERS, version, tuple(added), tuple(removed)


def dismissed() -> Publication:
    """An item that ends a group."""
    return (DISMISSED,)


def each(users: Sequence[str], items: Sequence[Publication]) -> Publication:
    """An item for `EVERYWHERE` that stands for these items on the topic of each of the users."""
    return EACH, tuple(users), tuple(items)


def stirred() -> Publication:
    """An item that says that something changed with the presence of a user."""
    return (STIRRED,)
