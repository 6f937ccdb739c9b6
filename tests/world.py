"""A small world around one user who asks for something, and everything that those in it can see.

peer, third   friends of each other, in one single chat and in one group
asker         in a role towards them, with a second device, `phone`

stranger    has nothing to do with them
member      is in the group; the peer owns it
owner       owns the group; the peer is a member
friend      of the peer
blocked     a friend of the peer, who has blocked him
monitor     may listen to sessions of others
nobody      is not logged in
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from packs import structs as s
from packs import structs_social as x
from packs import table as t
from packs.enums import SyncCommand
from packs.flags import ACK, COUNTER, HIGH_PRIORITY
from packs.ids import single_session
from packs.pack import Pack
from packs.structs import Payload
from tests import raw as raws
from tests.controls import send
from tests.groups import create
from tests.people import add, block
from tests.raw import Raw, code, decode
from tests.system import System

ROLES = ("stranger", "member", "owner", "friend", "blocked", "monitor", "nobody")
MONITORS = [f"monitor{n}" for n in range(100)]
"""For `[auth] monitors` of the system."""
PHONE = 1

_ids = itertools.count(1)
_monitors = iter(MONITORS)


class World:
    """One of each; `close` ends its connections. The system wants consent to be friends and friendship to chat."""

    def __init__(self, system: System, role: str) -> None:
        n = next(_ids)
        self.system, self.role = system, role
        self.asker = next(_monitors) if role == "monitor" else f"{role}-{n}"
        self.peer, self.third, self.somebody = f"peer-{n}", f"third-{n}", f"somebody-{n}"
        self.tablet: Raw | None = None  # for who wants one
        self._open: list[Raw] = []
        self.logged_in = role != "nobody"
        self._make_groups()
        self.p, self.t = self.connect(self.peer), self.connect(self.third)
        self.a = self.connect(self.asker if self.logged_in else "")
        if self.logged_in:
            self.phone = self.connect(self.asker, device_type=PHONE)
        self._make_friends()
        self.said = send(self.t, self.group, "to the group", COUNTER | HIGH_PRIORITY)
        self.told = send(self.t, self.peer, "to the peer", COUNTER | HIGH_PRIORITY)
        info = s.UserInfo(name="Peer", mobile="123")
        assert code(self.p.ask(t.USERINFO_UPDATE, s.UserInfoUpdateReq(user_info=info))) == 0
        self.between = single_session(self.peer, self.third)
        self.chat = single_session(self.asker, self.peer)

    def connect(self, user: str = "", **login: Any) -> Raw:
        """A connection that outlives the test."""
        made = self.system.client(user, **login)
        raws.opened.remove(made)
        self._open.append(made)
        return made

    def close(self) -> None:
        for each in self._open:
            each.close()

    def _make_groups(self) -> None:
        """By connections that end: those which come later know the groups from their logins on."""
        owner = self.asker if self.role == "owner" else self.peer
        members = {self.peer, self.third, *([self.asker] if self.role in ("member", "owner") else [])}
        raw = self.system.client(owner)
        self.group = create(raw, *sorted(members), name="group")
        if self.logged_in:
            raw = raw if owner == self.asker else self.system.client(self.asker)
            self.own = create(raw, name="own")

    def _make_friends(self) -> None:
        assert [add(self.p, self.third), add(self.t, self.peer)] == [0, 0]
        if self.role in ("friend", "blocked"):
            assert [add(self.a, self.peer), add(self.p, self.asker)] == [0, 0]
        if self.role == "blocked":
            assert block(self.p, self.asker) == 0

    # ---- what can be seen

    @property
    def viewers(self) -> dict[str, Raw]:
        """Who tells what can be seen. The asker's phone tells for him: his own connection may be over."""
        return {"peer": self.p, "third": self.t} | ({"phone": self.phone} if self.logged_in else {})

    def seen(self) -> dict[str, Any]:
        """Everything that the viewers can ask for, by "viewer.subject"."""
        asked = {
            f"{name}.{subject}": (raw, raw.request(number, payload))
            for name, raw in self.viewers.items()
            for subject, (number, payload) in self._questions().items()
        }
        return {name: _lasting(raw.answer(pack_id)) for name, (raw, pack_id) in asked.items()}

    def _questions(self) -> dict[str, tuple[int, Payload]]:
        def history(session: str) -> tuple[int, Payload]:
            return t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=0, count=200)

        people = [self.asker, self.peer, self.third]
        return {
            "between": history(self.between),
            "chat": history(self.chat),
            "group": history(self.group),
            "sessions": (t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0)),
            "priority": (t.HIGH_PRIOR_MSG_SYNC, s.MsgHighPrioritySyncReq(seq_id=0)),
            "groups": (t.GROUPCHAT_SYNC, s.GroupChatSyncReq(timestamp=0)),
            "members": (t.GROUPCHAT_MEMBERS_GET, s.GroupChatMemberGetReq(group_id=self.group)),
            "friends": (t.FRIEND_SYNC, s.FriendSyncReq(timestamp=0)),
            "requests": (t.FRIEND_REQUESTS_GET, s.Empty()),
            "blocked": (t.BLOCKLIST_GET, s.Empty()),
            "devices": (t.DEVICES_GET, s.Empty()),
            "registrations": (t.PUSH_REGISTRATIONS_GET, s.Empty()),
            "profiles": (t.USERINFO_GET, s.UserInfoGetReq(user_ids=people)),
            "attributes": (t.USERATTRIBUTE_GET, s.UserAttrGetReq(friend_id=self.peer)),
        }

    def pushed(self) -> list[str]:
        """What was pushed since the last call, as "viewer:type", sorted; the asker's own connection is "asker".

        Each process that publishes publishes a last thing to every viewer, so there is nothing to wait for.
        """
        ends = {"peer": (self.p, self.between), "third": (self.t, self.between)}
        asked = [*self._last(self.t, self.between, self.peer), *self._last(self.p, self.between, self.third)]
        if self.logged_in and not self.a.closed:
            ends["phone"] = (self.phone, self.own)
            asked += self._last(self.a, self.own, self.own)
        found: list[str] = []
        for raw, pack_id in asked:
            assert code(raw.answer(pack_id)) == 0
        for name, (raw, session) in ends.items():
            found += [f"{name}:{pack.type}" for pack in _up_to_last(raw, session)]
        packs = self.a.take()
        assert not [pack for pack in packs if pack.flags & ACK], "a request was answered twice"
        found += [f"asker:{pack.type}" for pack in packs if _tells(pack)]
        return sorted(found)

    def _last(self, raw: Raw, session: str, to: str) -> list[tuple[Raw, str]]:
        kind = t.MSG_GROUP_CHAT if to == session else t.MSG_SINGLE_CHAT
        message = raw.request(kind, s.MsgReq(to=to, content=LAST))
        return [(raw, message), (raw, raw.request(t.TYPING, x.Typing(session_id=session)))]


