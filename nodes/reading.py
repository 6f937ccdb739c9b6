"""Who may read which session, and how stored messages look to readers."""

from __future__ import annotations

from packs.codec import decode_payload
from packs.flags import OVERRIDE, REVOKE
from packs.ids import business_members, single_members
from packs.message import stored_payload, with_numbers
from packs.pack import VERSION, Pack
from packs.structs import NO_PUSH_INFO, MsgReq
from store.entries import HIDDEN, OVERRIDDEN, REVOKED, Entry


def may_read(user: str, session: str) -> bool:
    """Whether `user` takes part in a session that is not a group."""
    members = single_members(session)
    if members is not None:
        return user in members
    parties = business_members(session)
    return parties is not None and parties[1] == user


def pack_of(entry: Entry) -> Pack:
    """A stored message as readers get it: as it is after what was done to it."""
    flags, payload = entry.flags, entry.payload
    if entry.state:
        flags |= (REVOKE if entry.state & REVOKED else 0) | (OVERRIDE if entry.state & OVERRIDDEN else 0)
        payload = _changed(entry)
    return Pack(entry.type, VERSION, flags, entry.pack_id, with_numbers(payload, entry.seq, entry.prev))


def original_of(entry: Entry) -> Pack:
    """A stored message as it was sent, for monitors and audit; of a deleted one, only who wrote to whom."""
    return Pack(entry.type, VERSION, entry.flags, entry.pack_id, with_numbers(entry.payload, entry.seq, entry.prev))


def _changed(entry: Entry) -> bytes:
    message = decode_payload(MsgReq, entry.payload)
    if entry.state & HIDDEN:
        message.content = ""
    elif entry.state & OVERRIDDEN:
        message.content = entry.content
    else:
        return entry.payload
    message.push_info = NO_PUSH_INFO  # its summary may say what the content said
    return stored_payload(message)
