"""The msgop node: what is done to messages after they were stored. Controls (17) and read positions (18).

    17  checks -> one script in the session's shard decides and changes -> publish -> queues of what must not be missed
        -> answer
    18  one script for all of this turn -> publish -> the reader's recent sessions -> answer

What follows the script can be cut off by a crash; it is done again when the request is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from mesh.contract import start
from mesh.errors import AppError, Overloaded, Timeout
from mesh.fanout import Publication
from nodes import hot, monitoring, publications, words
from nodes.contracts import Archive
from nodes.contracts_erasure import Erasing
from nodes.contracts_notices import NoticeControls
from nodes.packs import Item, PackNode, handles
from nodes.reading import may_read
from packs.codec import encode_payload
from packs.codes import Code
from packs.enums import ControlCommand
from packs.flags import DUP
from packs.ids import business_session, is_group_id, is_pack_id, is_user_id, parties, single_members
from packs.pack import VERSION, Pack
from packs.structs import SUCCESS, CommonErrorCode, MsgControl, MsgReaded
from packs.table import MSG_CTRL, MSG_READ
from store import controls as c
from store.errors import StoreError
from store.sessions import BATCH

US_PER_SECOND = 1_000_000
TIME_BYTES = 8
"""The time is the last field of a control's pack, a uint64."""
SOME_TIME = 1 << 40
"""A time (ms) that takes as many bytes as the one which the store puts in its place."""
MAX_PAYLOAD = 65_536
"""Bytes of a message where no node says otherwise."""

_REFUSALS = {
    c.CONFLICT: (Code.PARAM, "this packId was used for something else"),
    c.NOT_FOUND: (Code.MSG_NOT_FOUND, ""),
    c.DENIED: (Code.GROUP_NO_PRIVILEGE, "not your message, or too late"),
    c.NO_GROUP: (Code.GROUP_NOT_FOUND, ""),
    c.TOO_LONG: (Code.MSG_TOO_LONG, ""),
}


class MsgopSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [node.msgop]."""

    revoke_window_seconds: int = 120
    """How long after a message its sender may revoke it, 0 for ever; a group's owner always may."""
    override_window_seconds: int = 120
    """The same for replacing its content."""
    revoke_content: str = "hide"
    """"hide": a revoked message is read without content; "keep": with it."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for key in ("revoke_window_seconds", "override_window_seconds"):
            if getattr(self, key) < 0:
                yield key, "must be at least 0"
        if self.revoke_content not in ("hide", "keep"):
            yield "revoke_content", f'must be "hide" or "keep", not "{self.revoke_content}"'


class Act(NamedTuple):
    """A control that somebody makes of a message. `skip`: the connection that asked; `member`: in a group he must be
    one."""

    session: str
    user: str
    pack_id: str
    skip: str
    member: bool


class MsgopNode(PackNode, NoticeControls, Erasing):
    """Controls and reads, types 17 and 18."""

    Settings = MsgopSettings
    sections = {**hot.SECTIONS, **words.SECTIONS}
    publishes = True
    olap: Archive | None

    def start(self) -> None:
        self._store = hot.opened(self.process)
        self._store.pressure.start()
        settings: MsgopSettings = self.settings
        self._windows = {
            ControlCommand.REVOKE: settings.revoke_window_seconds * US_PER_SECOND,
            ControlCommand.OVERRIDE: settings.override_window_seconds * US_PER_SECOND,
            ControlCommand.DELETE: 0,
        }
        self._words = {kind: words.checker(self.process.topology, kind) for kind in (words.SINGLE, words.GROUP)}
        self._max_payloads = {kind: self._max_payload(kind) for kind in ("chat", "group")}

    def _max_payload(self, kind: str) -> int:
        """What the node that takes messages allows: an override is checked as a send."""
        topology = self.process.topology
        return getattr(topology.settings(kind), "max_payload", MAX_PAYLOAD) if topology.instances(kind) else MAX_PAYLOAD

    # ---- 17

    @handles(MSG_CTRL)
    def _control(self, item: Item) -> CommonErrorCode:
        self._require_room()
        session, user = item.key, item.origin.user
        if item.message.operator_id and item.message.operator_id != user:
            raise AppError(Code.CONN_DENIED, "operatorId is not you")
        if not is_group_id(session) and not may_read(user, session):
            raise AppError(Code.GROUP_NO_PRIVILEGE, "not your session")
        message = self._checked(item.message, session, user, len(item.request.payload))
        self._do(Act(session, user, item.request.pack_id, item.origin.connection, True), message)
        return SUCCESS

    def _require_room(self) -> None:
        if self._store.pressure.full:
            raise Overloaded(self._store.pressure.full)

    def _max_payload_of(self, session: str) -> int:
        return self._max_payloads["group" if is_group_id(session) else "chat"]

    def _do(self, act: Act, message: MsgControl) -> None:
        """Change the message, and tell all who see it. In a greenlet. Raises `AppError`."""
        session = act.session
        control = c.Control(
            session, is_group_id(session), act.user, act.pack_id, message.command, message.seq_id, message.pack_id,
            message.content, self.settings.revoke_content == "hide", self._windows[ControlCommand(message.command)],
            self._max_payload_of(session), act.member,
        )  # fmt: skip
        whole = encode_payload(Pack(MSG_CTRL, VERSION, 0, act.pack_id, encode_payload(message)))
        pack = whole[:-TIME_BYTES]
        outcome = self._store.controls.control(control, pack)
        if outcome.status == c.ASK:
            (archived,) = self.olap.entries(((session, message.seq_id),)) if self.olap is not None else (b"",)
            if not archived:
                raise AppError(Code.MSG_NOT_FOUND)
            outcome = self._store.controls.control(control, pack, archived)
        if outcome.status in _REFUSALS:
            raise AppError(*_REFUSALS[outcome.status])
        message.timestamp = outcome.time
        self._publish_control(act, message, outcome)
        if users := parties(session):
            kept = pack + outcome.time.to_bytes(TIME_BYTES, "big")
            self._store.priority.add_now([(user, kept) for user in users])
        self.stats.counts["controls"] += 1

    def _checked(self, message: MsgControl, session: str, operator: str, size: int) -> MsgControl:
        """The control, whose payload has this `size`, as it is passed on, but for its time. Raises `AppError`."""
        if message.command not in self._windows:
            raise AppError(Code.MSG_COMMAND)
        if message.command != ControlCommand.OVERRIDE:
            message.content = ""
        elif size > self._max_payload_of(session):
            raise AppError(Code.MSG_TOO_LONG)
        elif not message.content:
            raise AppError(Code.MSG_TOO_SHORT)
        else:
            message.content = self._allowed(message.content, session)
        message.session_id, message.operator_id, message.timestamp = session, operator, SOME_TIME
        return message

    def _allowed(self, content: str, session: str) -> str:
        """The content as it may be stored: its words are checked as those of a send are. Raises `AppError`."""
        checked = self._words[words.GROUP if is_group_id(session) else words.SINGLE].check(content)
        if checked is None:
            raise AppError(Code.SENSITIVE_WORD)
        return checked

    def _publish_control(self, act: Act, message: MsgControl, outcome: c.Controlled) -> None:
        """To all who see the message, but for the connection that asked."""
        skip, pack_id, payload = act.skip, act.pack_id, encode_payload(message)
        flags = DUP if outcome.status == c.REPEATED else 0
        if topic := monitoring.listeners(self, act.session):
            self.publish(topic, publications.delivery(skip, MSG_CTRL, flags, pack_id, payload))
        if is_group_id(act.session):
            body = publications.group_delivery(skip, MSG_CTRL, flags, pack_id, payload, outcome.version)
            self._publish_if_held(publications.GROUP + act.session, body)
            return
        body = publications.delivery(skip, MSG_CTRL, flags, pack_id, payload)
        for user in parties(act.session):
            self._publish_if_held(publications.USER + user, body)

    def _publish_if_held(self, topic: str, item: Publication) -> None:
        if self.process.fanout.holders(topic):
            self.publish(topic, item)

    # ---- for apps

    def control_notice(
        self, app: str, user: str, seq: int, pack_id: str, command: int, content: str, request: str
    ) -> None:
        self._require_room()
        if not (is_user_id(app) and is_user_id(user) and is_pack_id(request)):
            raise AppError(Code.PARAM, "a malformed id")
        session = business_session(app, user)
        message = MsgControl(command=command, session_id=session, pack_id=pack_id, seq_id=seq, content=content)
        size = len(encode_payload(message))
        self._do(Act(session, app, request, "", False), self._checked(message, session, app, size))

    # ---- for the erasure of a user

    def erase(self, sender: str, messages: tuple[tuple[str, int, str], ...]) -> int:
        self._require_room()
        return sum(self._erase(sender, *message) for message in messages)

    def _erase(self, sender: str, session: str, seq: int, pack_id: str) -> bool:
        message = MsgControl(
            command=int(ControlCommand.DELETE), session_id=session, pack_id=pack_id, seq_id=seq, operator_id=sender,
            timestamp=SOME_TIME,
        )  # fmt: skip
        try:
            self._do(Act(session, sender, f"erase-{seq}", "", False), message)
        except AppError as error:
            if error.code != Code.MSG_NOT_FOUND:  # else it is gone
                raise
            return False
        except StoreError as error:
            raise Timeout(str(error)) from None
        return True

    # ---- 18

    @handles(MSG_READ, batch=True)
    def _read(self, items: list[Item]) -> None:
        readings: list[tuple[Item, c.Reading]] = []
        for item in items:
            message, user, session = item.message, item.origin.user, item.key
            in_group = is_group_id(session)
            if message.user_id and message.user_id != user:
                item.refuse(Code.CONN_DENIED, "userId is not you")
            elif not in_group and not may_read(user, session):
                item.refuse(Code.HISTORY_DENIED)
            else:
                readings.append((item, c.Reading(session, in_group, user, message.seq_id)))
        for shard in self._store.by_session(readings, lambda row: row[1].session):
            for i in range(0, len(shard), BATCH):
                self._move(shard[i : i + BATCH])

    def _move(self, part: Sequence[tuple[Item, c.Reading]]) -> None:
        def done(positions: Sequence[c.Position] | None, error: Exception | None) -> None:
            if positions is None or self.olap is None:
                self._moved([item for item, _ in part])(positions, error)
                return
            settled = [row for row in zip(part, positions, strict=True) if row[1].status != c.READ_ASK]
            self._moved([item for (item, _), _ in settled])([position for _, position in settled], None)
            for (item, reading), position in zip(part, positions, strict=True):
                if position.status == c.READ_ASK:
                    start(self.olap.greatest, self._known(item, reading), reading.session, reading.seq)

        self._store.controls.read([reading for _, reading in part], done)

    def _known(self, item: Item, reading: c.Reading) -> Any:
        """Go on with what the archive says of the message up to which somebody has read."""

        def done(known: tuple[int, int], error: Exception | None) -> None:
            if error is not None:
                item.fail(error)
            else:
                self._store.controls.read([reading._replace(known=known)], self._moved([item]))

        return done

    def _moved(self, items: list[Item]) -> Any:
        def done(positions: Sequence[c.Position] | None, error: Exception | None) -> None:
            if positions is None:
                for item in items:
                    item.fail(error or Timeout("no positions"))
                return
            activity: dict[tuple[str, str], None] = {}
            for item, position in zip(items, positions, strict=True):
                again = item.request.flags & DUP or item.resent_by_broker
                if position.status == c.MOVED or (position.status == c.THERE and again):
                    self._publish_read(item, position.seq)
                    activity[item.origin.user, item.key] = None
            self._store.sessions.touch(list(activity))
            for item, position in zip(items, positions, strict=True):
                if position.status == c.READ_NO_GROUP:
                    item.refuse(Code.GROUP_NOT_FOUND)
                elif position.status == c.READ_NOT_MEMBER:
                    item.refuse(Code.NOT_GROUP_MEMBER)
                else:
                    item.answer(SUCCESS)
            self.stats.counts["reads"] += len(items)

        return done

    def _publish_read(self, item: Item, seq: int) -> None:
        """To the reader's other devices, and in a single chat to the other as a receipt."""
        user, origin, holders = item.origin.user, item.origin, self.process.fanout.holders
        topics = []
        own = publications.USER + user
        if origin.others or holders(own) > 1:  # without other devices, nobody but the asking connection
            topics.append(own)
        for other in single_members(item.key) or ():
            if other != user and holders(publications.USER + other):
                topics.append(publications.USER + other)
        if topics:
            payload = encode_payload(MsgReaded(session_id=item.key, seq_id=seq, user_id=user))
            body = publications.delivery(origin.connection, MSG_READ, 0, item.request.pack_id, payload)
            for topic in topics:
                self.publish(topic, body)
