"""The history node: recent sessions (19), what must not be missed (20) and pages of a session (21)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nodes import hot
from nodes.packs import Item, PackNode, handles
from nodes.reading import may_read, pack_of
from packs.codec import MSGPACK
from packs.codes import Code, describe
from packs.ids import canonical_session
from packs.pack import Pack
from packs.structs import (
    SUCCESS,
    CommonErrorCode,
    HistoryMsgPullResp,
    HotSessionItem,
    HotSessionResp,
    MsgHighPrioritySyncResp,
)
from packs.table import HIGH_PRIOR_MSG_SYNC, HISTORY_MSG_PULL, HOTSESSION_SYNC
from store.entries import Entry
from store.sessions import Overview

HOT_SESSIONS = 100
"""Sessions in one answer to 19."""
PRIORITY_MAX = 200
"""Items in one answer to 20, and how many when none are asked for."""
PAGE_DEFAULT, PAGE_MAX = 30, 200
PAGE_BYTES = 100_000
"""Payload bytes in one page, so that it fits a frame in every codec (JSON may write a byte as six)."""
SETTLED_US = 5_000_000
"""Stamps this close to the present may still be joined by lower ones, so a last page's cursor stays below."""
MORE = CommonErrorCode(code=Code.HOT_SESSION_MORE, desc=describe(Code.HOT_SESSION_MORE))


class HistoryNode(PackNode):
    """What was said."""

    sections = hot.SECTIONS

    def start(self) -> None:
        self._store = self.process.shared(hot.hot_store)
        self._store.open()

    # ---- 21

    @handles(HISTORY_MSG_PULL, batch=True)
    def _pages(self, items: list[Item]) -> None:
        for item in items:
            message, user = item.message, item.origin.user
            session = canonical_session(message.session_id)
            if session is None:
                item.refuse(Code.PARAM, "sessionId is malformed")
            elif not may_read(user, session):
                item.refuse(Code.HISTORY_DENIED)
            else:
                count = PAGE_DEFAULT if message.count <= 0 else min(message.count, PAGE_MAX)
                self._store.sessions.page(session, message.seq_id, count, self._paged(item, session))

    def _paged(self, item: Item, session: str) -> Any:
        def done(page: list[Entry] | None, error: Exception | None) -> None:
            if page is None:
                item.fail(error or RuntimeError("no page"))
                return
            packs: list[Pack] = []
            size = 0
            for entry in page:
                size += len(entry.payload)
                if packs and size > PAGE_BYTES:
                    break
                packs.append(pack_of(entry))
            item.answer(HistoryMsgPullResp(error_code=SUCCESS, session_id=session, msgs=packs))

        return done

    # ---- 19

    @handles(HOTSESSION_SYNC, batch=True)
    def _hot_sessions(self, items: list[Item]) -> None:
        for item in items:
            after = max(0, item.message.timestamp)
            self._store.sessions.recent(item.origin.user, after, HOT_SESSIONS + 1, self._recent(item, after))

    def _recent(self, item: Item, after: int) -> Any:
        def done(found: list[tuple[str, int]] | None, clock: int, error: Exception | None) -> None:
            if found is None:
                item.fail(error or RuntimeError("no sessions"))
                return
            more = len(found) > HOT_SESSIONS
            found = found[:HOT_SESSIONS]
            newest = found[-1][1] if found else after
            cursor = newest if more else max(after, min(newest, clock - SETTLED_US))
            self._store.sessions.overview(item.origin.user, found, self._seen(item, cursor, more))

        return done

    def _seen(self, item: Item, cursor: int, more: bool) -> Any:
        def done(sessions: Sequence[Overview] | None, error: Exception | None) -> None:
            if sessions is None:
                item.fail(error or RuntimeError("no sessions"))
                return
            rows = [
                HotSessionItem(
                    session_id=s.session, read_seq_id=s.read_seq, unread_count=s.unread,
                    last_msgs=[pack_of(s.newest)], attribute="{}",
                )
                for s in sessions
                if s.newest is not None
            ]  # fmt: skip
            item.answer(HotSessionResp(error_code=MORE if more else SUCCESS, timestamp=cursor, sessions=rows))

        return done

    # ---- 20

    @handles(HIGH_PRIOR_MSG_SYNC)
    def _priority(self, item: Item) -> MsgHighPrioritySyncResp:
        message = item.message
        count = PRIORITY_MAX if message.count <= 0 else min(message.count, PRIORITY_MAX)
        page = self._store.priority.page(item.origin.user, max(0, message.seq_id), count, PAGE_BYTES)
        msgs = [MSGPACK.decode(i) if isinstance(i, bytes) else pack_of(i) for i in page.items]
        return MsgHighPrioritySyncResp(error_code=MORE if page.cut else SUCCESS, last_seq_id=page.cursor, msgs=msgs)
