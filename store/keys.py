"""Every key in Redis is built here. Ids are validated before they get here.

Session keys share the tag of their shard, `{sNN}`, so that all that one message touches lies in one Cluster slot:

    {sNN}:h:<session>   sorted set   history: seqId -> entry (store/entries.py)
    {sNN}:m:<session>   hash         q newest seqId, n countable messages, r:<user> read position "seqId:n",
                                     a seqId up to which messages are in the archive only (store/window.py),
                                     f:<user> the user has the other as a friend, b:<user> has blocked the other,
                                     v version of the friendship, w:<user> version of his blocking
    {sNN}:t:<session>   sorted set   tombstones of deleted messages, out of history's way: seqId -> entry
    {sNN}:g:<session>   sorted set   countable messages that are revoked or deleted (seqId)
    {sNN}:c:<group>     sorted set   controls and high-priority messages of a group: stamp -> item (store/priority.py)
    {sNN}:d:<hour>      hash         dedup: digest of session, sender and packId -> seqId, prevSeqId, crc; expires.
                                     The same for controls: -> time (ms), crc
    {sNN}:log           stream       every stored message and mark, for archive, push and hooks
    {sNN}:stamp         string       the newest stamp given in a queue of this shard (store/stamps.lua)

A group lies in the shard of its session, so that a message is checked against the members where it is stored:

    {sNN}:i:<group>     hash         info: name, avatar, owner, desc, limit, mode (who may add members), created and
                                     updated (ms), version (of its members, +1 per change), handed (the owner before).
                                     Absent: there is no such group
    {sNN}:p:<group>     sorted set   members: user -> newest seqId of the session when he joined
    {sNN}:x:<group>     string       who dismissed it; expires. A repeat is known by it

User keys share `{uNN}`:

    {uNN}:r:<user>      sorted set   recent sessions: session -> stamp of the last activity
    {uNN}:g:<user>      sorted set   his groups: group -> stamp. Follows the members, which decide: it may name a group
                                     that he is not in (any more)
    {uNN}:h:<user>      sorted set   controls and high-priority messages for him, not those of groups: stamp -> item
    {uNN}:stamp         string       the newest stamp given in this shard of users
    {uNN}:l:<user>      hash         device type -> login number
    {uNN}:d:<user>      hash         devices: type -> the newest login, s<type> -> when it ended (store/devices.py)
    {uNN}:u:<user>      hash         account: password (argon2id), created, disabled
    {uNN}:i:<user>      hash         profile: name, avatar, mobile, birthday
    {uNN}:f:<user>      sorted set   friends: friend -> stamp of the last change
    {uNN}:v:<user>      hash         version of each friendship that there is or was (store/friends.py)
    {uNN}:b:<user>      set          whom he has blocked
    {uNN}:q:<user>      sorted set   who asks to be his friend: user -> stamp
    {uNN}:a:<user>      hash         attributes that he keeps: "friend NUL name" -> value; friend -> names, each and NUL
    {uNN}:s:<user>      hash         the same of his sessions: "session NUL name" -> value; session -> names
    {uNN}:w             sorted set   who left without logging out, lately: user -> when he was last heard from (ms)
    {uNN}:k:<user>      hash         where pushes go: tokens of his devices (store/registrations.py)
    {uNN}:o:<digest>    string       who registered this token last; expires
    {uNN}:n             hash         who is there, where other systems are told: "user type" -> "login number, blank,
                                     connection" (store/standing.py)
    {uNN}:log           stream       what is to be archived of these users, and what other systems are told of them
    {uNN}:j             sorted set   changes of relations that other shards may lack yet: note -> stamp

What waits to be pushed lies in keys of its own, `{p:<outlet>}` (store/pushes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

USERS = "imesh:users"
"""Sorted set of account ids by creation time (ms)."""
AUDIT = "imesh:audit"
"""Stream of who listened to which session of others: who, action, session, device, address."""
DATASET = "imesh:dataset"
"""Random id of these data, and the number of shards they were made with."""
API_KEYS = "imesh:api:keys"
"""Hash of the API keys: id -> key (store/api.py)."""
BROKERS = "imesh:{brokers}"
"""Hash of the starts of brokers: process/start -> when it was last there (ms), where other systems are told."""
PUSHING = "imesh:pushing"
"""There once somebody registered for pushes."""
GROUP_PREFIX = "GC_"
"""What the ids of groups begin with, and no other session's."""
DEDUP_BYTES = 12
STAMP_STEP_MAX = 256
"""Stamps must not run ahead of the time. With more shards than half of this a few share theirs."""
TAGS = 16_384
"""Sessions whose tags are remembered by a process: 2 MB."""


