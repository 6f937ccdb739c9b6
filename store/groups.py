"""Groups: who is in them, and which groups a user is in.

A change of a group is one script on the group's shard; it decides and is done whole or not at all. The users' own lists
of groups lie in other shards and follow (`settle`): they are made equal to what the members say, however often. Whoever
reads such a list asks the group as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mesh.loop import wait_for
from store.client import Client
from store.errors import StoreUnavailable
from store.keys import Keys
from store.scripts import (
    GROUP_CREATE,
    GROUP_DISMISS,
    GROUP_JOIN,
    GROUP_MEMBERS,
    GROUP_OWNER,
    GROUP_PRESENT,
    GROUP_PROFILES,
    GROUP_QUIT,
    GROUP_UPDATE,
    MEMBERSHIPS,
    MY_GROUPS,
    Script,
)

DONE, REPEATED, MISSING, DENIED, FULL, NOT_OWNER, NOT_MEMBER = range(7)
"""What became of a change (`Change.status`): REPEATED was done before by the same request."""

CHUNK = 500
"""Groups or users asked about by one script: Redis answers others between two of them."""
SETTLE_ROUNDS = 5
"""How often users' lists are written again when the group changed meanwhile."""


class Membership(NamedTuple):
    """A user is in a group. `version` of its members, `newest` seqId of its session, when asked."""

    group: str
    version: int
    newest: int


class Presence(NamedTuple):
    """Those of the users asked about who are members. `version` is 0 when there is no such group."""

    version: int
    newest: int
    members: tuple[str, ...]


class Change(NamedTuple):
    """The outcome of a change; `users` are those that it added or removed."""

    status: int
    version: int = 0
    newest: int = 0
    users: tuple[str, ...] = ()


class Profile(NamedTuple):
    """The info of a group; times in ms."""

    group: str
    name: str
    avatar: str
    owner: str
    desc: str
    limit: int
    mode: int
    created: int
    updated: int


Event = tuple[str, bytes]
"""What other systems are told of a change: its id, and JSON."""
SILENT: Event = ("", b"")
"""They are not told."""


class Page(NamedTuple):
    """Some members in the order of joining; `after` begins the next page, ("", 0) when this is the last."""

    status: int
    members: tuple[str, ...]
    after: tuple[str, int]


