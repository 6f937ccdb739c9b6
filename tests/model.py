"""What users see of imesh by the rules of docs/protocol.md, in plain dictionaries. The real system is compared with it.

Nothing here knows the system's code, and nothing happens by itself. Each request has a method that says how it must be
answered and who is told, and changes the world when it is not refused. Where the protocol does not say which of
several refusals comes first, each of them will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from packs.enums import ControlCommand, JoinMode, SyncCommand
from packs.flags import COUNTER, HIGH_PRIORITY, OVERRIDE, REVOKE

KEPT = COUNTER | HIGH_PRIORITY
"""Flags of a request that its message keeps."""
GROUP_LIMIT = 1_000
"""`memberLimit` of a group that is made without one."""


# ---- what is seen


class Seen(NamedTuple):
    """A message as its readers see it."""

    type: int
    pack_id: str
    flags: int
    session: str
    seq: int
    prev: int
    sender: str
    to: str
    content: str


class Control(NamedTuple):
    """A 17 as it is pushed and kept."""

    pack_id: str
    command: int
    session: str
    target: str
    seq: int
    content: str
    operator: str


class Read(NamedTuple):
    """An 18 as it is pushed."""

    pack_id: str
    session: str
    seq: int
    user: str


class Sync(NamedTuple):
    """A 25."""

    command: int
    content: str = ""


class Recent(NamedTuple):
    """One of a user's recent sessions."""

    session: str
    read: int
    unread: int
    newest: Seen


class Info(NamedTuple):
    """What is compared of a group's info."""

    group: str
    name: str
    owner: str
    limit: int
    mode: int


What = Seen | Control | Read | Sync


class Told(NamedTuple):
    """Something that is pushed to all connections of a user but the one that asked."""

    user: str
    what: What
    must: bool = True
    """Whether it has to come. What need not may come once."""


class Answer(NamedTuple):
    """How a request is answered: with one of these codes; and who is told."""

    codes: frozenset[int]
    told: tuple[Told, ...] = ()

    @property
    def done(self) -> bool:
        return 0 in self.codes


def refused(*codes: int) -> Answer:
    return Answer(frozenset(codes))


def done(told: Iterable[Told] = ()) -> Answer:
    return Answer(frozenset([0]), tuple(told))


# ---- the world


@dataclass
class Message:
    """A message that was stored."""

    seen: Seen
    first: str
    """The content that it was sent with."""
    deleted: bool = False

    @property
    def counts(self) -> bool:
        """Whether somebody may have it unread."""
        return bool(self.seen.flags & COUNTER and not self.seen.flags & REVOKE and not self.deleted)


@dataclass
class Group:
    """A group; without members when it was dismissed."""

    info: Info
    members: dict[str, int] = field(default_factory=dict)
    """When they came: how much had been written by then of what must not be missed."""
    handed: str = ""
    """Who was the owner before."""
    dismissed: str = ""
    """Who dismissed it."""


def session_of(a: str, b: str) -> str:
    """The session of a message from `a` to `b`, a user or a group."""
    if b.startswith("GC_"):
        return b
    first, second = sorted((a, b))
    return f"SC_{first}_{second}"


