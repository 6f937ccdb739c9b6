"""All that a user sees, asked for over one of his connections and compared with the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from packs import structs as s
from packs import table as t
from packs.flags import HIGH_PRIORITY
from packs.pack import Pack
from tests.connection import Connection, seen, what_is
from tests.model import Control, Info, Recent, Seen, World
from tests.raw import code, decode
from tests.waiting import wait_until

LAG_SECONDS = 3.0
"""How long after an answer lists that others keep (19, 20) may still lack what it was about."""


class Kept:
    """What an app of a user keeps between its syncs."""

    def __init__(self) -> None:
        self.recent: dict[str, Recent] = {}
        self.infos: dict[str, Info] = {}
        self.friends: dict[str, str] = {}
        self.cursors: dict[int, int] = {t.HOTSESSION_SYNC: 0, t.GROUPCHAT_SYNC: 0, t.FRIEND_SYNC: 0}


class View:
    """What a user sees, in the system and in the model."""

    def __init__(self, world: World, connection: Connection, kept: Kept, times: dict[Control, int]) -> None:
        self._world, self._user, self._raw, self._kept, self._times = (
            world, connection.user, connection.raw, kept, times,
        )  # fmt: skip

    def compare(self, count: int) -> None:
        world, user = self._world, self._user
        for session in [*world.pairs, *world.groups]:
            same(f"history of {session}", self._history(session, count), world.history(user, session))
        self._compare_recent()
        self._compare_unmissable(count)
        for group_id, group in world.groups.items():
            expected: Any = sorted(group.members) if user in group.members else 35 if group.dismissed else 30
            same(f"members of {group_id}", self._members(group_id), expected)
        same("groups", self._groups(0, {}), world.infos(user))
        self._kept.infos = self._groups(self._kept.cursors[t.GROUPCHAT_SYNC], self._kept.infos)
        same("groups kept", self._kept.infos, world.infos(user))
        same("friends", self._friends(0, {}), world.friends[user])
        self._kept.friends = self._friends(self._kept.cursors[t.FRIEND_SYNC], self._kept.friends)
        same("friends kept", self._kept.friends, world.friends[user])
        same("blocked", self._raw.ask(t.BLOCKLIST_GET).user_ids, sorted(world.blocked[user]))

    def _history(self, session: str, count: int) -> list[Seen] | None:
        """All of it, page by page."""
        found: list[Seen] = []
        bound = 0
        while True:
            request = s.HistoryMsgPullReq(session_id=session, seq_id=bound, count=count)
            answer = self._raw.ask(t.HISTORY_MSG_PULL, request)
            if code(answer) == 28:
                return None
            assert code(answer) == 0 and len(answer.msgs) <= count, answer
            found += [seen(pack) for pack in answer.msgs]
            if len(answer.msgs) < count:
                return found
            bound = found[-1].seq - 1

    # ---- 19

    def _compare_recent(self) -> None:
        expected = sorted(self._world.recent(self._user), key=newest_of)
        eventually("recent sessions", lambda: self._recent(0)[0], expected)
        newest = {row.session: (row.read, row.newest.seq) for row in expected}

        def kept() -> dict[str, tuple[int, int]]:
            rows, cursor = self._recent(self._kept.cursors[t.HOTSESSION_SYNC])
            self._kept.cursors[t.HOTSESSION_SYNC] = cursor
            self._kept.recent |= {row.session: row for row in rows}
            # Deletions and departures are told in other ways than by this list.
            mine = {name: self._kept.recent[name] for name in newest if name in self._kept.recent}
            return {name: (row.read, min(row.newest.seq, newest[name][1])) for name, row in mine.items()}

        eventually("recent sessions kept", kept, newest)

    def _recent(self, cursor: int) -> tuple[list[Recent], int]:
        answer = self._raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=cursor))
        assert code(answer) == 0 and answer.timestamp >= cursor, answer
        rows = []
        for item in answer.sessions:
            (pack,) = item.last_msgs
            rows.append(Recent(item.session_id, item.read_seq_id, item.unread_count, seen(pack)))
        seqs = [row.newest.seq for row in rows]
        assert seqs == sorted(seqs), f"ascending by the newest message: {rows}"
        return sorted(rows, key=newest_of), answer.timestamp

    # ---- 20

    def _compare_unmissable(self, count: int) -> None:
        expected = by_session(self._world.unmissable(self._user))
        eventually("what must not be missed", lambda: by_session(self._unmissable(count)), expected)

    def _unmissable(self, count: int) -> list[Seen | Control]:
        packs: list[Pack] = []
        cursor = 0
        while True:
            request = s.MsgHighPrioritySyncReq(seq_id=cursor, count=count)
            answer = self._raw.ask(t.HIGH_PRIOR_MSG_SYNC, request)
            assert code(answer) == 0, answer
            packs += answer.msgs
            cursor = answer.last_seq_id
            if len(answer.msgs) < count:
                break
        last: dict[tuple[str, int], int] = {}
        found: list[Seen | Control] = []
        for pack in packs:
            what = what_is(pack)
            assert isinstance(what, Seen | Control), what
            assert isinstance(what, Control) or what.flags & HIGH_PRIORITY, what
            if isinstance(what, Control):
                time = decode(pack).timestamp
                assert time > last.get((what.session, what.seq), 0), f"times of controls increase: {what}"
                last[what.session, what.seq] = time
                assert self._times.setdefault(what, time) == time, f"one time for everybody: {what}"
            found.append(what)
        return found

    # ---- 40, 47, 53

    def _members(self, group: str) -> list[str] | int:
        answer = self._raw.ask(t.GROUPCHAT_MEMBERS_GET, s.GroupChatMemberGetReq(group_id=group))
        return sorted(answer.member_ids) if code(answer) == 0 else code(answer)

    def _groups(self, cursor: int, before: dict[str, Info]) -> dict[str, Info]:
        answer = self._raw.ask(t.GROUPCHAT_SYNC, s.GroupChatSyncReq(timestamp=cursor))
        assert code(answer) == 0 and answer.timestamp >= cursor, answer
        if cursor or before:
            self._kept.cursors[t.GROUPCHAT_SYNC] = answer.timestamp
        fresh = {
            i.group_id: Info(i.group_id, i.name, i.creator_id, i.member_limit, int(i.join_mode))
            for i in answer.group_chats
        }
        known = before | fresh
        return {group: known[group] for group in answer.group_ids}

    def _friends(self, cursor: int, before: dict[str, str]) -> dict[str, str]:
        answer = self._raw.ask(t.FRIEND_SYNC, s.FriendSyncReq(timestamp=cursor))
        assert code(answer) == 0 and answer.timestamp >= cursor, answer
        if cursor or before:
            self._kept.cursors[t.FRIEND_SYNC] = answer.timestamp
        known = before | {row.friend_id: row.remark for row in answer.friends}
        return {friend: known[friend] for friend in answer.friend_ids}


def by_session(items: Iterable[Seen | Control]) -> dict[str, list[Seen | Control]]:
    """The order between sessions is not promised."""
    found: dict[str, list[Seen | Control]] = {}
    for item in items:
        found.setdefault(item.session, []).append(item)
    return found


def newest_of(row: Recent) -> tuple[int, str]:
    """The number of a session's newest message; two sessions may have the same."""
    return row.newest.seq, row.session


def same(name: str, found: Any, expected: Any) -> None:
    assert found == expected, f"{name}:\n  system {found}\n  model  {expected}"


def eventually(name: str, find: Callable[[], Any], expected: Any) -> None:
    """The same, at the latest after a moment."""
    found = find()

    def there() -> bool:
        nonlocal found
        found = find()
        return bool(found == expected)

    if found != expected:
        try:
            wait_until(there, name, LAG_SECONDS)
        except AssertionError:
            same(name, found, expected)