@lru_cache(maxsize=4096)
def _tag(letter: str, number: int) -> str:
    return f"{{{letter}{number:02d}}}"


class Keys:
    """Key names for one number of shards, which is fixed when the data are made."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.stamp_step = min(2 * shards, STAMP_STEP_MAX)
        """µs between two stamps that a shard gives in queues: each shard has some that no other gives."""
        self.session_tag: Callable[[str], str] = lru_cache(TAGS)(self._session_tag)  # a quarter of the time
        """The tag of a session's shard."""

    def _session_tag(self, session: str) -> str:
        return _tag("s", crc32(session.encode()) % self.shards)

    def user_tag(self, user: str) -> str:
        return _tag("u", crc32(user.encode()) % self.shards)

    def session_tags(self) -> list[str]:
        """The tags of all shards of sessions."""
        return [_tag("s", number) for number in range(self.shards)]

    def user_tags(self) -> list[str]:
        """The tags of all shards of users."""
        return [_tag("u", number) for number in range(self.shards)]

    def history(self, session: str) -> str:
        return f"{self.session_tag(session)}:h:{session}"

    def tombstones(self, session: str) -> str:
        return f"{self.session_tag(session)}:t:{session}"

    def meta(self, session: str) -> str:
        return f"{self.session_tag(session)}:m:{session}"

    def group_info(self, group: str) -> str:
        return f"{self.session_tag(group)}:i:{group}"

    def members(self, group: str) -> str:
        return f"{self.session_tag(group)}:p:{group}"

    def my_groups(self, user: str) -> str:
        return f"{self.user_tag(user)}:g:{user}"

    def group_priority(self, group: str) -> str:
        return f"{self.session_tag(group)}:c:{group}"

    def user_priority(self, user: str) -> str:
        return f"{self.user_tag(user)}:h:{user}"

    def priority(self, owner: str) -> str:
        """The queue of a user or a group."""
        return self.group_priority(owner) if owner.startswith(GROUP_PREFIX) else self.user_priority(owner)

    def recent(self, user: str) -> str:
        return f"{self.user_tag(user)}:r:{user}"

    def of_user(self, letter: str, user: str) -> str:
        """A key of a user by its letter in the list above."""
        return f"{self.user_tag(user)}:{letter}:{user}"

    def logins(self, user: str) -> str:
        return f"{self.user_tag(user)}:l:{user}"

    def account(self, user: str) -> str:
        return f"{self.user_tag(user)}:u:{user}"

    def api_request(self, record: str) -> str:
        """A request with an Idempotency-Key."""
        return f"imesh:api:r:{record}"

    def api_nonce(self, caller: str, nonce: str) -> str:
        """A nonce of a signed request."""
        return f"imesh:api:n:{caller}:{nonce}"


def dedup_field(session: str, sender: str, pack_id: str) -> bytes:
    """What a resend is known by: short, because it is kept for each message (2 µs and 60 bytes less than the ids).

    The sender is in it, so whoever finds two packIds of one digest has only fooled himself.
    """
    return blake2b(f"{session}\0{sender}\0{pack_id}".encode(), digest_size=DEDUP_BYTES).digest()
