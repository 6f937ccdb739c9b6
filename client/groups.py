"""Groups: making, joining, leaving, changing and listing them."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import UNSET

from client.requests import Request
from packs import structs as s
from packs import table as t
from packs.enums import JoinMode


@dataclass(frozen=True)
class Group:
    """What a group is. Times in ms; `limit` is the most members that it may have."""

    group_id: str
    name: str
    owner: str
    avatar: str
    description: str
    limit: int
    join_mode: JoinMode
    created: int
    updated: int


class Groups:
    """Of one user. Methods raise `Refused` with the codes of the protocol: 33 no right to, 34 too many members, 35 no
    such group, 36 the owner has to do it, 30 and 28 not a member."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lock = threading.Lock()  # of the two
        self._known: dict[str, Group] = {}
        self._cursor = 0

    def create(
        self, name: str, members: Iterable[str] = (), *, avatar: str = "", description: str = "", limit: int = 0,
        join_mode: JoinMode = JoinMode.MEMBERS,
    ) -> str:  # fmt: skip
        """Make a group that one owns and is a member of; its id. `limit` 0: the server's default. `join_mode`: who may
        add members: any member, the owner only, or everybody himself."""
        info = s.GroupChatInfo(
            name=name, avatar=avatar, desc=description, member_limit=limit, join_mode=int(join_mode)
        )  # fmt: skip
        request = s.GroupChatCreateReq(group_info=info, member_ids=list(members))
        response: s.GroupChatCreateResp = self._request(t.GROUPCHAT_CREATE, request)
        return response.group_id

    def add(self, group: str, members: Iterable[str]) -> None:
        """Add members, all or none; those who are in already are passed over."""
        self._request(t.GROUPCHAT_JOIN, s.GroupChatJoinQuitReq(group_id=group, member_ids=list(members)))

    def remove(self, group: str, members: Iterable[str]) -> None:
        """Remove members, all or none. The owner may remove anyone, everybody himself."""
        self._request(t.GROUPCHAT_QUIT, s.GroupChatJoinQuitReq(group_id=group, member_ids=list(members)))

    def dismiss(self, group: str) -> None:
        """End a group that one owns."""
        self._request(t.GROUPCHAT_DISMISS, s.GroupChatDismissReq(group_id=group))

    def hand_over(self, group: str, new_owner: str) -> None:
        """Make a member the owner; one stays a member."""
        request = s.GroupChatCreatorUpdateReq(group_id=group, new_creator_id=new_owner)
        self._request(t.GROUPCHAT_UPDATE_CREATOR, request)

    def update(
        self, group: str, *, name: str = "", avatar: str = "", description: str = "", limit: int = 0,
        join_mode: JoinMode | None = None,
    ) -> None:  # fmt: skip
        """Change what is given of a group that one owns."""
        info = s.GroupChatInfo(
            group_id=group, name=name, avatar=avatar, desc=description, member_limit=limit,
            join_mode=UNSET if join_mode is None else int(join_mode),
        )  # fmt: skip
        self._request(t.GROUPCHAT_INFO_UPDATE, s.GroupChatInfoUpdateReq(group_info=info))

    def members(self, group: str) -> builtins.list[str]:
        """Who is in it. For members only."""
        found: builtins.list[str] = []
        cursor = ""
        while True:
            request = s.GroupChatMemberGetReq(group_id=group, cursor=cursor)
            response: s.GroupChatMemberGetResp = self._request(t.GROUPCHAT_MEMBERS_GET, request)
            found += response.member_ids
            cursor = response.cursor
            if not cursor:
                return found

    def list(self) -> list[Group]:
        """All that one is in. Only what has changed since the last time is fetched."""
        with self._lock:
            ids = self._fetch()
            if any(group not in self._known for group in ids):
                self._cursor = 0  # back in a group that was forgotten here
                ids = self._fetch()
            self._known = {group: self._known[group] for group in ids if group in self._known}
            return [*self._known.values()]

    def _fetch(self) -> builtins.list[str]:
        """Bring `_known` up to date; the ids of all groups."""
        while True:
            response: s.GroupChatSyncResp = self._request(t.GROUPCHAT_SYNC, s.GroupChatSyncReq(timestamp=self._cursor))
            found = {info.group_id: _group(info) for info in response.group_chats}
            self._cursor = response.timestamp
            if all(self._known.get(group) == known for group, known in found.items()):
                return response.group_ids  # what is this new comes again, and there is no other page
            self._known.update(found)

    def get(self, group: str) -> Group | None:
        """One that one is in; None when one is not."""
        return next((found for found in self.list() if found.group_id == group), None)


def _group(info: s.GroupChatInfo) -> Group:
    try:
        mode = JoinMode(0 if info.join_mode is UNSET else info.join_mode)
    except ValueError:
        mode = JoinMode.MEMBERS  # a newer server's
    return Group(
        info.group_id, info.name, info.creator_id, info.avatar, info.desc, info.member_limit, mode, info.create_time,
        info.update_time,
    )  # fmt: skip
