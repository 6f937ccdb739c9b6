"""Groups and their members."""

from __future__ import annotations

from msgspec import UNSET

from mesh.errors import AppError
from nodes.rest import wire
from nodes.rest.acting import Nodes
from packs.codes import Code
from packs.structs import (
    GroupChatCreateReq,
    GroupChatCreateResp,
    GroupChatCreatorUpdateReq,
    GroupChatDismissReq,
    GroupChatInfo,
    GroupChatInfoUpdateReq,
    GroupChatJoinQuitReq,
    GroupChatSyncReq,
    GroupChatSyncResp,
    Payload,
)
from packs.table import (
    GROUPCHAT_CREATE,
    GROUPCHAT_DISMISS,
    GROUPCHAT_INFO_UPDATE,
    GROUPCHAT_JOIN,
    GROUPCHAT_QUIT,
    GROUPCHAT_SYNC,
    GROUPCHAT_UPDATE_CREATOR,
)
from webapi.routes import Call, route


class Groups:
    """Routes of groups. Without an operator, it is the owner who acts."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @route("POST", "/v1/groups", scope="groups:write", status=201, tag="groups", errors=(422,), summary="Make a group")
    def create(self, call: Call, body: wire.NewGroup) -> wire.GroupCreated:
        info = GroupChatInfo(
            name=body.name, avatar=body.avatar, desc=body.desc, member_limit=body.member_limit, join_mode=body.join_mode
        )
        asked = GroupChatCreateReq(group_info=info, member_ids=body.members)
        made: GroupChatCreateResp = self._nodes.ask(call, body.owner, GROUPCHAT_CREATE, asked)
        return wire.GroupCreated(made.group_id)

    @route("GET", "/v1/groups/{group}", scope="groups:read", tag="groups", summary="A group")
    def get(self, call: Call, group: wire.GroupId) -> wire.Group:
        g = self._nodes.group.info(group)
        return wire.Group(g.group, g.name, g.owner, g.avatar, g.desc, g.limit, g.mode, g.created, g.updated)

    @route("PATCH", "/v1/groups/{group}", scope="groups:write", tag="groups", errors=(422,), summary="Change a group")
    def change(self, call: Call, group: wire.GroupId, body: wire.GroupChange) -> wire.Done:
        """An empty text leaves things as they are, as everywhere in the protocol."""
        info = GroupChatInfo(
            group_id=group, name=body.name or "", avatar=body.avatar or "", desc=body.desc or "",
            member_limit=body.member_limit or 0, join_mode=UNSET if body.join_mode is None else body.join_mode,
        )  # fmt: skip
        self._act(call, group, body.operator, GROUPCHAT_INFO_UPDATE, GroupChatInfoUpdateReq(group_info=info))
        return wire.Done()

    @route("DELETE", "/v1/groups/{group}", scope="groups:write", tag="groups", errors=(422,), summary="Dismiss a group")
    def dismiss(self, call: Call, group: wire.GroupId, query: wire.OptionalOperator) -> wire.Done:
        """Its messages stay."""
        try:
            self._act(call, group, query.operator, GROUPCHAT_DISMISS, GroupChatDismissReq(group_id=group))
        except AppError as error:
            if not (call.again and error.code == Code.GROUP_NOT_FOUND):
                raise  # else the first try did it
        return wire.Done()

    @route("PUT", "/v1/groups/{group}/owner", scope="groups:write", tag="groups", errors=(422,),
           summary="Hand a group over")  # fmt: skip
    def hand_over(self, call: Call, group: wire.GroupId, body: wire.NewOwner) -> wire.Done:
        asked = GroupChatCreatorUpdateReq(group_id=group, new_creator_id=body.user_id)
        self._act(call, group, body.operator, GROUPCHAT_UPDATE_CREATOR, asked)
        return wire.Done()

    @route("GET", "/v1/groups/{group}/members", scope="groups:read", tag="groups", errors=(422,),
           summary="Members of a group")  # fmt: skip
    def members(self, call: Call, group: wire.GroupId, query: wire.Page) -> wire.MemberPage:
        """By id."""
        found = sorted(self._nodes.group.members(group))
        after = [member for member in found if member > query.cursor]
        page = after[: query.limit]
        return wire.MemberPage(page, page[-1] if len(after) > len(page) else "")

    @route("POST", "/v1/groups/{group}/members", scope="groups:write", tag="groups", errors=(422,),
           summary="Add members to a group")  # fmt: skip
    def add(self, call: Call, group: wire.GroupId, body: wire.Members) -> wire.ItemResults:
        """All of them or none."""
        asked = GroupChatJoinQuitReq(group_id=group, member_ids=body.users)
        self._act(call, group, body.operator, GROUPCHAT_JOIN, asked)
        return wire.ItemResults([wire.ItemResult(user, 200) for user in body.users])

    @route("DELETE", "/v1/groups/{group}/members/{user}", scope="groups:write", tag="groups", errors=(422,),
           summary="Remove a member from a group")  # fmt: skip
    def remove(self, call: Call, group: wire.GroupId, user: wire.UserId, query: wire.OptionalOperator) -> wire.Done:
        """Who is no member need not be removed. The owner cannot be."""
        asked = GroupChatJoinQuitReq(group_id=group, member_ids=[user])
        self._act(call, group, query.operator, GROUPCHAT_QUIT, asked)
        return wire.Done()

    @route("GET", "/v1/users/{user}/groups", scope="groups:read", tag="groups", summary="The groups of a user")
    def of_user(self, call: Call, user: wire.UserId) -> wire.GroupIds:
        found: GroupChatSyncResp = self._nodes.ask(call, user, GROUPCHAT_SYNC, GroupChatSyncReq(timestamp=0))
        return wire.GroupIds(sorted(found.group_ids))

    def _act(self, call: Call, group: str, operator: str | None, pack_type: int, asked: Payload) -> None:
        """Act as the operator, else as the owner: again, when the group has another one since."""
        if operator is not None:
            self._nodes.ask(call, operator, pack_type, asked)
            return
        owner = self._nodes.group.info(group).owner
        try:
            self._nodes.ask(call, owner, pack_type, asked)
        except AppError as error:
            if error.code not in (Code.GROUP_NOT_OWNER, Code.GROUP_NO_PRIVILEGE):
                raise
            now = self._nodes.group.info(group).owner
            if now == owner:
                raise
            self._nodes.ask(call, now, pack_type, asked)
