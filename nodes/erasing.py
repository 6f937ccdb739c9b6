"""Erasing a user: all his data are deleted, in Redis and in the archive.

What he could do himself is done as packs of his, so that everybody concerned hears of it: messages are deleted (17),
groups handed over and left, friendships ended. The rest is taken out of the stores. Each step may be made again, and he
is locked out before the first, so an erasure that was cut off is made again as a whole. Who asks for it, and who does
it: nodes/erasures.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from mesh.errors import AppError
from nodes.contracts import Origin, Packs, Request, User
from nodes.contracts_erasure import Erasing
from packs import table as t
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.enums import ControlCommand
from packs.errors import PayloadError
from packs.ids import business_members, parties, single_members
from packs.pack import Pack
from packs.structs import (
    CommonErrorCode,
    FriendDelReq,
    FriendInfo,
    GroupChatCreatorUpdateReq,
    GroupChatDismissReq,
    GroupChatJoinQuitReq,
    MsgControl,
    Payload,
)
from packs.structs_social import BlockReq, FriendRequestAnswerReq
from store.archive import erasure, messages, rollups
from store.archive.database import Archive
from store.archive.erasure import Sent
from store.drained import wait_archived
from store.hot import HotStore

PAGE = 20_000
"""Messages looked at by one query."""
CHUNK = 50
"""Messages deleted by one call, users in one pack."""
ORIGIN = "erasure"
"""The connection that acts in his name."""


class Services(NamedTuple):
    """The nodes that take part; `packs` of the owners of groups and of friends."""

    user: User
    erasing: Erasing
    packs: Mapping[str, Packs]


class Found(NamedTuple):
    """How far it has got: messages of the archive that it has looked at, of how many; what there was of the user."""

    seen: int = 0
    total: int = 0
    messages: int = 0
    notices: int = 0
    groups: int = 0
    friends: int = 0


def lock_out(user: User, name: str) -> None:
    """Nothing new comes from him. Whose account was erased before is disabled, and has none. Raises `AppError`."""
    if not user.disable(name, True) and not user.account(name).disabled:
        raise AppError(Code.PARAM, f"there is no account {name}")


class Eraser:
    """Erases one user."""

    def __init__(
        self, user: str, store: HotStore, archive: Archive, services: Services, tell: Callable[[Found], None]
    ) -> None:
        """`tell` is called often, in a greenlet; what it raises ends the work."""
        self._user = user
        self._store = store
        self._archive = archive
        self._services = services
        self._tell = tell
        self._found = Found()
        self._sessions: set[str] = set()
        """Where he ever sent anything."""
        self._notices: set[str] = set()
        """Sessions of apps with him."""

    def run(self) -> Found:
        """Do all of it. In a greenlet. Raises `StoreError`, `CallError`, `AppError`; what was done until then need not
        be undone."""
        self._wait_archived()  # before anything: there may be no archive
        lock_out(self._services.user, self._user)
        self._wait_archived()
        traces = self._archive.read(erasure.traces, self._user)
        self._messages()
        self._note(groups=self._leave_groups(traces.groups))
        self._note(friends=self._part(traces))
        self._unqueue()
        hot = self._store.erasure
        hot.positions(self._user, {*traces.read, *self._sessions, *self._notices})
        hot.person(self._user)
        self._wait_archived()
        while self._archive.write(rollups.fold):  # what is noted of him would be counted afterwards
            self._note()
        self._archive.write(erasure.forget, self._user)
        return self._found

    def _wait_archived(self) -> None:
        wait_archived(self._store, self._note)

    def _note(self, **changed: int) -> None:
        self._found = self._found._replace(**changed)
        self._tell(self._found)

    # ---- messages

    def _messages(self) -> None:
        """Delete what he sent, and the notices of apps to him."""
        self._note(total=self._archive.read(erasure.total))
        place = erasure.START
        while rows := self._archive.read(erasure.page, place, PAGE):
            place = rows[-1].session, rows[-1].seq
            self._delete([row for row in rows if row.sender == self._user and row.type != t.MSG_BIZ_NOTIFY])
            notices = self._remove([row for row in rows if row.session.startswith("BM_")])
            found = self._found
            self._note(seen=found.seen + len(rows), notices=found.notices + notices)

    def _delete(self, rows: Sequence[Sent]) -> None:
        self._sessions.update(row.session for row in rows)
        places = tuple((row.session, row.seq, row.pack_id) for row in rows if not row.deleted)
        for i in range(0, len(places), CHUNK):
            part = places[i : i + CHUNK]
            self._services.erasing.erase(self._user, part)
            self._note(messages=self._found.messages + len(part))

    def _remove(self, rows: Sequence[Sent]) -> int:
        his = [row for row in rows if self._user == (business_members(row.session) or ("", ""))[1]]
        self._notices.update(row.session for row in his)
        if his:
            self._store.erasure.notices(self._notices)  # first: what is in the archive is found again
            self._archive.write(messages.remove, [(row.session, row.seq) for row in his])
        return len(his)

    def _unqueue(self) -> None:
        """New contents that he gave to messages wait in the queues of those who could read them."""
        for owner in {self._user}.union(*(parties(s) if single_members(s) else (s,) for s in self._sessions)):
            self._store.erasure.unqueue(owner, [i for i in self._store.erasure.queued(owner) if self._is_his(i)])

    def _is_his(self, item: bytes) -> bool:
        try:
            pack = msgspec.msgpack.decode(item, type=Pack)
            control = decode_payload(MsgControl, pack.payload)
        except (msgspec.MsgspecError, PayloadError):
            return False  # the place of a message
        return control.operator_id == self._user and control.command == ControlCommand.OVERRIDE

    # ---- groups and friends

    def _leave_groups(self, known: Sequence[str]) -> int:
        """Leave all groups; those of which he is the owner get another one."""
        groups = {*known, *(group for group, _ in self._store.groups.mine(self._user)[1])}
        left = [group for group in groups if self._store.groups.present(group, [self._user]).members]
        for group in left:
            self._leave(group)
        self._store.erasure.memberships(self._user, groups)  # also where a group is no more
        return len(left)

    def _leave(self, group: str) -> None:
        info = self._store.groups.info(group)
        if info is not None and info.owner == self._user:
            others = [m for m in self._store.groups.members(group) or () if m != self._user]
            if not others:
                self._act(self._user, t.GROUPCHAT_DISMISS, GroupChatDismissReq(group_id=group), group)
                return
            heir = GroupChatCreatorUpdateReq(group_id=group, new_creator_id=others[0])  # who is in it longest
            self._act(self._user, t.GROUPCHAT_UPDATE_CREATOR, heir, group)
        quits = GroupChatJoinQuitReq(group_id=group, member_ids=[self._user])
        self._act(self._user, t.GROUPCHAT_QUIT, quits, group)

    def _part(self, traces: erasure.Traces) -> int:
        """End friendships, requests and blocks, on both sides; how many friends there were."""
        user, relations = self._user, self._store.friends
        friends = relations.ids(user)
        near = [FriendInfo(friend_id=other) for other in dict.fromkeys([*friends, *traces.asked])]
        for i in range(0, len(near), CHUNK):
            self._act(user, t.FRIEND_DEL, FriendDelReq(friends=near[i : i + CHUNK]))
        for other, _ in relations.requests(user):
            self._act(user, t.FRIEND_REQUEST_ANSWER, FriendRequestAnswerReq(friend_id=other, accept=0))
        blocked = relations.blocked(user)
        for i in range(0, len(blocked), CHUNK):
            self._act(user, t.UNBLOCK, BlockReq(user_ids=blocked[i : i + CHUNK]))
        for blocker in traces.blockers:
            self._act(blocker, t.UNBLOCK, BlockReq(user_ids=[user]))
        return len(friends)

    def _act(self, user: str, pack_type: int, message: Payload, key: str = "") -> None:
        """Do what a pack of this type does when this user sends it. Raises `AppError`."""
        owner = t.TABLE[pack_type].owner
        assert owner is not None
        origin = Origin(user, 0, "", ORIGIN, "", others=True)
        request = Request(pack_type, 0, ORIGIN, encode_payload(message))
        answer = self._services.packs[owner].handle(key or user, origin, request)
        error = decode_payload(CommonErrorCode, answer)
        if error.code not in (Code.SUCCESS, Code.GROUP_NOT_FOUND):
            raise AppError(error.code, error.desc)
        self._note()
