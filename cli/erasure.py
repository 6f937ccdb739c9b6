"""`imesh user erase`: all data of a user are deleted, in Redis and in the archive.

What he could do himself is done as packs of his, so that everybody concerned hears of it: messages are deleted (17),
groups handed over and left, friendships ended. The rest is taken out of the stores. Each step may be made again, and he
counts as disabled before the first, so an erasure that was cut off is made again as a whole.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from cli.progress import Progress
from cli.transfer import wait_archived
from mesh.control import Caller
from mesh.errors import AppError, MeshError
from mesh.topology import Topology
from packs import table as t
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.enums import ControlCommand
from packs.errors import PayloadError
from packs.ids import business_members, is_user_id, parties, single_members
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
from store.client import wait_until_ready
from store.errors import StoreError
from store.hot import HotStore

CONNECT_SECONDS = 10.0
PAGE = 20_000
"""Messages looked at by one query."""
CHUNK = 50
"""Messages deleted by one call, users in one pack."""
ORIGIN = "erasure"
"""The connection that acts in his name."""


class Erased(NamedTuple):
    """What there was of a user."""

    messages: int
    notices: int
    groups: int
    friends: int


def erase(topology: Topology, user: str) -> Erased:
    """Erase a user of a running system. Raises `MeshError`; what was done until then need not be undone."""
    if not is_user_id(user):
        raise MeshError("a user id has 1 to 64 of A-Z a-z 0-9 . _ @ + -")
    settings = topology.section("store")
    store = HotStore(settings, topology.data_dir, topology.run_dir, archived=True)
    archive = Archive(settings.archive_address(topology.data_dir))
    caller = Caller(topology)
    try:
        wait_until_ready(store.writes, CONNECT_SECONDS)
        return _Erasure(user, store, archive, caller).run()
    except AppError as error:
        raise MeshError(error.text or f"refused: {error.code}") from None
    except StoreError as error:
        raise MeshError(str(error)) from None
    finally:
        caller.close()
        archive.close()
        store.close()


class _Erasure:
    def __init__(self, user: str, store: HotStore, archive: Archive, caller: Caller) -> None:
        self._user = user
        self._store = store
        self._archive = archive
        self._caller = caller
        self._sessions: set[str] = set()
        """Where he ever sent anything."""
        self._notices: set[str] = set()
        """Sessions of apps with him."""

    def run(self) -> Erased:
        wait_archived(self._store)  # before anything: there may be no archive
        self._disable()
        wait_archived(self._store)
        traces = self._archive.read(erasure.traces, self._user)
        sent, notices = self._messages()
        groups = self._leave_groups(traces.groups)
        friends = self._part(traces)
        self._unqueue()
        hot = self._store.erasure
        hot.positions(self._user, {*traces.read, *self._sessions, *self._notices})
        hot.person(self._user)
        wait_archived(self._store)
        while self._archive.write(rollups.fold):  # what is noted of him would be counted afterwards
            continue
        self._archive.write(erasure.forget, self._user)
        return Erased(sent, notices, groups, friends)

    def _disable(self) -> None:
        """Nothing new comes from him. Whose account was erased before is disabled, and has none."""
        if self._caller.call("user.disable", [self._user, True]):
            return
        _, disabled, _ = self._caller.call("user.account", [self._user])
        if not disabled:
            raise MeshError(f"there is no account {self._user}")

    # ---- messages

    def _messages(self) -> tuple[int, int]:
        """Delete what he sent, and the notices of apps to him; how many there were."""
        progress = Progress("erase", "messages looked at")
        total = self._archive.read(erasure.total)
        place, seen, sent, notices = erasure.START, 0, 0, 0
        while rows := self._archive.read(erasure.page, place, PAGE):
            place = rows[-1].session, rows[-1].seq
            seen += len(rows)
            sent += self._delete([row for row in rows if row.sender == self._user and row.type != t.MSG_BIZ_NOTIFY])
            notices += self._remove([row for row in rows if row.session.startswith("BM_")])
            progress.tell(seen, total)
        progress.end(seen)
        return sent, notices

    def _delete(self, rows: Sequence[Sent]) -> int:
        self._sessions.update(row.session for row in rows)
        places = [[row.session, row.seq, row.pack_id] for row in rows if not row.deleted]
        for i in range(0, len(places), CHUNK):
            self._caller.call("msgop.erase", [self._user, places[i : i + CHUNK]])
        return len(places)

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
        payload = b64encode(encode_payload(message)).decode()
        origin: list[Any] = [user, 0, "", ORIGIN, "", True]
        request = [pack_type, 0, ORIGIN, payload]
        answer = self._caller.call(f"{t.TABLE[pack_type].owner}.handle", [key or user, origin, request])
        error = decode_payload(CommonErrorCode, b64decode(answer))
        if error.code not in (Code.SUCCESS, Code.GROUP_NOT_FOUND):
            raise AppError(error.code, error.desc)
