"""Which connections of this broker belong to which group: kept current while members come and go, without a table.

A user's groups are read once, when his first connection here logs in. From then on publications change them: those on a
group's topic (held while a member is here) and those on the user's own. All carry the version of the group's members:

    message, version above ours    it was checked against members that we do not know: messages of the group wait in
                                   order while the group node says who of ours is in it
    members changed, the next one  taken as it is; above that, as for a message; below, known already
    he is in it, not known here    taken when ours is not above it, and the group node is asked whether he missed
                                   anything (then he gets the hint to resync)

So a loss or two publishers out of step never show a message to somebody who was removed before it was stored. What a
loss keeps from somebody is found when the lists are read again (`reread`), which every link event causes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mesh.contract import start
from mesh.loop import Every, Tick
from nodes.deliveries import deliver
from nodes.publications import DELIVER, DISMISSED, GROUP, MEMBERS
from store.groups import Membership, Presence

if TYPE_CHECKING:
    from nodes.broker import BrokerNode
    from nodes.client import Client
    from packs.codec import Codec

READ_USERS = 200
"""Users whose groups are asked for in one call."""
REREAD_SECONDS = 0.05
"""Pause between two such calls after a loss."""
MAX_WAITING = 1_000
"""Items of one group that wait for its members; when there are more, all are dropped and announced as missed."""

_Waiting = list[Callable[[], None]]
"""Logins that wait for the groups of one user."""
Deliveries = list[tuple[str, bytes]]
"""(connection that is left out, pack) of each."""


class Connection(Protocol):
    """What is known here of a client's connection."""

    @property
    def codec(self) -> Hashable: ...


class Outside(Protocol):
    """What the memberships need: a broker, or a test."""

    def subscribe(self, topics: list[str], done: Callable[[bool], None], late: Callable[[], None]) -> None: ...

    def unsubscribe(self, topics: list[str]) -> None: ...

    def groups_of(
        self, users: tuple[str, ...], done: Callable[[Sequence[Sequence[Membership]] | None, Exception | None], None]
    ) -> None: ...

    def present(
        self, group: str, users: tuple[str, ...], done: Callable[[Presence | None, Exception | None], None]
    ) -> None: ...

    def connections(self, user: str) -> Iterable[Any]:
        """His connections that are logged in."""

    def deliver(self, by_codec: Mapping[Any, Iterable[Any]], items: Deliveries) -> None: ...

    def hint(self, user: str) -> None:
        """Tell his connections that they may have missed something."""


class _Group:
    __slots__ = ("asked", "clients", "name", "users", "version", "waiting")

    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version
        self.users: dict[str, int] = {}  # members that are here -> newest version of which that is known
        self.clients: dict[Hashable, dict[Any, None]] = {}  # codec -> their connections
        self.waiting: list[Any] | None = None  # items that wait while the group node is asked
        self.asked: dict[str, None] = {}  # about whom it is asked

    def add(self, client: Any) -> None:
        self.clients.setdefault(client.codec, {})[client] = None

    def remove(self, client: Any) -> None:
        clients = self.clients.get(client.codec)
        if clients is not None:
            clients.pop(client, None)


