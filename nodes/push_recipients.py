"""Whom a notice reaches: those who are not there, have not read it and want to hear of it, with their devices.

Nothing is written for a member of a group: its members are read, those who are there are left out by what this process
knows of subscriptions, and the devices of the others go into a few entries of each outlet's queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import gevent

from mesh.loop import now
from nodes import publications, push_entries, push_settings
from nodes.push_entries import Note, Target
from nodes.push_text import Names, Text, Wording
from packs.ids import business_members, single_members
from packs.structs import MsgReq
from packs.table import MSG_GROUP_CHAT
from store.entries import Entry
from store.registrations import Registration

if TYPE_CHECKING:
    from mesh.fanout import Fanout
    from nodes.push_sender import Sender
    from nodes.push_settings import PushSettings
    from store.hot import HotStore

PART = 50
"""Users looked at together."""
SHARE = 0.2
"""Of the time may be taken for large groups: chats on the same core and the same Redis hardly notice."""
LEAST_PAUSE, LONGEST_PAUSE = 0.001, 0.0055
"""Seconds between two parts. With the longest, 10,000 members take a second and a half."""
LATE_SECONDS = 5.0
"""When what is due waits for longer than that, pauses are as short as can be."""
SCANNED = 500
"""Members of a group read together."""
WRITTEN = 400
"""Users of whom all is written at once: each write is fsynced, and a chat waits for it."""
NAMES_SECONDS = 60.0
"""How long names are remembered."""
NAMES_MAX = 10_000
LATELY_SECONDS = 300.0
"""How long it is remembered, at least, what was pushed to whom: longer than it takes to see that somebody is gone."""
LATELY_MAX = 500_000
CLOCKS_SECONDS = 2.0
"""By how much the clock of Redis may differ."""
T = TypeVar("T")

EVERYBODY = "*"
DIGESTS_MAX = 100_000


class Notice(NamedTuple):
    """Something to tell of a session: `messages`, of which `message` is the newest. `content`: what it says by
    now. `kind` "": new messages; "withdrawn", "changed N": what became of it. `only`: to this user alone."""

    session: str
    seq: int
    group: str
    message: MsgReq
    content: str
    messages: int
    expires: float
    mentions: tuple[str, ...]
    kind: str = ""
    only: str = ""


_Reached = tuple[Notice, str, list[Registration]]
"""A notice, a user, and his devices."""


class Recipients:
    """Turns notices into entries of queues."""

    def __init__(
        self, store: HotStore, fanout: Fanout, settings: PushSettings, senders: Mapping[tuple[str, str], Sender],
        count: Callable[[str, int], None], *, alone: bool,
    ) -> None:  # fmt: skip
        """`senders` by (app, vendor); `count(name, number)` counts. `alone`: no other push node pushes."""
        self._store = store
        self._fanout = fanout
        self._settings = settings
        self._senders = senders
        self._count = count
        self._wording = Wording(settings)
        self._wanted = False
        self._names: dict[str, str] = {}
        self._forget_at = 0.0
        self._lately: dict[tuple[str, str], int] = {}  # (user, session) -> newest seqId that was pushed
        self._before: dict[tuple[str, str], int] = {}  # the same of the time before
        self._turn_at = now() + LATELY_SECONDS
        self._alone = alone
        self._begun = self._known = time.time()  # `_lately` tells of all since the one, `_before` since the other
        self._digests: dict[str, float] = {}  # large group -> when the next digest may be sent
        self._undigested: dict[str, Notice] = {}  # large group -> the newest that no digest has told of

    @property
    def complete(self) -> bool:
        """Whether it is known who is there."""
        return self._fanout.complete

    def wanted(self) -> bool:
        """Whether anybody ever registered. Raises `StoreError`."""
        self._wanted = self._wanted or self._store.registrations.any()
        return self._wanted

    def is_any_away(self, session: str) -> bool:
        """Whether pushes go to one of those of a session that is no group."""
        parties = single_members(session)
        if parties is None:
            notice = business_members(session)
            return notice is not None and self.is_away(notice[1])
        return self.is_away(parties[0]) or self.is_away(parties[1])

    def is_away(self, user: str) -> bool:
        """Whether pushes go to his phones."""
        holders = self._fanout.holders
        if not holders(publications.USER + user):
            return True
        return self._settings.computer_online and not holders(publications.MOBILE + user)

    def queue(self, notices: Sequence[Notice], late: float = 0.0) -> int:
        """Queue what these lead to, which has been due for `late` seconds; how many pushes. Harmless when repeated.
        Raises `StoreError`."""
        pace = _Pace(LEAST_PAUSE if late > LATE_SECONDS else LONGEST_PAUSE)
        single = [(n, n.only or n.message.to) for n in notices if not n.group or n.only]
        total = self._queue(_parts(single), pace)
        for notice in notices:
            if notice.group and not notice.only:
                parts = (
                    [(notice, user) for user in users] for scanned in self._members(notice) for users in _parts(scanned)
                )
                total += self._queue(parts, pace)
        return total

    def _queue(self, parts: Iterable[Sequence[tuple[Notice, str]]], pace: _Pace) -> int:
        """Queue for those who are away: they are read in small parts and written in larger ones."""
        total = 0
        reached: list[_Reached] = []
        for part in parts:
            pace.keep()
            reached += self._reach([(notice, user) for notice, user in part if self.is_away(user)])
            if len(reached) >= WRITTEN:
                total += self._write(reached)
                reached = []
        return total + self._write(reached)

    # ---- groups

    def _members(self, notice: Notice) -> Iterator[Sequence[str]]:
        """Those of the group who may hear of it, whether they are there or not, in parts."""
        sender, mentioned, policy = notice.message.sender, set(notice.mentions), self.policy(notice.group)
        if policy == push_settings.OFF:
            return
        if policy == push_settings.MENTIONS and EVERYBODY not in mentioned:
            found = self._store.groups.present(notice.group, sorted(mentioned - {sender})) if mentioned else None
            if found is not None:
                yield found.members
            return
        if policy == push_settings.DIGEST and not self._digest(notice):
            return
        for members in self._store.groups.scan(notice.group, SCANNED):
            yield [user for user in members if user != sender]

    def policy(self, group: str) -> str:
        """What is pushed of a group: everything, unless it is large."""
        policy = self._settings.large_group_policy
        large = policy != push_settings.ALL and self._store.groups.size(group) > self._settings.large_group
        return policy if large else push_settings.ALL

    def _digest(self, notice: Notice) -> bool:
        """Whether it is time for a digest of this group; else `digests` will tell."""
        clock = now()
        if clock < self._digests.get(notice.group, 0.0):
            self._undigested[notice.group] = notice
            return False
        self._undigested.pop(notice.group, None)
        self._digests[notice.group] = clock + self._settings.digest
        return True

    def digests(self) -> list[Notice]:
        """Those whose time has come. What a crash cuts off is told with the group's next message."""
        clock = now()
        due = [group for group in self._undigested if self._digests.get(group, 0.0) <= clock]
        if len(self._digests) > DIGESTS_MAX:
            self._digests = {group: at for group, at in self._digests.items() if at > clock}
        return [self._undigested.pop(group) for group in due]

    # ---- devices

    def _reach(self, asked: Sequence[tuple[Notice, str]]) -> list[_Reached]:
        """Those who have devices and have not read it."""
        if not asked:
            return []
        targets = self._store.registrations.targets([(user, notice.session) for notice, user in asked])
        found = [(notice, user, t) for (notice, user), t in zip(asked, targets, strict=True) if t]
        if not found:
            return []
        read = self._store.unread.positions([(notice.session, user) for notice, user, _ in found])
        return [row for row, at in zip(found, read, strict=True) if at < row[0].seq and not self._was_told(*row[:2])]

    def _write(self, reached: Sequence[_Reached]) -> int:
        if not reached:
            return 0
        self._name({id(notice): notice for notice, _, _ in reached}.values())
        total = self.add([note for row in self._grouped(reached) for note in self._notes(*row)])
        self._note([(user, notice.session, notice.seq) for notice, user, _ in reached])
        return total

    def _was_told(self, notice: Notice, user: str) -> bool:
        """Whether there is nothing new in it for him: what became of a message only matters while it is what his phone
        shows of the session."""
        if not notice.kind:
            return self.was_pushed(user, notice.session, notice.seq)
        never = self._alone and notice.seq / 1e6 > self._known + CLOCKS_SECONDS
        never = never and not self.was_pushed(user, notice.session, notice.seq)
        return never or self.was_pushed(user, notice.session, notice.seq + 1)

    def was_pushed(self, user: str, session: str, seq: int) -> bool:
        """Whether this message was pushed to him lately, or a newer one of the session."""
        key = user, session
        return max(self._lately.get(key, 0), self._before.get(key, 0)) >= seq

    def _note(self, pushed: Iterable[tuple[str, str, int]]) -> None:
        if now() >= self._turn_at or len(self._lately) > LATELY_MAX:
            self._lately, self._before = {}, self._lately
            self._turn_at = now() + LATELY_SECONDS
            self._begun, self._known = time.time(), self._begun
        for user, session, seq in pushed:
            self._lately[user, session] = seq

    @staticmethod
    def _grouped(rows: Iterable[_Reached]) -> Iterable[tuple[Notice, list[tuple[str, Registration]]]]:
        by_notice: dict[int, tuple[Notice, list[tuple[str, Registration]]]] = {}
        for notice, user, registrations in rows:
            devices = by_notice.setdefault(id(notice), (notice, []))[1]
            devices += [(user, registration) for registration in registrations]
        return by_notice.values()

    def _notes(
        self, notice: Notice, devices: Iterable[tuple[str, Registration]]
    ) -> Iterable[tuple[tuple[str, str], Note]]:
        """(outlet, note) of a notice: one for devices that may make a sound, one for those that may not."""
        clock = time.time()
        by_outlet: dict[tuple[tuple[str, str], bool], list[Target]] = {}
        for user, device in devices:
            quiet = device.is_quiet(clock)
            if quiet and self._settings.quiet_hours == push_settings.OFF:
                self._count("drops.push.quiet", 1)
                continue
            alert = not quiet and not notice.kind
            target = Target(user, device.field, device.token)
            by_outlet.setdefault(((device.app, device.vendor), alert), []).append(target)
        if not by_outlet:
            return
        text = self._text(notice)
        kind = notice.kind or (f"{notice.messages}" if notice.messages != 1 else "")
        for (outlet, alert), targets in by_outlet.items():
            yield outlet, Note(
                notice.session, notice.seq, kind, text.title, text.body, text.url, "", -1, notice.expires, alert,
                tuple(targets),
            )  # fmt: skip

    def add(self, notes: Iterable[tuple[tuple[str, str], Note]]) -> int:
        """Queue notes, each for (app, vendor). How many pushes they are."""
        clock = int(time.time() * 1000)
        by_outlet: dict[tuple[str, str], list[Note]] = {}
        for outlet, note in notes:
            if outlet in self._senders:
                by_outlet.setdefault(outlet, []).append(note)
            else:
                self._count("drops.push.no_outlet", len(note.targets))
        total = 0
        for outlet, found in by_outlet.items():
            sender = self._senders[outlet]
            packed = push_entries.pack(found, clock)
            sender.queue.add([(entry.name, push_entries.encode(entry)) for entry in packed])
            sender.wake()
            total += sum(len(note.targets) for note in found)
        self._count("push.queued", total)
        return total

    # ---- texts

    def _text(self, notice: Notice) -> Text:
        message = notice.message
        group = (self._names.get(notice.group) or notice.group) if notice.group else ""
        names = Names(self._names.get(message.sender) or message.sender, group)
        if notice.kind == "withdrawn":
            return self._wording.withdrawn(names)
        if notice.group and self._is_digest(notice):
            return self._wording.unnamed(names)
        if notice.messages != 1:
            return self._wording.several(message, names, notice.messages)
        return self._wording.message(message, names, notice.content)

    def _is_digest(self, notice: Notice) -> bool:
        return self._settings.large_group_policy == push_settings.DIGEST and notice.group in self._digests

    def _name(self, notices: Collection[Notice]) -> None:
        """Learn the names that stand in texts."""
        if now() >= self._forget_at or len(self._names) > NAMES_MAX:
            self._names.clear()
            self._forget_at = now() + NAMES_SECONDS
        users = {n.message.sender for n in notices} - self._names.keys()
        if users:
            asked = sorted(users)
            for user, profile in zip(asked, self._store.profiles.get(asked), strict=True):
                self._names[user] = profile.name
        for group in {n.group for n in notices if n.group} - self._names.keys():
            self._names[group] = self._store.groups.name(group)


class _Pace:
    """Keeps work that is made of small parts to its share of the time."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._began = 0.0

    def keep(self) -> None:
        """Before each part: pause as long as the part before was long, and longer."""
        if self._began:
            took = now() - self._began
            gevent.sleep(max(LEAST_PAUSE, min(self._longest, took * (1 / SHARE - 1))))
        self._began = now()


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), PART):
        yield items[start : start + PART]


def notice_of(session: str, entry: Entry, message: MsgReq, *, count: int, user: str, expires: float) -> Notice:
    """A notice to one user of what he has not read in a session."""
    group = session if entry.type == MSG_GROUP_CHAT else ""
    return Notice(session, entry.seq, group, message, message.content, count, expires, (), only=user)
