"""The user node's typing notices (69): told to those who are there now, and never stored."""

from __future__ import annotations

from mesh.errors import AppError
from mesh.limits import Buckets
from nodes import publications
from nodes.contracts import Groups
from nodes.packs import Item, handles
from nodes.social import SocialNode, require_self
from packs.codec import encode_payload
from packs.codes import Code
from packs.ids import is_group_id, single_members, single_session
from packs.structs import SUCCESS, CommonErrorCode
from packs.structs_social import Typing
from packs.table import TYPING


class TypistsNode(SocialNode):
    """Who is typing."""

    group: Groups | None

    def start(self) -> None:
        super().start()
        self._typists = Buckets(self.settings.typing_per_minute / 60, self.settings.typing_per_minute)
        topology = self.process.topology
        self._friends_only = bool(topology.instances("chat")) and topology.settings("chat").require_friend

    @handles(TYPING)
    def _typing(self, item: Item) -> CommonErrorCode:
        message = item.message
        user = require_self(item, message.user_id)
        members = single_members(message.session_id)
        group = message.session_id if is_group_id(message.session_id) else ""
        if not group and (members is None or user not in members):
            raise AppError(Code.PARAM, "sessionId is not one of yours")
        wait = self._typists.wait(user)
        if wait > 0:
            raise AppError(Code.REFUSED, "too many typing notices", retry_after=int(wait * 1000) + 1)
        self._typists.take(user)
        typing = int(message.typing != 0)
        if group:
            self._tell_group(item, group, typing)
        elif members is not None:
            self._tell_peer(item, members[0] if user == members[1] else members[1], typing)
        return SUCCESS

    def _tell_peer(self, item: Item, peer: str, typing: int) -> None:
        user = item.origin.user
        session = single_session(user, peer)
        if peer == user:
            return
        friends, blocked = self._store.friends.relation(session, user, peer)
        if blocked:
            raise AppError(Code.BLOCKED)
        if self._friends_only and not friends:
            raise AppError(Code.NOT_FRIENDS)
        topic = publications.USER + peer
        if self.process.fanout.holders(topic):
            payload = encode_payload(Typing(session_id=session, user_id=user, typing=typing))
            self.publish(topic, publications.delivery(item.origin.connection, TYPING, 0, "", payload))

    def _tell_group(self, item: Item, group: str, typing: int) -> None:
        if self.group is None:
            raise AppError(Code.UNAVAILABLE, "this system has no node for it")
        user = item.origin.user
        presence = self.group.present(group, (user,))
        if not presence.version:
            raise AppError(Code.GROUP_NOT_FOUND)
        if user not in presence.members:
            raise AppError(Code.NOT_GROUP_MEMBER)
        topic = publications.GROUP + group
        if self.process.fanout.holders(topic):
            payload = encode_payload(Typing(session_id=group, user_id=user, typing=typing))
            skip = item.origin.connection
            self.publish(topic, publications.group_delivery(skip, TYPING, 0, "", payload, presence.version))