class Memberships:
    """Groups of the users of one broker."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._holders: dict[str, int] = {}  # user -> connections here, logged in or about to be
        self._of: dict[str, dict[str, _Group]] = {}  # user -> his groups; those without any are not here
        self._groups: dict[str, _Group] = {}
        self._reading: dict[str, _Waiting] = {}  # user -> logins that wait for his groups
        self._unread: list[str] = []  # to be asked for at the end of this turn
        self._stale: dict[str, None] = {}  # users whose groups must be read again
        self._rereading = False
        self._unsure: dict[str, dict[str, int]] = {}  # group -> users to be asked about -> newest seqId that they know
        self._tick = Tick(self._read)
        self._timer = Every(REREAD_SECONDS, self._reread_some)

    @property
    def groups(self) -> int:
        """Groups with a member here."""
        return len(self._groups)

    def close(self) -> None:
        self._timer.stop()

    # ---- users come and go

    def enter(self, user: str, done: Callable[[], None]) -> None:
        """A connection of `user` logs in, his own topic is subscribed; `done` is called when his groups are as well."""
        holders = self._holders[user] = self._holders.get(user, 0) + 1
        if user in self._reading:
            self._reading[user].append(done)
        elif holders > 1:
            done()
        else:
            self._reading[user] = [done]
            self._unread.append(user)
            self._tick.arm()

    def leave(self, user: str) -> None:
        """One of the connections that entered is over."""
        holders = self._holders.get(user, 0)
        if holders > 1:
            self._holders[user] = holders - 1
            return
        self._holders.pop(user, None)
        self._reading.pop(user, None)
        self._stale.pop(user, None)
        for group in list(self._of.get(user, {}).values()):
            self._dismiss(group, user)

    def holds(self, user: str) -> bool:
        """Whether a connection of `user` is here or about to be."""
        return user in self._holders

    def is_in(self, user: str, group: str) -> bool:
        """Whether a user who is here gets what is published to a group."""
        return group in self._of.get(user, {})

    def came(self, user: str, client: Connection) -> None:
        """A connection is logged in: from now on it gets messages."""
        for group in self._of.get(user, {}).values():
            group.add(client)

    def went(self, user: str, client: Connection) -> None:
        """A connection is no longer logged in."""
        for group in self._of.get(user, {}).values():
            group.remove(client)

    # ---- reading a user's groups

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        users = [user for user in dict.fromkeys(unread) if user in self._reading]
        for i in range(0, len(users), READ_USERS):
            self._ask_for([(user, self._reading[user]) for user in users[i : i + READ_USERS]])

    def _ask_for(self, asked: list[tuple[str, _Waiting]]) -> None:
        def answered(found: Sequence[Sequence[Membership]] | None, error: Exception | None) -> None:
            for n, (user, waiting) in enumerate(asked):
                if self._reading.get(user) is not waiting:
                    continue  # he left, and if he is back his groups are asked for again
                if found is None:  # better in without groups, and told later, than out
                    self._stale[user] = None
                    self._ready(user, waiting)
                else:
                    self._learn(user, found[n])

        self._outside.groups_of(tuple(user for user, _ in asked), answered)

    def _learn(self, user: str, memberships: Sequence[Membership]) -> None:
        """What the group node says of a user's groups, which may be older than what publications said meanwhile."""
        waiting = self._reading.get(user)
        known = self._of.get(user, {})
        told = set()
        new: list[str] = []
        for name, version, newest in memberships:
            told.add(name)
            group = self._groups.get(name)
            if name in known:
                self._confirm(known[name], user, version)
                continue
            if group is None or group.version <= version:
                self._admit(name, version, user)
                new.append(name)
            else:
                self._verify(name, user, newest)
        for name in [n for n in known if n not in told]:
            self._verify(name, user, -1)
        self._hold(user, new, lambda: self._ready(user, waiting))

    def _ready(self, user: str, waiting: _Waiting | None) -> None:
        if waiting is not None and self._reading.get(user) is waiting:
            del self._reading[user]
            for done in waiting:
                done()

    def reread(self) -> None:
        """Publications were lost: read everybody's groups again, a few at a time."""
        self._stale.update(dict.fromkeys(self._holders))

    def _reread_some(self) -> None:
        if not self._stale or self._rereading:
            return
        users = [user for user, _ in zip(self._stale, range(READ_USERS), strict=False)]
        for user in users:
            del self._stale[user]

        def answered(found: Sequence[Sequence[Membership]] | None, error: Exception | None) -> None:
            self._rereading = False
            if found is None:
                self._stale.update((user, None) for user in users if user in self._holders)
                return
            for user, memberships in zip(users, found, strict=True):
                if user not in self._holders:
                    continue
                before = len(self._of.get(user, ()))
                self._learn(user, memberships)
                if len(self._of.get(user, ())) > before:
                    self._outside.hint(user)

        self._rereading = True
        self._outside.groups_of(tuple(users), answered)

    # ---- who is in a group

    def _admit(self, name: str, version: int, user: str) -> None:
        """Take `user` for a member, as of `version`. The caller holds the topic for him (`_hold`)."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(name, version)
        group.users[user] = version
        self._of.setdefault(user, {})[name] = group
        for client in self._outside.connections(user):
            group.add(client)

    @staticmethod
    def _confirm(group: _Group, user: str, version: int) -> None:
        """A member here is one as of this version too: older news of his leaving is old."""
        group.users[user] = max(group.users[user], version)

    def _hold(self, user: str, names: list[str], done: Callable[[], None]) -> None:
        if not names:
            done()
            return
        topics = [GROUP + name for name in names]
        self._outside.subscribe(topics, lambda whole: done(), lambda: self._outside.hint(user))

    def _dismiss(self, group: _Group, user: str) -> None:
        """Take `user` for a member no longer."""
        if user not in group.users:
            return
        del group.users[user]
        of = self._of[user]
        del of[group.name]
        if not of:
            del self._of[user]
        for client in self._outside.connections(user):
            group.remove(client)
        self._outside.unsubscribe([GROUP + group.name])
        if not group.users:
            del self._groups[group.name]

    def _leave(self, group: _Group, user: str, version: int) -> None:
        """As of `version` he is no member (0: there is no group)."""
        if not version or group.users.get(user, version) <= version:
            self._dismiss(group, user)

    def joined(self, user: str, name: str, version: int, newest: int) -> None:
        """Published to `user`: he is in the group as of `version`, and `newest` was its newest message then."""
        if user not in self._holders:
            return
        group = self._groups.get(name)
        if group is not None and user in group.users:
            self._confirm(group, user, version)
            return
        if group is not None and group.version > version:  # he may have been removed since
            self._verify(name, user, newest)
            return
        self._admit(name, version, user)
        self._hold(user, [name], lambda: self._verify(name, user, newest))

    def _verify(self, name: str, user: str, newest: int) -> None:
        """Ask whether `user` is in the group, and whether he may have missed what came after `newest` (-1: no)."""
        unsure = self._unsure.get(name)
        if unsure is not None:
            unsure[user] = newest
            return
        self._unsure[name] = {}
        self._ask_about(name, {user: newest})

    def _ask_about(self, name: str, users: dict[str, int]) -> None:
        def answered(presence: Presence | None, error: Exception | None) -> None:
            if presence is None:
                for user in users:
                    if user in self._holders:
                        self._stale[user] = None
                        self._outside.hint(user)
            else:
                self._verified(name, users, presence)
            waiting = self._unsure.pop(name, None)
            if waiting:
                self._unsure[name] = {}
                self._ask_about(name, waiting)

        self._outside.present(name, tuple(users), answered)

    def _verified(self, name: str, users: dict[str, int], presence: Presence) -> None:
        group = self._groups.get(name)
        if group is not None and 0 < presence.version < group.version:
            self._unsure[name].update(users)  # publications were faster: ask again
            return
        members = set(presence.members)
        for user, newest in users.items():
            if user not in self._holders:
                continue
            known = name in self._of.get(user, {})
            if user in members and not known:
                self._admit(name, presence.version, user)
                self._hold(user, [name], lambda user=user: self._outside.hint(user))  # type: ignore[misc]
            elif user in members and 0 <= newest < presence.newest:
                self._outside.hint(user)
            elif user not in members and known:
                self._leave(self._groups[name], user, presence.version)

    # ---- what is published to a group

    def published(self, name: str, items: Sequence[Any]) -> None:
        """Items on the topic of a group."""
        group = self._groups.get(name)
        if group is None:
            return
        if group.waiting is not None:
            self._wait(group, items)
            return
        ready: Deliveries = []
        for n, item in enumerate(items):
            kind = item[0]
            if kind == DELIVER and item[3] <= group.version:
                ready.append((item[1], item[2]))
                continue
            if ready:
                self._outside.deliver(group.clients, ready)
                ready = []
            if kind == DELIVER or (kind == MEMBERS and item[1] > group.version + 1):
                group.waiting = []
                self._wait(group, items[n:])
                self._ask_members(group)
                return
            if kind == MEMBERS and item[1] == group.version + 1:
                self._change(group, *item[1:])
            elif kind == DISMISSED:
                for user in list(group.users):
                    self._dismiss(group, user)
            if not group.users:
                return
        if ready:
            self._outside.deliver(group.clients, ready)

    def _change(self, group: _Group, version: int, added: Sequence[str], removed: Sequence[str]) -> None:
        for user in added:  # before the others go: with the last of them the topic would be given up
            if user in group.users:
                self._confirm(group, user, version)
            elif user in self._holders:
                self._admit(group.name, version, user)
                self._hold(user, [group.name], lambda: None)  # subscribed and confirmed already
        for user in removed:
            self._leave(group, user, version)
        group.version = version

    def _wait(self, group: _Group, items: Sequence[Any]) -> None:
        assert group.waiting is not None
        if len(group.waiting) + len(items) > MAX_WAITING:
            group.waiting.clear()
            for user in group.users:
                self._outside.hint(user)
        else:
            group.waiting.extend(items)

    def _ask_members(self, group: _Group, first: bool = True) -> None:
        """Ask who of ours is in the group; then go on with what waits."""
        asked = tuple(group.users) if first else tuple(user for user in group.users if user not in group.asked)
        group.asked.update(dict.fromkeys(asked))

        def answered(presence: Presence | None, error: Exception | None) -> None:
            if self._groups.get(group.name) is not group:
                return
            if presence is None:  # what waits may be for others than those we know
                self._ask_failed(group)
                return
            members = set(presence.members)
            if first:
                group.version = max(group.version, presence.version)
            for user in asked:
                if user not in members:
                    self._leave(group, user, presence.version)
            if any(user not in group.asked for user in group.users):
                self._ask_members(group, first=False)  # admitted meanwhile, as of an older version perhaps
                return
            items, group.waiting = group.waiting, None
            group.asked.clear()
            if items and group.users:
                self.published(group.name, items)

        self._outside.present(group.name, asked, answered)

    def _ask_failed(self, group: _Group) -> None:
        group.version = 0  # whatever comes next is asked about again
        group.waiting = None
        group.asked.clear()
        for user in group.users:
            self._outside.hint(user)


class BrokerSide:
    """What the memberships need, of a broker."""

    def __init__(self, broker: BrokerNode) -> None:
        self._broker = broker
        self.subscribe = broker.process.fanout.subscribe
        self.unsubscribe = broker.process.fanout.unsubscribe

    def groups_of(self, users: tuple[str, ...], done: Callable[[Any, Exception | None], None]) -> None:
        groups = self._broker.group
        if groups is None:  # this system has no groups
            done([()] * len(users), None)
        else:
            start(groups.groups_of, done, users)

    def present(self, group: str, users: tuple[str, ...], done: Callable[[Any, Exception | None], None]) -> None:
        groups = self._broker.group
        assert groups is not None
        start(groups.present, done, group, users)

    def connections(self, user: str) -> Iterable[Client]:
        return self._broker.online.get(user, ())

    def deliver(self, by_codec: Mapping[Codec, Iterable[Client]], items: Deliveries) -> None:
        self._broker.stats.counts["deliveries"] += deliver(by_codec, items)

    def hint(self, user: str) -> None:
        for client in self.connections(user):
            self._broker.hint_resync(client)