class World:
    """All users, what they did, and what they see."""

    def __init__(self, users: Sequence[str]) -> None:
        """Ids without `_`."""
        self.users = list(users)
        self.sessions: dict[str, list[Message]] = {}
        self.pairs: dict[str, tuple[str, ...]] = {session_of(a, b): tuple({a, b}) for a in users for b in users}
        self.groups: dict[str, Group] = {}
        self.positions: dict[tuple[str, str], int] = {}
        self.friends: dict[str, dict[str, str]] = {user: {} for user in users}
        self.blocked: dict[str, set[str]] = {user: set() for user in users}
        self._controls: dict[tuple[str, str, str], Control] = {}
        self._written: list[Message | Control] = []  # what must not be missed
        self._made: dict[tuple[str, str], str] = {}

    # ---- who is where

    def people(self, session: str) -> list[str]:
        """Who takes part in a session."""
        if session in self.pairs:
            return list(self.pairs[session])
        return list(self.groups[session].members) if session in self.groups else []

    def newest(self, session: str) -> int:
        """The greatest number that was given in a session, 0 when none was."""
        messages = self.sessions.get(session)
        return messages[-1].seen.seq if messages else 0

    def _to_all(self, session: str, what: What, must: bool = True) -> list[Told]:
        return [Told(user, what, must) for user in self.people(session)]

    # ---- 14, 15

    def may_send(self, user: str, to: str, content: str) -> Answer:
        """How a new message is answered; `store` then says who is told."""
        codes = set()
        if not content:
            codes.add(40)
        if (group := self.groups.get(to)) is not None:
            if group.dismissed:
                codes.add(35)
            elif user not in group.members:
                codes.add(30)
        elif user in self.blocked[to]:
            codes.add(51)
        return refused(*codes) if codes else done()

    def store(self, seen: Seen) -> list[Told]:
        """A message is stored under the numbers that the system gave it."""
        assert seen.seq > self.newest(seen.session), "numbers increase"
        assert seen.prev == self.newest(seen.session), "prevSeqId is the number of the message before"
        message = Message(seen, seen.content)
        self.sessions.setdefault(seen.session, []).append(message)
        self.positions[seen.sender, seen.session] = seen.seq
        if seen.flags & HIGH_PRIORITY:
            self._written.append(message)
        return self._to_all(seen.session, seen)

    def sent_before(self, user: str, session: str, pack_id: str) -> Message | None:
        """What this packId stands for."""
        for message in self.sessions.get(session, ()):
            if (message.seen.sender, message.seen.pack_id) == (user, pack_id):
                return message
        return None

    def send_again(self, message: Message, content: str, flags: int) -> Answer:
        """A message's packId once more, from its sender. It is answered with the first numbers, and may be told again:
        but not what it said when it has been changed since."""
        if content != message.first or flags & KEPT != message.seen.flags & KEPT:
            return refused(2)
        seen = message.seen
        if message.deleted or seen.flags & (REVOKE | OVERRIDE):
            return refused(46)
        return Answer(frozenset([46]), tuple(self._to_all(seen.session, seen, must=False)))

    # ---- 17

    def control(self, asked: Control) -> Answer:
        session, user = asked.session, asked.operator
        key = session, user, asked.pack_id
        if asked.command != ControlCommand.OVERRIDE:
            asked = asked._replace(content="")
        group = self.groups.get(session)
        if (before := self._controls.get(key)) is not None:
            return done(self._to_all(session, before, must=False)) if before == asked else refused(2)
        empty = [40] if asked.command == ControlCommand.OVERRIDE and not asked.content else []
        if group is not None and group.dismissed:
            return refused(35, *empty)
        if user not in self.people(session):
            return refused(33, *empty)
        message = next((m for m in self.sessions.get(session, ()) if m.seen.seq == asked.seq), None)
        if message is None or message.seen.pack_id != asked.target:
            return refused(44, *empty)
        owner = group is not None and group.info.owner == user
        codes = set(empty)
        if not owner and message.seen.sender != user:
            codes.add(33)
        if message.deleted and (asked.command != ControlCommand.DELETE or 33 in codes):
            codes.add(44)
        if codes:
            return refused(*codes)
        self._change(message, asked)
        self._controls[key] = asked
        self._written.append(asked)
        return done(self._to_all(session, asked))

    def _change(self, message: Message, asked: Control) -> None:
        seen = message.seen
        if asked.command == ControlCommand.REVOKE:
            message.seen = seen._replace(flags=seen.flags | REVOKE, content="")
        elif asked.command == ControlCommand.OVERRIDE:
            content = "" if seen.flags & REVOKE else asked.content
            message.seen = seen._replace(flags=seen.flags | OVERRIDE, content=content)
        else:
            message.deleted = True

    # ---- 18

    def read(self, pack_id: str, user: str, session: str, seq: int, again: bool = False) -> Answer:
        """`again`: the request is a repeat with DUP."""
        if session in self.groups:
            if self.groups[session].dismissed:
                return refused(35)
            if user not in self.groups[session].members:
                return refused(30)
        elif user not in self.people(session):
            return refused(28)
        before = self.positions.get((user, session), 0)
        given = [m.seen.seq for m in self.sessions.get(session, ()) if m.seen.seq <= seq]
        position = max([before, *given])
        self.positions[user, session] = position
        if position == before and not again:
            return done()
        concerned = [user] if session in self.groups else self.people(session)
        return done(Told(other, Read(pack_id, session, position, user)) for other in concerned)

    # ---- 41 to 46

    def may_create(self, user: str, members: Sequence[str], limit: int) -> Answer:
        return refused(34) if len({user, *members}) > (limit or GROUP_LIMIT) else done()

    def created(self, user: str, pack_id: str, group: str, members: Sequence[str], info: Info) -> list[Told]:
        """A group was made, and the system gave it this id."""
        assert group not in self.groups, "group ids are unique"
        members = [user, *members]
        self.groups[group] = Group(
            info._replace(group=group, owner=user, limit=info.limit or GROUP_LIMIT),
            dict.fromkeys(members, len(self._written)),
        )
        self._made[user, pack_id] = group
        return self._to_all(group, Sync(SyncCommand.GROUPS, group))

    def join(self, user: str, group_id: str, users: Sequence[str]) -> Answer:
        group = self.groups[group_id]
        if group.dismissed:
            return refused(35)
        new = [u for u in dict.fromkeys(users) if u not in group.members]
        mode, owner = group.info.mode, user == group.info.owner
        allowed = owner or (mode != JoinMode.OWNER and user in group.members)
        allowed = allowed or (mode == JoinMode.OPEN and set(users) == {user})
        codes = set()
        if not allowed:
            codes.add(33)
        if new and len(group.members) + len(new) > group.info.limit:
            codes.add(34)
        if codes:
            return refused(*codes)
        if not new:
            return done()
        told = self._to_all(group_id, Sync(SyncCommand.GROUP_MEMBERS, group_id))
        for u in new:
            group.members[u] = len(self._written)
            self.positions[u, group_id] = self.newest(group_id)
            told.append(Told(u, Sync(SyncCommand.GROUPS, group_id)))
        return done(told)

    def leave(self, user: str, group_id: str, users: Sequence[str]) -> Answer:
        group = self.groups[group_id]
        if group.dismissed:
            return refused(35)
        owner = group.info.owner
        if owner in users or (user != owner and set(users) != {user}):
            return refused(36)
        gone = [u for u in dict.fromkeys(users) if group.members.pop(u, None) is not None]
        if not gone:
            return done()
        told = self._to_all(group_id, Sync(SyncCommand.GROUP_MEMBERS, group_id))
        return done(told + [Told(u, Sync(SyncCommand.GROUPS, group_id)) for u in gone])

    def dismiss(self, user: str, group_id: str) -> Answer:
        group = self.groups[group_id]
        if group.dismissed:
            return done() if group.dismissed == user else refused(35)
        if user != group.info.owner:
            return refused(36)
        told = self._to_all(group_id, Sync(SyncCommand.GROUPS, group_id))
        group.members, group.dismissed = {}, user
        return done(told)

    def hand_over(self, user: str, group_id: str, owner: str) -> Answer:
        group = self.groups[group_id]
        if group.dismissed:
            return refused(35)
        told = Sync(SyncCommand.GROUP_INFO, group_id)
        if owner == group.info.owner and user in (owner, group.handed):
            return done(self._to_all(group_id, told, must=False))  # a repeat, or nothing to do
        codes = set()
        if user != group.info.owner:
            codes.add(36)
        if owner not in group.members:
            codes.add(30)
        if codes:
            return refused(*codes)
        group.info, group.handed = group.info._replace(owner=owner), user
        return done(self._to_all(group_id, told))

    def update(self, user: str, group_id: str, name: str, limit: int, mode: int | None) -> Answer:
        group = self.groups[group_id]
        if group.dismissed:
            return refused(35)
        codes = set()
        if user != group.info.owner:
            codes.add(36)
        if limit and len(group.members) > limit:
            codes.add(34)
        if codes:
            return refused(*codes)
        info = group.info
        group.info = info._replace(
            name=name or info.name, limit=limit or info.limit, mode=info.mode if mode is None else mode
        )
        return done(self._to_all(group_id, Sync(SyncCommand.GROUP_INFO, group_id)))

    # ---- 51, 52, 60, 61

    def befriend(self, user: str, rows: dict[str, str]) -> Answer:
        """`rows`: friend -> remark."""
        codes = set()
        if user in rows:
            codes.add(2)
        if any(user in self.blocked[other] for other in rows):
            codes.add(51)
        if codes:
            return refused(*codes)
        told = []
        changed = False
        for other, remark in rows.items():
            new = other not in self.friends[user]
            renamed = bool(remark) and self.friends[user].get(other) != remark
            changed |= new or renamed
            self.friends[user][other] = remark or self.friends[user].get(other, "")
            self.friends[other].setdefault(user, "")
            told.append(Told(other, Sync(SyncCommand.FRIENDS), new))
        return done([*told, Told(user, Sync(SyncCommand.FRIENDS), changed)])

    def unfriend(self, user: str, others: Sequence[str]) -> Answer:
        if user in others:
            return refused(2)
        told = []
        for other in dict.fromkeys(others):
            there = self.friends[user].pop(other, None) is not None
            self.friends[other].pop(user, None)
            told.append(Told(other, Sync(SyncCommand.FRIENDS), there))
        changed = any(entry.must for entry in told)
        return done([*told, Told(user, Sync(SyncCommand.FRIENDS), changed)])

    def block(self, user: str, others: Sequence[str], yes: bool) -> Answer:
        if user in others and yes:
            return refused(2)
        before = set(self.blocked[user])
        self.blocked[user] = before | set(others) if yes else before - set(others)
        return done([Told(user, Sync(SyncCommand.BLOCKLIST), before != self.blocked[user])])

    # ---- what a user sees

    def history(self, user: str, session: str) -> list[Seen] | None:
        """21: newest first; None when he may not see it."""
        if user not in self.people(session):
            return None
        return [m.seen for m in reversed(self.sessions.get(session, [])) if not m.deleted]

    def recent(self, user: str) -> list[Recent]:
        """19, in any order."""
        found = []
        for session, messages in self.sessions.items():
            history = self.history(user, session)
            if history:
                read = self.positions.get((user, session), 0)
                unread = sum(m.counts and m.seen.seq > read for m in messages)
                found.append(Recent(session, read, unread, history[0]))
        return found

    def unmissable(self, user: str) -> Iterator[Seen | Control]:
        """20: in the order in which they were written."""
        for n, item in enumerate(self._written):
            seen = item.seen if isinstance(item, Message) else item
            group = self.groups.get(seen.session)
            if group is not None:
                concerned = user in group.members and group.members[user] <= n
            elif isinstance(item, Message):
                concerned = item.seen.to == user
            else:
                concerned = user in self.people(seen.session)
            if concerned and not (isinstance(item, Message) and item.deleted):
                yield seen

    def infos(self, user: str) -> dict[str, Info]:
        """40."""
        return {name: group.info for name, group in self.groups.items() if user in group.members}
