"""What a user sees of his sessions: recent ones, pages of messages, what is unread."""

from __future__ import annotations

import msgspec

from nodes.rest import wire
from nodes.rest.acting import Nodes
from nodes.rest.cursors import number_of
from packs.codec import decode_payload
from packs.codes import Code
from packs.flags import HIGH_PRIORITY, OVERRIDE, REVOKE
from packs.pack import Pack
from packs.structs import (
    HistoryMsgPullReq,
    HistoryMsgPullResp,
    HotSessionItem,
    HotSessionReq,
    HotSessionResp,
    MsgReaded,
    MsgReq,
)
from packs.table import HISTORY_MSG_PULL, HOTSESSION_SYNC, MSG_BIZ_NOTIFY, MSG_GROUP_CHAT, MSG_READ, MSG_SINGLE_CHAT
from webapi.routes import Call, route

KINDS = {MSG_SINGLE_CHAT: "single", MSG_GROUP_CHAT: "group", MSG_BIZ_NOTIFY: "business"}
UNREAD_PAGES = 20
"""Pages of recent sessions (of about 100) that are added up."""
_attributes = msgspec.json.Decoder(dict[str, str]).decode


class Sessions:
    """Routes of sessions."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @route("GET", "/v1/users/{user}/sessions", scope="messages:read", tag="sessions", errors=(422,),
           summary="The recent sessions of a user")  # fmt: skip
    def recent(self, call: Call, user: wire.UserId, query: wire.SessionsPage) -> wire.SessionPage:
        """Those that changed since `cursor`, the longest ago first."""
        found = self._page(call, user, number_of(query.cursor))
        cursor = str(found.timestamp)
        more = found.error_code.code == Code.HOT_SESSION_MORE
        return wire.SessionPage([_session(row) for row in found.sessions], cursor if more else "", cursor)

    @route("GET", "/v1/users/{user}/sessions/{session}/messages", scope="messages:read", tag="sessions", errors=(422,),
           summary="Messages of a session, newest first")  # fmt: skip
    def messages(
        self, call: Call, user: wire.UserId, session: wire.SessionId, query: wire.HistoryPage
    ) -> wire.MessagePage:
        """As the user may read it."""
        below = number_of(query.cursor)
        asked = HistoryMsgPullReq(session_id=session, seq_id=below, count=query.limit)
        found: HistoryMsgPullResp = self._nodes.ask(call, user, HISTORY_MSG_PULL, asked)
        rows = [message_of(pack) for pack in found.msgs]
        last = rows[-1] if rows else None
        return wire.MessagePage(rows, str(last.seq_id - 1) if last is not None and last.prev_seq_id else "")

    @route("PUT", "/v1/users/{user}/sessions/{session}/read", scope="messages:write", tag="sessions", errors=(422,),
           summary="Mark a session as read")  # fmt: skip
    def read(self, call: Call, user: wire.UserId, session: wire.SessionId, body: wire.ReadPosition) -> wire.Done:
        """The position never goes back."""
        self._nodes.ask(call, user, MSG_READ, MsgReaded(session_id=session, seq_id=body.seq_id))
        return wire.Done()

    @route("GET", "/v1/users/{user}/unread", scope="messages:read", tag="sessions", summary="What a user has not read")
    def unread(self, call: Call, user: wire.UserId) -> wire.Unread:
        counts: dict[str, int] = {}
        cursor, complete = 0, False
        for _ in range(UNREAD_PAGES):
            found = self._page(call, user, cursor)
            counts.update((row.session_id, row.unread_count) for row in found.sessions)
            complete = found.error_code.code != Code.HOT_SESSION_MORE
            if complete or found.timestamp <= cursor:
                break
            cursor = found.timestamp
        return wire.Unread(sum(counts.values()), sum(count > 0 for count in counts.values()), complete)

    def _page(self, call: Call, user: str, cursor: int) -> HotSessionResp:
        found: HotSessionResp = self._nodes.ask(call, user, HOTSESSION_SYNC, HotSessionReq(timestamp=cursor))
        return found


def message_of(pack: Pack) -> wire.StoredMessage:
    """A stored message in the words of the API."""
    m = decode_payload(MsgReq, pack.payload)
    return wire.StoredMessage(
        pack.pack_id, m.session_id, m.seq_id, m.prev_seq_id, m.timestamp, m.sender, m.to, m.content_type, m.content,
        KINDS.get(pack.type, "single"), bool(pack.flags & REVOKE), bool(pack.flags & OVERRIDE),
        bool(pack.flags & HIGH_PRIORITY), m.mentions,
    )  # fmt: skip


def _session(row: HotSessionItem) -> wire.Session:
    newest = message_of(row.last_msgs[0]) if row.last_msgs else None
    return wire.Session(row.session_id, row.read_seq_id, row.unread_count, newest, _attributes(row.attribute or "{}"))
