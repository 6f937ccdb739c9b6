"""The group node: groups, their members, and messages to them (15, 40 to 47).

The store decides on every change in one script, whole or not at all; nothing here is remembered. What follows a change:

    1. at once, in the order of the store, on the topic of the group: who came, who went, what to fetch again (25)
    2. the users' own lists of groups
    3. to those who came or went: that they are in it, and what to fetch again
    4. the answer

So messages that are stored after a change are published after it, and whoever is told of a group finds it in his list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import UNSET

from mesh.dispatch import Incoming
from mesh.errors import AppError, Timeout
from mesh.fanout import Publication
from mesh.node import batch
from nodes import hot, publications, words
from nodes.auth import AuthSettings
from nodes.contracts import Groups
from nodes.messages import Draft, MessageNode
from nodes.packs import Item, handles
from packs.codes import Code
from packs.enums import JoinMode, SyncCommand
from packs.ids import is_user_id
from packs.structs import (
    SUCCESS,
    CommonErrorCode,
    GroupChatCreateResp,
    GroupChatInfo,
    GroupChatMemberGetResp,
    GroupChatSyncResp,
)
from packs.table import (
    GROUPCHAT_CREATE,
    GROUPCHAT_DISMISS,
    GROUPCHAT_INFO_UPDATE,
    GROUPCHAT_JOIN,
    GROUPCHAT_MEMBERS_GET,
    GROUPCHAT_QUIT,
    GROUPCHAT_SYNC,
    GROUPCHAT_UPDATE_CREATOR,
    MSG_GROUP_CHAT,
)
from store.groups import (
    DENIED,
    FULL,
    MISSING,
    NOT_MEMBER,
    NOT_OWNER,
    REPEATED,
    SILENT,
    Change,
    Event,
    Presence,
    Profile,
)
from store.sessions import MEMBERS_ONLY, Stored

MAX_TEXT = {"name": 512, "avatar": 2048, "desc": 4096}
"""Characters of a group's info: every member gets it with every 40."""
PAGE_IDS, PAGE_CHARACTERS = 10_000, 500_000
"""Members in one answer to 47, so that it fits a frame in every codec (an id needs 3 more characters in JSON)."""
PAGE_BYTES = 500_000
"""JSON of the infos in one answer to 40: what they are elsewhere is shorter."""
SETTLED_US = 5_000_000
"""Stamps this close to the present may still be joined by lower ones, so a cursor stays below."""
MANY = 64
"""From so many users on, one publication to all brokers is cheaper than one to each user."""

_encode_json = msgspec.json.Encoder().encode

_REFUSALS = {
    MISSING: Code.GROUP_NOT_FOUND,
    DENIED: Code.GROUP_NO_PRIVILEGE,
    FULL: Code.GROUP_MEMBER_LIMIT,
    NOT_OWNER: Code.GROUP_NOT_OWNER,
    NOT_MEMBER: Code.NOT_GROUP_MEMBER,
}


class GroupSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [node.group]."""

    max_payload: int = 65_536
    """Bytes of a message's payload, at most (code 41)."""
    member_limit: int = 1_000
    """Members of a group whose creator asks for no other limit (code 34)."""
    max_members: int = 100_000
    """The highest limit that a group may have."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not 1024 <= self.max_payload <= 600_000:
            yield "max_payload", "must be from 1024 to 600000"
        if not 1 <= self.max_members <= 1_000_000:
            yield "max_members", "must be from 1 to 1000000"
        if not 1 <= self.member_limit <= self.max_members:
            yield "member_limit", "must be from 1 to max_members"


class GroupNode(MessageNode, Groups):
    """Groups, types 15 and 40 to 47."""

    Settings = GroupSettings
    sections = {**hot.SECTIONS, **words.SECTIONS, "auth": AuthSettings}
    words_of = words.GROUP

    def start(self) -> None:
        super().start()
        self._accounts_only = self.section("auth").mode == "password"
        self._told = hot.is_told(self.process)

    # ---- messages

    @handles(MSG_GROUP_CHAT, batch=True)
    def _send(self, items: list[Item]) -> None:
        self.save([draft for item in items if (draft := self.draft(item, MEMBERS_ONLY)) is not None])

    def publish_stored(self, draft: Draft, outcome: Stored) -> None:
        topic = publications.GROUP + draft.to
        if self.process.fanout.holders(topic):
            flags, payload = self.body(draft, outcome)
            item = draft.item
            self.publish(
                topic,
                publications.group_delivery(
                    item.origin.connection, MSG_GROUP_CHAT, flags, item.request.pack_id, payload, outcome.version
                ),
            )

    # ---- 40: what I am in

    @handles(GROUPCHAT_SYNC)
    def _sync(self, item: Item) -> GroupChatSyncResp:
        user, after = item.origin.user, max(0, item.message.timestamp)
        clock, mine = self._store.groups.mine(user)
        ids: list[str] = []
        changed: list[tuple[int, GroupChatInfo]] = []
        profiles = self._store.groups.profiles(user, [group for group, _ in mine])
        for (group, stamp), profile in zip(mine, profiles, strict=True):
            if profile is None:  # he is not in it any more, and his list does not know
                self._store.groups.settle(group, [user])
                continue
            ids.append(group)
            stamp = max(stamp, profile.updated * 1000)
            if stamp > after:
                changed.append((stamp, _info(profile)))
        changed.sort(key=itemgetter(0))
        fitting = _fitting(changed)
        newest = fitting[-1][0] if fitting else after
        settled = newest if len(fitting) < len(changed) else min(newest, clock - SETTLED_US)
        return GroupChatSyncResp(
            timestamp=max(after, settled), group_chats=[info for _, info in fitting], group_ids=ids
        )

    # ---- 41: a new group

    @handles(GROUPCHAT_CREATE)
    def _create(self, item: Item) -> GroupChatCreateResp:
        user, info = item.origin.user, item.message.group_info
        _require_self(item, info.creator_id)
        fields = self._fields(info)
        users = self._users([user, *item.message.member_ids])
        # Derived, so that a repeat names the same group.
        group = "GC_" + blake2b(f"{user}\0{item.request.pack_id}".encode(), digest_size=16).hexdigest()
        created = self._store.groups.create(
            group, user, users, name=fields["name"], avatar=fields.get("avatar", ""), desc=fields.get("desc", ""),
            limit=fields.get("limit", self.settings.member_limit), mode=fields.get("mode", int(JoinMode.MEMBERS)),
            event=self._event(item, group, "created", users),
        )  # fmt: skip
        if created.status == MISSING:  # this request made it, and it was dismissed since
            return GroupChatCreateResp(group_id=group)
        _require(created)
        new = () if created.status == REPEATED else users
        self._came(item, group, created, users, new)
        return GroupChatCreateResp(group_id=group)

    # ---- 42, 43: members

    @handles(GROUPCHAT_JOIN)
    def _join(self, item: Item) -> CommonErrorCode:
        group, users = item.key, self._users(item.message.member_ids)
        event = self._event(item, group, "joined", users)
        change = _require(self._store.groups.join(group, item.origin.user, users, event))
        if change.users:
            # The members so far are told before the new ones are added: those hear of the group itself.
            self._tell_members(item, group, change.version - 1, SyncCommand.GROUP_MEMBERS)
            self.publish(publications.GROUP + group, publications.members(change.version, change.users, ()))
        self._came(item, group, change, users, change.users)
        return SUCCESS

    @handles(GROUPCHAT_QUIT)
    def _quit(self, item: Item) -> CommonErrorCode:
        group, users = item.key, _ids(item.message.member_ids)
        event = self._event(item, group, "left", users)
        change = _require(self._store.groups.quit(group, item.origin.user, users, event))
        if change.users:
            self.publish(publications.GROUP + group, publications.members(change.version, (), change.users))
            self._tell_members(item, group, change.version, SyncCommand.GROUP_MEMBERS)
        self._store.groups.settle(group, users, Presence(change.version, change.newest, ()))
        self._tell_users(change.users, [_sync_groups(item, group)])
        return SUCCESS

    def _event(self, item: Item, group: str, change: str, users: Sequence[str] = ()) -> Event:
        """What other systems are told when the change is made. A repeat has the same id."""
        if not self._told:
            return SILENT
        operator = item.origin.user
        of = f"{operator}\0{item.request.pack_id}\0{group}\0{change}"
        event_id = blake2b(of.encode(), digest_size=16).hexdigest()
        data = {"group_id": group, "change": change, "operator": operator, "users": list(users)}
        return event_id, _encode_json(data)

    def _came(self, item: Item, group: str, change: Change, users: Sequence[str], new: Sequence[str]) -> None:
        """Have the lists of `users` hold the group, and tell them: the `new` ones by a sync command as well."""
        known = Presence(change.version, change.newest, tuple(users))
        members = self._store.groups.settle(group, users, known)
        joined = publications.joined(group, change.version, change.newest)
        told = set(new)
        self._tell_users([u for u in users if u in members and u not in told], [joined])
        self._tell_users([u for u in new if u in members], [joined, _sync_groups(item, group)])

    # ---- 44, 45, 46: the owner's

    @handles(GROUPCHAT_DISMISS)
    def _dismiss(self, item: Item) -> CommonErrorCode:
        group = item.key
        _require_self(item, item.message.operator_id)
        change = _require(self._store.groups.dismiss(group, item.origin.user, self._event(item, group, "dismissed")))
        self._store.groups.settle(group, change.users, Presence(0, 0, ()))
        # Not on the group's topic: brokers of members who were just added may not listen to it yet.
        self._tell_users(change.users, [_sync_groups(item, group)])
        self.publish(publications.GROUP + group, publications.dismissed())
        return SUCCESS

    @handles(GROUPCHAT_UPDATE_CREATOR)
    def _hand_over(self, item: Item) -> CommonErrorCode:
        _require_self(item, item.message.operator_id)
        (owner,) = _ids([item.message.new_creator_id])
        event = self._event(item, item.key, "owner", (owner,))
        change = _require(self._store.groups.hand_over(item.key, item.origin.user, owner, event))
        self._tell_members(item, item.key, change.version, SyncCommand.GROUP_INFO)
        return SUCCESS

    @handles(GROUPCHAT_INFO_UPDATE)
    def _update(self, item: Item) -> CommonErrorCode:
        _require_self(item, item.message.operator_id)
        fields = self._fields(item.message.group_info)
        event = self._event(item, item.key, "info")
        change = _require(self._store.groups.update(item.key, item.origin.user, fields, event))
        self._tell_members(item, item.key, change.version, SyncCommand.GROUP_INFO)
        return SUCCESS

    # ---- 47: who is in it

    @handles(GROUPCHAT_MEMBERS_GET)
    def _members(self, item: Item) -> GroupChatMemberGetResp:
        after = _cursor(item.message.cursor)
        page = self._store.groups.page(item.key, item.origin.user, after, PAGE_IDS, PAGE_CHARACTERS - 3 * PAGE_IDS)
        _require(Change(page.status))
        ids = sorted(page.members)
        cursor = f"{page.after[1]}:{page.after[0]}" if page.after[0] else ""
        return GroupChatMemberGetResp(group_id=item.key, member_ids=ids, cursor=cursor)

    # ---- checks

    def _users(self, listed: Sequence[str]) -> list[str]:
        """Ids of users to be added, each once. Raises `AppError` 2 for one that cannot be."""
        users = _ids(listed)
        if self._accounts_only:
            for user, exists in zip(users, self._store.users.exist(users), strict=True):
                if not exists:
                    raise AppError(Code.PARAM, f"no such user: {user}")
        return users

    def _fields(self, info: GroupChatInfo) -> dict[str, Any]:
        """What a request says of a group's info; what it leaves out is not there. Raises `AppError` 2."""
        fields: dict[str, Any] = {}
        for name, most in MAX_TEXT.items():
            text = getattr(info, name)
            if len(text) > most:
                raise AppError(Code.PARAM, f"{name} has more than {most} characters")
            if text:
                fields[name] = text
        if not 0 <= info.member_limit <= self.settings.max_members:
            raise AppError(Code.PARAM, f"memberLimit is from 1 to {self.settings.max_members}")
        if info.member_limit:
            fields["limit"] = info.member_limit
        if info.join_mode is not UNSET:
            if info.join_mode not in tuple(JoinMode):
                raise AppError(Code.PARAM, "joinMode is 0, 1 or 2")
            fields["mode"] = int(info.join_mode)
        return fields

    # ---- publications

    def _tell_members(self, item: Item, group: str, version: int, command: int) -> None:
        topic = publications.GROUP + group
        if self.process.fanout.holders(topic):
            self.publish(topic, publications.group_sync(item.origin.connection, command, group, version))

    def _tell_users(self, users: Sequence[str], items: Sequence[Publication]) -> None:
        if len(users) >= MANY:
            self.publish(publications.EVERYWHERE, publications.each(users, items))
            return
        holders = self.process.fanout.holders
        for user in users:
            topic = publications.USER + user
            if holders(topic):
                for body in items:
                    self.publish(topic, body)

    # ---- for other nodes

    def members(self, group: str) -> tuple[str, ...]:
        found = self._store.groups.members(group)
        if found is None:
            raise AppError(Code.GROUP_NOT_FOUND)
        return found

    def info(self, group: str) -> Profile:
        found = self._store.groups.info(group)
        if found is None:
            raise AppError(Code.GROUP_NOT_FOUND)
        return found

    def is_member(self, group: str, user: str) -> bool:
        return bool(self._store.groups.present(group, [user]).members)

    @batch(Groups.present)
    def _present(self, calls: Sequence[Incoming]) -> None:
        for call in calls:
            group, users = call.args
            self._store.groups.start_present(group, users, _completion(call))

    @batch(Groups.groups_of)
    def _groups_of(self, calls: Sequence[Incoming]) -> None:
        for call in calls:
            self._store.groups.of_users(call.args[0], _completion(call))


