"""What tests of controls, reads and high-priority messages do all the time, over raw connections."""

from __future__ import annotations

from packs import structs as s
from packs import table as t
from packs.enums import ControlCommand
from packs.flags import COUNTER
from packs.pack import Pack
from tests.raw import Raw, code, decode

REVOKE, OVERRIDE, DELETE = ControlCommand.REVOKE, ControlCommand.OVERRIDE, ControlCommand.DELETE


class Sent:
    """A message that was sent: where it lies. `unsure`: it may have reached the store more than once, sent again by the
    client or by a node whose Redis died; then it was "stored before"."""

    def __init__(self, ack: s.MsgAck, pack_id: str, *, unsure: bool = False) -> None:
        assert code(ack) in ((0, 46) if unsure else (0,)), ack
        self.session, self.seq, self.prev, self.pack_id = ack.session_id, ack.seq_id, ack.prev_seq_id, pack_id


def send(raw: Raw, to: str, content: str = "text", flags: int = COUNTER) -> Sent:
    """Send a message to a user or a group."""
    kind = t.MSG_GROUP_CHAT if to.startswith("GC_") else t.MSG_SINGLE_CHAT
    pack_id = raw.request(kind, s.MsgReq(to=to, content=content, content_type=1), "", flags)
    return Sent(raw.answer(pack_id), pack_id)


def request(message: Sent, command: int, content: str = "", operator: str = "") -> s.MsgControl:
    return s.MsgControl(
        command=command, session_id=message.session, pack_id=message.pack_id, seq_id=message.seq, content=content,
        operator_id=operator,
    )  # fmt: skip


def control(
    raw: Raw, message: Sent, command: int, content: str = "", operator: str = "", pack_id: str = "", flags: int = 0
) -> int:
    """Revoke, override or delete; the code."""
    return code(raw.ask(t.MSG_CTRL, request(message, command, content, operator), pack_id, flags))


def read(raw: Raw, session: str, seq: int, pack_id: str = "", flags: int = 0) -> int:
    """Say up to where one has read; the code."""
    return code(raw.ask(t.MSG_READ, s.MsgReaded(session_id=session, seq_id=seq), pack_id, flags))


def next_of(raw: Raw, pack_type: int) -> Pack:
    """The next pushed pack of a type; others are passed over."""
    while (pack := raw.pack()).type != pack_type:
        pass
    return pack


def controlled(raw: Raw) -> s.MsgControl:
    """The next control that is pushed; other packs are passed over."""
    found: s.MsgControl = decode(next_of(raw, t.MSG_CTRL))
    return found


def stored(raw: Raw, session: str) -> list[tuple[Pack, s.MsgReq]]:
    """The newest page of a history, newest first."""
    answer = raw.ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=session, seq_id=0, count=200))
    assert code(answer) == 0, answer
    return [(pack, decode(pack)) for pack in answer.msgs]


def recent(raw: Raw, session: str) -> s.HotSessionItem | None:
    """A session as its list of recent sessions shows it; None when it does not."""
    answer = raw.ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=0))
    assert code(answer) == 0, answer
    return next((item for item in answer.sessions if item.session_id == session), None)


def unread(raw: Raw, session: str) -> int:
    item = recent(raw, session)
    assert item is not None
    return item.unread_count


def priorities(raw: Raw, after: int = 0, count: int = 200) -> s.MsgHighPrioritySyncResp:
    answer: s.MsgHighPrioritySyncResp = raw.ask(
        t.HIGH_PRIOR_MSG_SYNC, s.MsgHighPrioritySyncReq(seq_id=after, count=count)
    )
    assert code(answer) in (0, 25), answer
    assert answer.last_seq_id >= after
    return answer