LAST = "the last"


def _up_to_last(raw: Raw, session: str) -> Iterator[Pack]:
    """Packs pushed before the last message and the last typing notice, which must come."""
    missing = {t.MSG_SINGLE_CHAT, t.TYPING}
    while missing:
        pack = raw.pack()
        message = decode(pack)
        if pack.type in (t.MSG_SINGLE_CHAT, t.MSG_GROUP_CHAT) and message.content == LAST:
            missing.discard(t.MSG_SINGLE_CHAT)
        elif pack.type == t.TYPING and message.session_id == session:
            missing.discard(t.TYPING)
        elif _tells(pack):
            yield pack


def _tells(pack: Pack) -> bool:
    """Whether a pack is a push that says something: a hint to resync may come at any time."""
    hint = s.SyncDataReq(command=SyncCommand.RESYNC)
    return not pack.flags & ACK and not (pack.type == t.SYNC_DATA_CMD and decode(pack) == hint)


def _lasting(answer: Any) -> Any:
    """An answer without what changes by itself: cursors and times of devices."""
    if isinstance(answer, s.HotSessionResp | s.GroupChatSyncResp | s.FriendSyncResp):
        return replace(answer, timestamp=0)
    if isinstance(answer, s.MsgHighPrioritySyncResp):
        return replace(answer, last_seq_id=0)
    if isinstance(answer, x.DevicesResp):
        return [(device.device_type, device.device_id, device.online) for device in answer.devices]
    if isinstance(answer, x.PushRegistrationsResp):
        return [(row.device_type, row.device_id, row.service_type) for row in answer.registrations]
    return answer
