"""The user node's friends (51 to 53), their requests and who is blocked (60 to 64).

A change is decided in one step of the store and then carried to the other places (`store/friends.py`); it is answered
when it is in all of them. Then those concerned are told to fetch their lists again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import msgspec

from mesh.errors import AppError, Overloaded
from mesh.loop import Every
from nodes.packs import Item, handles
from nodes.social import DIRECT, SocialNode, require_ids, require_self, require_short
from packs import table as t
from packs.codes import Code
from packs.enums import SyncCommand
from packs.ids import business_session, single_session
from packs.structs import SUCCESS, CommonErrorCode, FriendInfo, FriendSyncResp
from packs.structs_social import BlocklistResp, FriendRequest, FriendRequestsResp
from store.errors import StoreError
from store.friends import (
    ACCEPT,
    ADD,
    ASK,
    BLOCK,
    DECLINE,
    DELETE,
    FULL,
    NOT_ASKED,
    UNBLOCK,
    UNDO,
    Friend,
    Note,
    Other,
    Standing,
)

ROWS_MAX = 500
"""Friends in one request: it is done within the deadline of an answer."""
REMARK_MAX = 128
"""Characters."""
PAGE_ROWS, PAGE_BYTES = 1_000, 200_000
"""Friends in one answer to 53, and their JSON, so that it fits a frame together with the ids of 5000 friends."""
SETTLED_US = 5_000_000
"""A last page's cursor stays this far below the present."""

REPAIR_SECONDS = 5.0
"""How often is looked for changes that were left half done."""

_OWN = {
    ADD: (SyncCommand.FRIENDS,),
    DELETE: (SyncCommand.FRIENDS,),
    ACCEPT: (SyncCommand.FRIENDS, SyncCommand.FRIEND_REQUESTS),
    DECLINE: (SyncCommand.FRIEND_REQUESTS,),
    ASK: (),
    UNDO: (),
    BLOCK: (SyncCommand.BLOCKLIST,),
    UNBLOCK: (SyncCommand.BLOCKLIST,),
}
"""What the other devices of a change's maker fetch again."""
_THEIRS = {
    ADD: SyncCommand.FRIENDS,
    DELETE: SyncCommand.FRIENDS,
    ASK: SyncCommand.FRIEND_REQUESTS,
    UNDO: SyncCommand.FRIEND_REQUESTS,
}
"""What the other side fetches again."""

_encode_json = msgspec.json.Encoder().encode


