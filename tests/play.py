"""Plays the same on the real system and on the model, and compares all that users see.

Users and devices are numbers here, and so are the things that a step is about: the n-th connection, message or group
that there is by then, counted around. So a step means something whatever came before it, and a failure can be replayed
from what it printed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.codec import JSON, MSGPACK
from packs.flags import DUP
from tests.connection import Connection
from tests.model import KEPT, Answer, Control, Info, Message, Seen, Told, World, session_of
from tests.raw import Raw, code
from tests.system import System
from tests.view import Kept, View

_plays = itertools.count(1)
USERS = 4
DEVICE_TYPES = 3


class Play:
    """One run: users of its own, the model of them, and their connections."""

    def __init__(self, system: System) -> None:
        play = next(_plays)
        # Byte order is not that of a dictionary.
        self.users = [f"{letter}{play}" for letter in "mZaM"[:USERS]]
        self.world = World(self.users)
        self.connections: list[Connection] = []
        self._addresses = system.addresses()
        self._ids = itertools.count(1)
        self._asked: list[Control] = []
        self._created: list[tuple[str, str, str]] = []  # user, packId, group
        self._readings: dict[str, tuple[str, str, int]] = {}  # of a user: packId, session, seqId
        self._times: dict[Control, int] = {}  # when a control was done, as it was first seen
        self._kept: dict[str, Kept] = {user: Kept() for user in self.users}

    # ---- connections

    def login(self, user: int, device: int, broker: int = 0, json: bool = False) -> None:
        """A device connects; an older connection of its type is kicked out."""
        name, device_type = self.users[user], device % DEVICE_TYPES + 1
        self.settle()
        older = [c for c in self.connections if (c.user, c.device_type) == (name, device_type)]
        raw = Raw(self._addresses[broker % len(self._addresses)], JSON if json else MSGPACK)
        assert code(raw.login(name, device_type=device_type, device_id=f"d{device_type}")) == 0
        self.connections = [c for c in self.connections if c not in older]
        self.connections.append(Connection(raw, name, device_type))
        for connection in older:
            connection.kicked_out()

    def logout(self, at: int, abrupt: bool = True) -> None:
        """A connection ends. What was on its way to it may be lost."""
        connection = self._connection(at)
        self.connections.remove(connection)
        if not abrupt:
            assert code(connection.raw.ask(t.LOGOUT)) == 0
        connection.raw.close()

    def _connection(self, at: int) -> Connection:
        if not self.connections:
            self.login(at % USERS, at)
        return self.connections[at % len(self.connections)]

    def _of(self, user: str) -> Connection:
        """A connection of a user, made when there is none."""
        for connection in self.connections:
            if connection.user == user:
                return connection
        self.login(self.users.index(user), 0)
        return self.connections[-1]

    # ---- messages

    def send(self, at: int, to: int, content: str = "text", flags: int = 0, count: int = 1) -> None:
        """One or several messages, the latter sent without waiting."""
        self._send([(self._connection(at), count)], to, content, flags)

    def send_together(self, at: int, other: int, to: int, flags: int = 0) -> None:
        """Two connections send to the same one at the same time: the numbers tell the order."""
        first, second = self._connection(at), self._connection(other)
        if first is not second:
            self._send([(first, 3), (second, 3)], to, "together", flags)

    def _send(self, senders: list[tuple[Connection, int]], to: int, content: str, flags: int) -> None:
        receiver = self._receiver(to)
        kind = t.MSG_GROUP_CHAT if receiver in self.world.groups else t.MSG_SINGLE_CHAT
        asked = []
        for n in range(max(count for _, count in senders)):
            for connection, count in senders:
                if n < count:
                    message = s.MsgReq(to=receiver, content=content)
                    asked.append((connection, connection.raw.request(kind, message, self._id(), flags)))
        stored: list[tuple[Connection, Seen]] = []
        for connection, pack_id in asked:
            ack = connection.raw.answer(pack_id)
            user, session = connection.user, session_of(connection.user, receiver)
            self._check(ack, self.world.may_send(user, receiver, content), connection)
            if code(ack) == 0:
                assert (ack.session_id, ack.timestamp) == (session, ack.seq_id // 1000), ack
                numbers = (session, ack.seq_id, ack.prev_seq_id)
                stored.append((connection, Seen(kind, pack_id, flags & KEPT, *numbers, user, receiver, content)))
        for connection in {id(c): c for c, _ in stored}.values():
            own: dict[str, list[int]] = {}
            for c, one in stored:
                if c is connection:
                    own.setdefault(one.session, []).append(one.seq)
            assert all(seqs == sorted(seqs) for seqs in own.values()), "messages of a connection keep their order"
        for connection, one in sorted(stored, key=lambda entry: entry[1].seq):
            self._tell(self.world.store(one), connection)

    def send_again(self, message: int, device: int = 0, dup: bool = True, other: bool = False) -> None:
        """A packId once more, from any device of its sender; `other`: with other content."""
        sent = self._message(message)
        if sent is None:
            return
        seen_, content = sent.seen, sent.first + ("!" if other else "")
        connection = self._any_of(seen_.sender, device)
        flags = sent.seen.flags & KEPT | (DUP if dup else 0)
        ack = connection.raw.ask(seen_.type, s.MsgReq(to=seen_.to, content=content), seen_.pack_id, flags)
        self._check(ack, self.world.send_again(sent, content, flags), connection)
        if code(ack) == 46:
            assert (ack.session_id, ack.seq_id, ack.prev_seq_id) == (seen_.session, seen_.seq, seen_.prev), ack

    def _receiver(self, to: int) -> str:
        """A user or a group."""
        everybody = [*self.users, *self.world.groups]
        return everybody[to % len(everybody)]

    def _message(self, n: int) -> Message | None:
        messages = [m for session in self.world.sessions.values() for m in session]
        messages.sort(key=lambda m: -m.seen.seq)  # the newest first: they are more often of interest
        return messages[n % len(messages)] if messages else None

    def _any_of(self, user: str, device: int) -> Connection:
        own = [c for c in self.connections if c.user == user] or [self._of(user)]
        return own[device % len(own)]

    # ---- 17, 18

    def control(self, at: int, message: int, command: int, content: str = "new", miss: bool = False) -> None:
        """Revoke, override or delete; `miss`: with a number that no message has."""
        sent = self._message(message)
        if sent is not None:
            seen_, user = sent.seen, self._connection(at).user
            seq = seen_.seq + (1 if miss else 0)
            asked = Control(self._id(), command, seen_.session, seen_.pack_id, seq, content, user)
            self._control(self._connection(at), asked, 0)

    def control_own(self, message: int, command: int, content: str = "new", device: int = 0) -> None:
        """The same by who sent the message."""
        sent = self._message(message)
        if sent is not None:
            connection = self._any_of(sent.seen.sender, device)
            self.control(self.connections.index(connection), message, command, content)

    def control_again(self, n: int, dup: bool = True, other: bool = False, device: int = 0) -> None:
        """A control's packId once more; `other`: for something else."""
        if self._asked:
            asked = self._asked[n % len(self._asked)]
            if other:
                asked = asked._replace(seq=asked.seq + 1)
            self._control(self._any_of(asked.operator, device), asked, DUP if dup else 0)

    def _control(self, connection: Connection, asked: Control, flags: int) -> None:
        request = s.MsgControl(
            command=asked.command, session_id=asked.session, pack_id=asked.target, seq_id=asked.seq,
            content=asked.content,
        )  # fmt: skip
        answer = connection.raw.ask(t.MSG_CTRL, request, asked.pack_id, flags)
        self._check(answer, self.world.control(asked), connection)
        if code(answer) == 0:
            self._asked.append(asked)

    def read(self, at: int, session: int, back: int = 0, shift: int = 0) -> None:
        """Say that one has read up to a message, `back` from the newest; `shift` moves the number off the message."""
        connection = self._connection(at)
        name = self._session(connection.user, session)
        messages = self.world.sessions.get(name, [])
        seq = (messages[-1 - back % len(messages)].seen.seq if messages else 1) + shift
        pack_id = self._id()
        self._read(connection, pack_id, name, seq, 0)
        self._readings[connection.user] = (pack_id, name, seq)

    def read_again(self, at: int, device: int = 0) -> None:
        """Repeat what one has read, with DUP."""
        user = self._connection(at).user
        if user in self._readings:
            self._read(self._any_of(user, device), *self._readings[user], DUP)

    def _read(self, connection: Connection, pack_id: str, session: str, seq: int, flags: int) -> None:
        answer = connection.raw.ask(t.MSG_READ, s.MsgReaded(session_id=session, seq_id=seq), pack_id, flags)
        self._check(answer, self.world.read(pack_id, connection.user, session, seq, bool(flags)), connection)

    def _session(self, user: str, n: int) -> str:
        """A session: mostly one of the user's in which there are messages."""
        own = [name for name in self.world.sessions if user in self.world.people(name)]
        sessions = own if own and n % 4 else [*self.world.pairs, *self.world.groups]
        return sessions[n % len(sessions)]

    # ---- groups

    def create(self, at: int, members: Sequence[int], limit: int = 0, mode: int = 0) -> None:
        connection, pack_id = self._connection(at), self._id()
        names, info = self._names(members), Info("", f"name {pack_id}", "", limit, mode)
        answer = self._create(connection, pack_id, names, info)
        self._check(answer, self.world.may_create(connection.user, names, limit), connection)
        if code(answer) == 0:
            told = self.world.created(connection.user, pack_id, answer.group_id, names, info)
            self._created.append((connection.user, pack_id, answer.group_id))
            self._tell(told, connection)

    def create_again(self, n: int) -> None:
        """The packId of a creation once more: the same group, unchanged."""
        if self._created:
            user, pack_id, group = self._created[n % len(self._created)]
            answer = self._create(self._of(user), pack_id, self.users, Info("", "again", "", 0, 0))
            assert (code(answer), answer.group_id) == (0, group)

    @staticmethod
    def _create(connection: Connection, pack_id: str, members: Sequence[str], info: Info) -> Any:
        fields = s.GroupChatInfo(name=info.name, member_limit=info.limit, join_mode=info.mode)
        request = s.GroupChatCreateReq(group_info=fields, member_ids=list(members))
        return connection.raw.ask(t.GROUPCHAT_CREATE, request, pack_id, 0)

    def join(self, at: int, group: int, users: Sequence[int]) -> None:
        self._change_members(at, group, users, t.GROUPCHAT_JOIN, self.world.join)

    def leave(self, at: int, group: int, users: Sequence[int]) -> None:
        self._change_members(at, group, users, t.GROUPCHAT_QUIT, self.world.leave)

    def join_or_leave_oneself(self, at: int, group: int, leave: bool) -> None:
        user = self.users.index(self._connection(at).user)
        (self.leave if leave else self.join)(at, group, [user])

    def _change_members(self, at: int, n: int, users: Sequence[int], kind: int, change: Callable[..., Answer]) -> None:
        if group := self._group(n):
            connection, names = self._connection(at), self._names(users)
            answer = connection.raw.ask(kind, s.GroupChatJoinQuitReq(group_id=group, member_ids=names))
            self._check(answer, change(connection.user, group, names), connection)

    def dismiss(self, at: int, group: int, owner: bool = False) -> None:
        """`owner`: it is he who asks, whoever was named."""
        if name := self._group(group):
            connection = self._of(self.world.groups[name].info.owner) if owner else self._connection(at)
            answer = connection.raw.ask(t.GROUPCHAT_DISMISS, s.GroupChatDismissReq(group_id=name))
            self._check(answer, self.world.dismiss(connection.user, name), connection)

    def hand_over(self, at: int, group: int, to: int, owner: bool = False) -> None:
        if name := self._group(group):
            connection = self._of(self.world.groups[name].info.owner) if owner else self._connection(at)
            request = s.GroupChatCreatorUpdateReq(group_id=name, new_creator_id=self.users[to])
            answer = connection.raw.ask(t.GROUPCHAT_UPDATE_CREATOR, request)
            self._check(answer, self.world.hand_over(connection.user, name, self.users[to]), connection)

    def update(self, at: int, group: int, limit: int = 0, mode: int | None = None, owner: bool = False) -> None:
        if group_id := self._group(group):
            connection = self._of(self.world.groups[group_id].info.owner) if owner else self._connection(at)
            name = f"name {next(self._ids)}"
            info = s.GroupChatInfo(group_id=group_id, name=name, member_limit=limit)
            if mode is not None:
                info.join_mode = mode
            answer = connection.raw.ask(t.GROUPCHAT_INFO_UPDATE, s.GroupChatInfoUpdateReq(group_info=info))
            self._check(answer, self.world.update(connection.user, group_id, name, limit, mode), connection)

    def _group(self, n: int) -> str:
        groups = list(self.world.groups)
        return groups[n % len(groups)] if groups else ""

    def _names(self, users: Sequence[int]) -> list[str]:
        return [self.users[n] for n in users]

    # ---- friends and blocked users

    def befriend(self, at: int, users: Sequence[int], remark: str = "") -> None:
        connection, rows = self._connection(at), dict.fromkeys(self._names(users), remark)
        friends = [s.FriendInfo(friend_id=name, remark=remark) for name in rows]
        answer = connection.raw.ask(t.FRIEND_ADD, s.FriendAddReq(friends=friends))
        self._check(answer, self.world.befriend(connection.user, rows), connection)

    def unfriend(self, at: int, users: Sequence[int]) -> None:
        connection, names = self._connection(at), self._names(users)
        answer = connection.raw.ask(t.FRIEND_DEL, s.FriendDelReq(friends=[s.FriendInfo(friend_id=n) for n in names]))
        self._check(answer, self.world.unfriend(connection.user, names), connection)

    def block(self, at: int, users: Sequence[int], yes: bool = True) -> None:
        connection, names = self._connection(at), self._names(users)
        answer = connection.raw.ask(t.BLOCK if yes else t.UNBLOCK, x.BlockReq(user_ids=names))
        self._check(answer, self.world.block(connection.user, names, yes), connection)

    # ---- what is told

    def _id(self) -> str:
        return f"p{next(self._ids)}"

    def _check(self, response: Any, answer: Answer, connection: Connection) -> None:
        assert code(response) in answer.codes, f"{response} instead of one of the codes {sorted(answer.codes)}"
        self._tell(answer.told, connection)

    def _tell(self, told: Iterable[Told], asker: Connection) -> None:
        for entry in told:
            for connection in self.connections:
                if connection.user == entry.user and connection is not asker:
                    connection.expect(entry)

    def settle(self) -> None:
        """Each connection has got what it must get, and nothing else."""
        for connection in self.connections:
            connection.settle()

    def end(self) -> None:
        """Everything is compared, for everybody, and nothing comes that nobody expects."""
        for user in range(USERS):
            self.look(user, 3)
        self.settle()
        for connection in self.connections:
            connection.quiet()

    def close(self) -> None:
        for connection in self.connections:
            connection.raw.close()

    # ---- what is seen

    def look(self, user: int, count: int = 200) -> None:
        """Compare all that a user sees; pages are asked for with so many items."""
        self.settle()
        View(self.world, self._of(self.users[user]), self._kept[self.users[user]], self._times).compare(count)


@contextmanager
def playing(system: System) -> Iterator[Play]:
    """A play that is compared at its end."""
    play = Play(system)
    try:
        yield play
        play.end()
    finally:
        play.close()