def _completion(call: Incoming) -> Callable[[Any, Exception | None], None]:
    def done(found: Any, error: Exception | None) -> None:
        if error is not None:
            call.fail(Timeout(str(error)))
        else:
            call.reply(tuple(found) if isinstance(found, list) else found)

    return done


def _require(change: Change) -> Change:
    """Raises `AppError` for a change that was refused."""
    if change.status in _REFUSALS:
        raise AppError(_REFUSALS[change.status], "")
    return change


def _require_self(item: Item, named: str) -> None:
    """Nobody acts as another."""
    if named and named != item.origin.user:
        raise AppError(Code.CONN_DENIED, "that is not you")


def _ids(listed: Sequence[str]) -> list[str]:
    """User ids, each once. Raises `AppError` 2."""
    ids = list(dict.fromkeys(listed))
    for user in ids:
        if not is_user_id(user):
            raise AppError(Code.PARAM, "bad user id")
    return ids


def _cursor(text: str) -> tuple[str, int]:
    """The end of the page before: user and seqId. Raises `AppError` 2."""
    if not text:
        return "", 0
    seq, _, user = text.partition(":")
    if not (seq.isdecimal() and seq.isascii() and len(seq) < 20 and is_user_id(user)):
        raise AppError(Code.PARAM, "bad cursor")
    return user, int(seq)


def _sync_groups(item: Item, group: str) -> Publication:
    return publications.sync(item.origin.connection, SyncCommand.GROUPS, group)


def _info(profile: Profile) -> GroupChatInfo:
    return GroupChatInfo(
        group_id=profile.group, name=profile.name, avatar=profile.avatar, creator_id=profile.owner, desc=profile.desc,
        member_limit=profile.limit, create_time=profile.created, update_time=profile.updated, join_mode=profile.mode,
    )  # fmt: skip


def _fitting(changed: list[tuple[int, GroupChatInfo]]) -> list[tuple[int, GroupChatInfo]]:
    """As many infos as one answer holds; the cut is never between equal stamps."""
    size = 0
    for n, (stamp, info) in enumerate(changed):
        size += len(_encode_json(info))
        if size > PAGE_BYTES and n and stamp != changed[n - 1][0]:
            return changed[:n]
    return changed
