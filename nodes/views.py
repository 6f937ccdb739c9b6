"""What one user is told of another's presence."""

from __future__ import annotations

from nodes.contracts import Whereabouts
from packs.structs_social import Presence


def presence_of(user: str, where: Whereabouts, visible: bool) -> Presence:
    """What a viewer is told of a user: nothing, unless he may know."""
    if not visible:
        return Presence(user_id=user)
    types = list(where.device_types)
    return Presence(user_id=user, online=int(bool(types)), device_types=types, last_seen=where.last_seen)