class Groups:
    """Groups in the hot store. Without `done`, a method blocks its greenlet and raises `StoreError`.

    Changes go over the connection of the messages, so that their outcomes come in the order of what was stored. The
    `event` of one that changed something is noted for other systems in the same step.
    """

    def __init__(self, writes: Client, reads: Client, keys: Keys, *, remember_seconds: int) -> None:
        self._writes = writes
        self._reads = reads
        self._keys = keys
        self._remember_seconds = remember_seconds

    # ---- changes

    def create(
        self, group: str, owner: str, members: Sequence[str], *, limit: int, mode: int, name: str, avatar: str = "",
        desc: str = "", event: Event = SILENT,
    ) -> Change:  # fmt: skip
        """Make a group; `members` are different from each other and hold the owner.

        REPEATED: it was made before; MISSING: made and dismissed before; FULL: more members than `limit`.
        """
        return self._change(GROUP_CREATE, event, group, owner, limit, mode, name, avatar, desc, *members)

    def join(self, group: str, actor: str, users: Sequence[str], event: Event = SILENT) -> Change:
        """Add users, different from each other: all that are not in yet, or none (MISSING, DENIED, FULL)."""
        return self._change(GROUP_JOIN, event, group, actor, *users)

    def quit(self, group: str, actor: str, users: Sequence[str], event: Event = SILENT) -> Change:
        """Remove users, different from each other: all that are in, or none (MISSING, NOT_OWNER)."""
        return self._change(GROUP_QUIT, event, group, actor, *users)

    def dismiss(self, group: str, actor: str, event: Event = SILENT) -> Change:
        """End a group; `users` are those that were in it. REPEATED, MISSING, NOT_OWNER."""
        return self._change(GROUP_DISMISS, event, group, actor, self._remember_seconds)

    def hand_over(self, group: str, actor: str, owner: str, event: Event = SILENT) -> Change:
        """Make a member the owner. REPEATED, MISSING, NOT_OWNER, NOT_MEMBER."""
        return self._change(GROUP_OWNER, event, group, actor, owner)

    def update(
        self, group: str, actor: str, fields: dict[str, str | int], event: Event = SILENT
    ) -> Change:
        """Change the info: name, avatar, desc, limit, mode. MISSING, NOT_OWNER, FULL."""
        return self._change(GROUP_UPDATE, event, group, actor, *(part for pair in fields.items() for part in pair))

    def _change(self, script: Script, event: Event, group: str, *args: Any) -> Change:
        tag = self._keys.session_tag(group)
        given = (tag, group, *args, *event)
        status, version, *rest = self._writes.run(script, (self._keys.group_info(group),), given)
        newest, *users = rest or (0,)
        return Change(status, version, newest, tuple(map(bytes.decode, users)))

    def settle(self, group: str, users: Sequence[str], first: Presence | None = None) -> set[str]:
        """Make the users' lists of groups say what the members say; returns who of them is a member.

        `first` is what is known already. Two changes that overtake each other come to the same end here: whoever writes
        last asks afterwards.
        """
        present = first or self.present(group, users)
        for _ in range(SETTLE_ROUNDS):
            members = set(present.members)
            self._note(group, users, members)
            present = self.present(group, users)
            if members == set(present.members):
                return members
        raise StoreUnavailable(f"{group} changes too fast")

    def _note(self, group: str, users: Iterable[str], members: set[str]) -> None:
        keys = self._keys
        by_shard: dict[str, list[str]] = {}
        for user in users:
            args = by_shard.setdefault(keys.user_tag(user), [group])
            args += (keys.my_groups(user), "1" if user in members else "0")
        self._writes.run_all([(MY_GROUPS, (f"{tag}:stamp",), args) for tag, args in by_shard.items()])

    def info(self, group: str) -> Profile | None:
        """The info of a group, whoever asks; None when there is no such group."""
        fields = ("name", "avatar", "owner", "desc", "limit", "mode", "created", "updated")
        row = self._reads.ask("HMGET", self._keys.group_info(group), *fields)
        return None if row[2] is None else _profile(group, row)

    # ---- who is in a group

    def present(self, group: str, users: Sequence[str]) -> Presence:
        """Who of `users` is a member."""
        return wait_for(lambda done: self.start_present(group, users, done))  # type: ignore[no-any-return]

    def start_present(
        self, group: str, users: Sequence[str], done: Callable[[Presence | None, Exception | None], None]
    ) -> None:
        """`present`, with a completion."""

        def read(reply: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
            else:
                version, newest, *members = reply
                done(Presence(version, newest, tuple(map(bytes.decode, members))), None)

        args = (self._keys.session_tag(group), group, *users)
        self._reads.evaluate(read, GROUP_PRESENT, (self._keys.group_info(group),), args)

    def members(self, group: str) -> tuple[str, ...] | None:
        """All members; None when there is no such group."""
        key = f"{self._keys.session_tag(group)}:p:{group}"
        found = self._reads.ask("ZRANGE", key, 0, -1)
        return tuple(map(bytes.decode, found)) or None  # a group has its owner at least

    def scan(self, group: str, count: int) -> Iterator[list[str]]:
        """All members in parts of about `count`, in no order: however many they are, Redis is never held up by them.
        Who joins or leaves meanwhile may be among them or not; nobody else is missed, and nobody comes twice."""
        key, cursor, seen = f"{self._keys.session_tag(group)}:p:{group}", b"0", set[bytes]()
        while True:
            cursor, found = self._reads.ask("ZSCAN", key, cursor, "COUNT", count)
            part = [member for member in found[::2] if member not in seen]
            seen.update(part)
            yield [member.decode() for member in part]
            if cursor == b"0":
                return

    def size(self, group: str) -> int:
        """The number of members, 0 when there is no such group."""
        return int(self._reads.ask("ZCARD", f"{self._keys.session_tag(group)}:p:{group}"))

    def name(self, group: str) -> str:
        """The group's name, "" when it has none."""
        found = self._reads.ask("HGET", self._keys.group_info(group), "name")
        return found.decode() if found else ""

    def page(self, group: str, actor: str, after: tuple[str, int], count: int, size: int) -> Page:
        """At most `count` members, of at most `size` characters together, behind `after` (user, seqId), ("", 0) for the
        first. MISSING, NOT_MEMBER."""
        tag = self._keys.session_tag(group)
        user, seq = after
        args = (tag, group, actor, seq, user, count)
        status, *fields = self._reads.run(GROUP_MEMBERS, (self._keys.group_info(group),), args)
        members = []
        for member, joined in zip(fields[::2], fields[1::2], strict=True):
            members.append(member.decode())
            size -= len(member)
            if size < 0 or len(members) == count:
                return Page(status, tuple(members), (members[-1], int(joined)))
        return Page(status, tuple(members), ("", 0))

    # ---- a user's groups

    def mine(self, user: str) -> tuple[int, list[tuple[str, int]]]:
        """The store's time in µs, and (group, stamp) of the groups in the user's list, ascending."""
        commands = (("TIME",), ("ZRANGE", self._keys.my_groups(user), 0, -1, "WITHSCORES"))
        (seconds, micros), listed = self._reads.ask_all(commands)
        fields = iter(listed)
        groups = [(group.decode(), int(stamp)) for group, stamp in zip(fields, fields, strict=True)]
        return int(seconds) * 1_000_000 + int(micros), groups

    def profiles(self, user: str, groups: Sequence[str]) -> list[Profile | None]:
        """The info of groups, None for those that the user is not in."""
        asked = [(self._keys.session_tag(group), group) for group in groups]
        rows = wait_for(
            lambda done: self._reads.gather(done, GROUP_PROFILES, (user,), asked, answers=1, chunk=CHUNK)
        )
        return [_profile(group, row) if row else None for group, row in zip(groups, rows, strict=True)]

    def of_users(
        self, users: Sequence[str], done: Callable[[list[tuple[Membership, ...]] | None, Exception | None], None]
    ) -> None:
        """The groups of each user, asked of the groups themselves."""
        lists: list[list[str]] = []

        def listed(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                done(None, error)
                return
            lists.extend([group.decode() for group in reply] for reply in replies)
            pairs = [(user, group) for user, groups in zip(users, lists, strict=True) for group in groups]
            self.memberships(pairs, answered)

        def answered(found: list[Membership | None] | None, error: Exception | None) -> None:
            if found is None:
                done(None, error)
                return
            rest = iter(found)
            done([tuple(m for _ in groups if (m := next(rest)) is not None) for groups in lists], None)

        keys = [("ZRANGE", self._keys.my_groups(user), 0, -1) for user in users]
        self._reads.command_all(listed, keys)

    def memberships(
        self, pairs: Sequence[tuple[str, str]], done: Callable[[list[Membership | None] | None, Exception | None], None]
    ) -> None:
        """For each (user, group): his membership, None when he is not in it."""

        def read(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                done(None, error)
                return
            fields = iter(replies)
            rows = zip(pairs, zip(fields, fields, strict=True), strict=True)
            done([Membership(group, v, newest) if v else None for (_, group), (v, newest) in rows], None)

        asked = [(self._keys.session_tag(group), user, group) for user, group in pairs]
        self._reads.gather(read, MEMBERSHIPS, (), asked, answers=2, chunk=CHUNK)


def _profile(group: str, row: Sequence[bytes]) -> Profile:
    name, avatar, owner, desc = (field.decode() for field in row[:4])
    limit, mode, created, updated = (int(field) for field in row[4:])
    return Profile(group, name, avatar, owner, desc, limit, mode, created, updated)
