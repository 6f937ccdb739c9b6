"""Every key in Redis is built here. Ids are validated before they get here.

Session keys share the tag of their shard, `{sNN}`, so that all that one message touches lies in one Cluster slot:

    {sNN}:h:<session>   sorted set   history: seqId -> entry (store/entries.py)
    {sNN}:m:<session>   hash         q newest seqId, n countable messages, r:<user> read position "seqId:n",
                                     f:<user> the user has the other as a friend, b:<user> has blocked the other
    {sNN}:g:<session>   sorted set   countable messages that are revoked or deleted (seqId)
    {sNN}:d:<hour>      hash         dedup: digest of session, sender and packId -> seqId, prevSeqId, crc; expires
    {sNN}:log           stream       every stored row, for archive, push and hooks

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
    {uNN}:stamp         string       the newest stamp given in this shard of users
    {uNN}:l:<user>      hash         device type -> login number
    {uNN}:u:<user>      hash         account: password (argon2id), created, disabled
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from zlib import crc32

USERS = "imesh:users"
"""Sorted set of account ids by creation time (ms)."""
DATASET = "imesh:dataset"
"""Random id of these data, and the number of shards they were made with."""
GROUP_PREFIX = "GC_"
"""What the ids of groups begin with, and no other session's."""
TAGS = 16_384
"""Sessions whose tags are remembered by a process: 2 MB."""


@lru_cache(maxsize=4096)
def _tag(letter: str, number: int) -> str:
    return f"{{{letter}{number:02d}}}"


class Keys:
    """Key names for one number of shards, which is fixed when the data are made."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.session_tag: Callable[[str], str] = lru_cache(TAGS)(self._session_tag)  # a quarter of the time
        """The tag of a session's shard."""

    def _session_tag(self, session: str) -> str:
        return _tag("s", crc32(session.encode()) % self.shards)

    def user_tag(self, user: str) -> str:
        return _tag("u", crc32(user.encode()) % self.shards)

    def history(self, session: str) -> str:
        return f"{self.session_tag(session)}:h:{session}"

    def meta(self, session: str) -> str:
        return f"{self.session_tag(session)}:m:{session}"

    def group_info(self, group: str) -> str:
        return f"{self.session_tag(group)}:i:{group}"

    def my_groups(self, user: str) -> str:
        return f"{self.user_tag(user)}:g:{user}"

    def recent(self, user: str) -> str:
        return f"{self.user_tag(user)}:r:{user}"

    def logins(self, user: str) -> str:
        return f"{self.user_tag(user)}:l:{user}"

    def account(self, user: str) -> str:
        return f"{self.user_tag(user)}:u:{user}"