class FriendsNode(SocialNode):
    """Friends of users."""

    # ---- 51, 52

    @handles(t.FRIEND_ADD)
    def _add(self, item: Item) -> CommonErrorCode:
        user, rows = item.origin.user, _rows(item)
        if self.settings.friend_mode == DIRECT:
            self.befriend(user, rows, skip=item.origin.connection)
        else:
            self._ask(user, rows, item.origin.connection)
        return SUCCESS

    @handles(t.FRIEND_DEL)
    def _delete(self, item: Item) -> CommonErrorCode:
        self.unfriend(item.origin.user, list(_rows(item)), skip=item.origin.connection)
        return SUCCESS

    def befriend(self, user: str, rows: dict[str, str], skip: str = "", kind: str = ADD) -> None:
        """Make `user` and the others friends, whole or not at all. `rows`: id -> remark. Raises `AppError`."""
        self._require_willing(user, list(rows))
        self._change(user, kind, rows, self.settings.max_friends, skip)

    def unfriend(self, user: str, others: Sequence[str], skip: str = "") -> None:
        """End friendships, and withdraw requests. Raises `AppError`."""
        self._change(user, DELETE, dict.fromkeys(others, ""), 0, skip)

    def _require_willing(self, user: str, others: list[str]) -> list[Standing]:
        """How the others stand to `user`, whose friends they may all become. Raises `AppError`."""
        self.require_accounts(others)
        standings = self._store.friends.standings(user, others)
        if any(standing.blocked for standing in standings):
            raise AppError(Code.BLOCKED)
        if any(s.friends >= self.settings.max_friends and not s.friend for s in standings):
            raise AppError(Code.PARAM, f"somebody has {self.settings.max_friends} friends already")
        return standings

    def _change(self, user: str, kind: str, rows: dict[str, str], limit: int, skip: str) -> None:
        others = [Other(other, _sessions(user, kind, other), remark) for other, remark in rows.items()]
        status, told = self._store.friends.change(user, kind, others, limit)
        if status == FULL:
            raise AppError(Code.PARAM, f"more than {limit} users")
        if status == NOT_ASKED:
            raise AppError(Code.PARAM, "no such request")
        self._tell(user, kind, told, skip)
        self.stir(user, *rows)  # who may know where they are

    def _tell(self, user: str, kind: str, notes: Iterable[Note], skip: str = "") -> None:
        """Tell those concerned of a change."""
        for note in notes:
            if note.kind in _THEIRS:
                self.tell([note.other], _THEIRS[note.kind])
        for command in _OWN[kind]:
            self.tell([user], command, skip)

    # ---- for other nodes

    def add_friends(self, user: str, friends: tuple[tuple[str, str], ...]) -> None:
        require_others(user, [friend for friend, _ in friends])
        self.befriend(user, {friend: require_short("remark", remark, REMARK_MAX) for friend, remark in friends})

    def delete_friends(self, user: str, friends: tuple[str, ...]) -> None:
        self.unfriend(user, require_others(user, friends))

    def friends(self, user: str) -> tuple[tuple[str, str], ...]:
        found = self._store.friends.changed(user, 0, self.settings.max_friends + 1)
        return tuple((friend.user, friend.remark) for friend in found.friends)

    # ---- what dead processes left

    def start(self) -> None:
        super().start()
        self._repairing = False
        self._repairs = Every(REPAIR_SECONDS, self._repair_soon)

    def stop(self) -> None:
        self._repairs.stop()
        super().stop()

    def _repair_soon(self) -> None:
        if not self._repairing:
            with contextlib.suppress(Overloaded):
                self.pool.submit(self._repair, (), None)
                self._repairing = True

    def _repair(self) -> None:
        """Finish changes that nobody finishes any more. In a greenlet."""
        try:
            for note in self._store.friends.repair():
                self.stats.counts["relations.repaired"] += 1
                self._tell(note.user, note.kind, [note])
                self.stir(note.user, note.other)
        except StoreError as error:
            self.log.limited("repair", 60, "relations could not be looked through", error=error)
        finally:
            self._repairing = False

    # ---- requests: 51 where consent is needed, 63, 64

    def _ask(self, user: str, rows: dict[str, str], skip: str) -> None:
        """Ask others; those who are friends or have asked themselves need not be. Raises `AppError`."""
        standings = self._require_willing(user, list(rows))
        near = {other for other, s in zip(rows, standings, strict=True) if s.friend or s.asked}
        if near:
            self._change(user, ADD, {other: rows[other] for other in near}, self.settings.max_friends, skip)
        asked = {other: remark for other, remark in rows.items() if other not in near}
        if not asked:
            return
        self._change(user, ASK, asked, 0, skip)
        # When two ask each other at once, each writes before he reads: at least one of them sees both requests.
        mutual = {other for other, _ in self._store.friends.requests(user)} & asked.keys()
        if mutual:
            self._change(user, ACCEPT, dict.fromkeys(mutual, ""), self.settings.max_friends, skip)

    @handles(t.FRIEND_REQUESTS_GET)
    def _requests(self, item: Item) -> FriendRequestsResp:
        found = self._store.friends.requests(item.origin.user)
        return FriendRequestsResp(requests=[FriendRequest(user_id=u, timestamp=stamp // 1000) for u, stamp in found])

    @handles(t.FRIEND_REQUEST_ANSWER)
    def _answer(self, item: Item) -> CommonErrorCode:
        user, message = item.origin.user, item.message
        (friend,) = require_ids([message.friend_id], 1)
        remark = require_short("remark", message.remark, REMARK_MAX)
        if message.accept:
            self.befriend(user, {friend: remark}, item.origin.connection, ACCEPT)
        else:
            self._change(user, DECLINE, {friend: ""}, 0, item.origin.connection)
        return SUCCESS

    # ---- 60 to 62

    @handles(t.BLOCK)
    def _block(self, item: Item) -> CommonErrorCode:
        user = item.origin.user
        others = require_others(user, item.message.user_ids)  # accounts or not: apps have none
        self._change(user, BLOCK, dict.fromkeys(others, ""), self.settings.max_blocked, item.origin.connection)
        return SUCCESS

    @handles(t.UNBLOCK)
    def _unblock(self, item: Item) -> CommonErrorCode:
        others = require_ids(item.message.user_ids, ROWS_MAX)
        self._change(item.origin.user, UNBLOCK, dict.fromkeys(others, ""), 0, item.origin.connection)
        return SUCCESS

    @handles(t.BLOCKLIST_GET)
    def _blocked(self, item: Item) -> BlocklistResp:
        return BlocklistResp(user_ids=self._store.friends.blocked(item.origin.user))

    # ---- 53

    @handles(t.FRIEND_SYNC)
    def _sync(self, item: Item) -> FriendSyncResp:
        user, after = item.origin.user, max(0, item.message.timestamp)
        found = self._store.friends.changed(user, after, PAGE_ROWS)
        fitting = _fitting(found.friends)
        newest = fitting[-1].stamp if fitting else after
        last = len(fitting) == len(found.friends) < PAGE_ROWS
        settled = min(newest, found.clock - SETTLED_US) if last else newest
        rows = [FriendInfo(user_id=user, friend_id=f.user, remark=f.remark) for f in fitting]
        return FriendSyncResp(friends=rows, timestamp=max(after, settled), friend_ids=found.ids)


def require_others(user: str, others: Sequence[str]) -> list[str]:
    """Well-formed ids, each once, and all of others than `user`. Raises `AppError`."""
    require_ids([user], 1)
    found = require_ids(others, ROWS_MAX)
    if user in found:
        raise AppError(Code.PARAM, "one has no relation to oneself")
    return found


def _sessions(user: str, kind: str, other: str) -> str:
    """Those in which a change matters."""
    pair = single_session(user, other)
    return f"{pair} {business_session(other, user)}" if kind in (BLOCK, UNBLOCK) else pair


def _rows(item: Item) -> dict[str, str]:
    """The friends of a request: id -> remark. Raises `AppError`."""
    rows: list[FriendInfo] = item.message.friends
    user = require_self(item, *(row.user_id for row in rows))
    require_others(user, [row.friend_id for row in rows])
    return {row.friend_id: require_short("remark", row.remark, REMARK_MAX) for row in rows}


def _fitting(friends: list[Friend]) -> list[Friend]:
    """As many as fit an answer, the first one in any case."""
    size = 0
    for n, friend in enumerate(friends):
        size += 50 + 2 * len(friend.user) + len(_encode_json(friend.remark))
        if n and size > PAGE_BYTES:
            return friends[:n]
    return friends
