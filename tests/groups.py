"""What tests of groups do all the time, over raw connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packs import structs as s
from packs import table as t
from packs.enums import SyncCommand
from packs.flags import COUNTER
from packs.pack import Pack
from tests.raw import Raw, code, decode


def create(raw: Raw, *members: str, name: str = "g", pack_id: str = "", **info: Any) -> str:
    """Make a group; its id."""
    request = s.GroupChatCreateReq(group_info=s.GroupChatInfo(name=name, **info), member_ids=list(members))
    answer = raw.ask(t.GROUPCHAT_CREATE, request, pack_id)
    assert code(answer) == 0, answer
    group_id: str = answer.group_id
    return group_id


def join(raw: Raw, group: str, *users: str) -> int:
    """Add users; the code."""
    return code(raw.ask(t.GROUPCHAT_JOIN, s.GroupChatJoinQuitReq(group_id=group, member_ids=list(users))))


def leave(raw: Raw, group: str, *users: str) -> int:
    """Remove users; the code."""
    return code(raw.ask(t.GROUPCHAT_QUIT, s.GroupChatJoinQuitReq(group_id=group, member_ids=list(users))))


def dismiss(raw: Raw, group: str) -> int:
    return code(raw.ask(t.GROUPCHAT_DISMISS, s.GroupChatDismissReq(group_id=group)))


def hand_over(raw: Raw, group: str, user: str) -> int:
    return code(raw.ask(t.GROUPCHAT_UPDATE_CREATOR, s.GroupChatCreatorUpdateReq(group_id=group, new_creator_id=user)))


def update(raw: Raw, group: str, **info: Any) -> int:
    request = s.GroupChatInfoUpdateReq(group_info=s.GroupChatInfo(group_id=group, **info))
    return code(raw.ask(t.GROUPCHAT_INFO_UPDATE, request))


def members(raw: Raw, group: str) -> list[str]:
    """All members, over as many pages as there are."""
    found: list[str] = []
    cursor = ""
    while True:
        request = s.GroupChatMemberGetReq(group_id=group, cursor=cursor)
        answer = raw.ask(t.GROUPCHAT_MEMBERS_GET, request)
        assert code(answer) == 0, answer
        found += answer.member_ids
        cursor = answer.cursor
        if not cursor:
            return found


def mine(raw: Raw, cursor: int = 0) -> s.GroupChatSyncResp:
    answer: s.GroupChatSyncResp = raw.ask(t.GROUPCHAT_SYNC, s.GroupChatSyncReq(timestamp=cursor))
    assert code(answer) == 0
    return answer


def say(raw: Raw, group: str, content: str = "x", pack_id: str = "", flags: int = COUNTER) -> s.MsgAck:
    ack: s.MsgAck = raw.ask(t.MSG_GROUP_CHAT, s.MsgReq(to=group, content=content), pack_id, flags)
    return ack


def pushed(raw: Raw, until: str, group: str = "") -> list[Pack]:
    """Packs pushed to a connection up to a message with this content, which must come.

    With `group`, a hint to resync that leads to the message there does as well: whoever has just been added may get it.
    """
    found = []
    while True:
        pack = raw.pack()
        found.append(pack)
        if pack.type == t.MSG_GROUP_CHAT and decode(pack).content == until:
            return found
        hinted = group and pack.type == t.SYNC_DATA_CMD and decode(pack) == HINT
        if hinted and any(message.content == until for message in raw.history(group)):
            return found


def heard(raw: Raw, until: str, group: str = "") -> list[str]:
    """Contents of the group messages up to this one, which must come (`group`: see `pushed`)."""
    return [decode(p).content for p in pushed(raw, until, group) if p.type == t.MSG_GROUP_CHAT]


def syncs(packs: Sequence[Pack]) -> list[tuple[int, str]]:
    """Sync commands among packs, hints to resync apart."""
    found = [decode(p) for p in packs if p.type == t.SYNC_DATA_CMD]
    return [(c.command, c.content) for c in found if c.command != SyncCommand.RESYNC]


def next_sync(raw: Raw) -> tuple[int, str]:
    """The sync command that is pushed next, hints to resync apart."""
    while not (found := syncs([raw.pack()])):
        pass
    return found[0]


def quiet(raw: Raw, seconds: float = 0.2) -> bool:
    """Whether nothing comes for a while but hints to resync, which may follow when somebody is added."""
    while not raw.silent(seconds):
        if decode(raw.pack()) != HINT:
            return False
    return True


HINT = s.SyncDataReq(command=SyncCommand.RESYNC)
