"""What tests of friends, profiles, presence and devices do all the time, over raw connections."""

from __future__ import annotations

from collections.abc import Sequence

from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.flags import ACK
from tests.raw import Raw, code, decode


def add(raw: Raw, *friends: str, remark: str = "", pack_id: str = "") -> int:
    """Add friends; the code."""
    rows = [s.FriendInfo(friend_id=friend, remark=remark) for friend in friends]
    return code(raw.ask(t.FRIEND_ADD, s.FriendAddReq(friends=rows), pack_id))


def delete(raw: Raw, *friends: str) -> int:
    """Delete friends; the code."""
    rows = [s.FriendInfo(friend_id=friend) for friend in friends]
    return code(raw.ask(t.FRIEND_DEL, s.FriendDelReq(friends=rows)))


def synced(raw: Raw, cursor: int = 0) -> s.FriendSyncResp:
    answer: s.FriendSyncResp = raw.ask(t.FRIEND_SYNC, s.FriendSyncReq(timestamp=cursor))
    assert code(answer) == 0
    return answer


def friends(raw: Raw) -> set[str]:
    """Ids of all friends; those that 53 brings from the beginning are the same."""
    answer = synced(raw)
    assert [f.friend_id for f in answer.friends] == sorted(
        answer.friend_ids, key=[f.friend_id for f in answer.friends].index
    )
    return set(answer.friend_ids)


def remarks(raw: Raw) -> dict[str, str]:
    return {f.friend_id: f.remark for f in synced(raw).friends}


def block(raw: Raw, *users: str) -> int:
    """Block users; the code."""
    return code(raw.ask(t.BLOCK, x.BlockReq(user_ids=list(users))))


def unblock(raw: Raw, *users: str) -> int:
    return code(raw.ask(t.UNBLOCK, x.BlockReq(user_ids=list(users))))


def blocklist(raw: Raw) -> list[str]:
    answer: x.BlocklistResp = raw.ask(t.BLOCKLIST_GET)
    assert code(answer) == 0
    return answer.user_ids


def requests(raw: Raw) -> list[str]:
    """Who asks to be a friend."""
    answer: x.FriendRequestsResp = raw.ask(t.FRIEND_REQUESTS_GET)
    assert code(answer) == 0
    return [request.user_id for request in answer.requests]


def accept(raw: Raw, friend: str, yes: bool = True, remark: str = "") -> int:
    request = x.FriendRequestAnswerReq(friend_id=friend, accept=int(yes), remark=remark)
    return code(raw.ask(t.FRIEND_REQUEST_ANSWER, request))


def presences(raw: Raw, *users: str) -> list[x.Presence]:
    """65: of these users, or of friends who are online."""
    answer: x.PresenceResp = raw.ask(t.PRESENCE_GET, x.PresenceGetReq(user_ids=list(users)))
    assert code(answer) == 0
    return answer.presences


def commands(raw: Raw, seconds: float = 0.2) -> list[int]:
    """Commands of the 25s that come until nothing comes for a while; nothing else may come."""
    found = []
    while not raw.silent(seconds):
        pack = raw.pack()
        assert pack.type == t.SYNC_DATA_CMD and not pack.flags & ACK, pack
        found.append(decode(pack).command)
    return found


def ids(rows: Sequence[x.Presence]) -> list[str]:
    return [row.user_id for row in rows]
