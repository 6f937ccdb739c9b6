"""The history node: recent sessions (19), what must not be missed (20) and pages of a session (21)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mesh.loop import Later
from nodes import hot
from nodes.monitoring import MonitoringNode
from nodes.packs import Item, handles
from nodes.reading import may_read, pack_of
from packs.codec import MSGPACK
from packs.codes import Code, describe
from packs.ids import canonical_session, is_group_id
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
from store.profiles import SESSION
from store.recent import Recent
from store.sessions import TOUCH_SECONDS, Overview

HOT_SESSIONS = 100
"""Sessions in one answer to 19."""
PRIORITY_MAX = 200
"""Items in one answer to 20, and how many when none are asked for."""
PAGE_DEFAULT, PAGE_MAX = 30, 200
PAGE_BYTES = 100_000
"""Payload bytes in one page, so that it fits a frame in every codec (JSON may write a byte as six)."""
SETTLED_US = 5_000_000
"""Stamps this close to the present may still be joined by lower ones, so a last page's cursor stays below."""
RESTED_SECONDS = 1.5 * TOUCH_SECONDS
RESTED_US = int(RESTED_SECONDS * 1_000_000)
"""Activity right after a stamp does not move it; activity this much later does."""
_encode_json = msgspec.json.Encoder().encode

MORE = CommonErrorCode(code=Code.HOT_SESSION_MORE, desc=describe(Code.HOT_SESSION_MORE))


class HistoryNode(MonitoringNode):
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
                continue
            group = is_group_id(session)  # whether he is in it is asked where the page is read
            if not group and not may_read(user, session):
                item.refuse(Code.HISTORY_DENIED)
                continue
            count = PAGE_DEFAULT if message.count <= 0 else min(message.count, PAGE_MAX)
            done = self._paged(item, session)
            self._store.sessions.page(session, message.seq_id, count, done, member=user if group else "")

    def _paged(self, item: Item, session: str) -> Any:
        def done(page: list[Entry] | None, error: Exception | None) -> None:
            if error is not None:
                item.fail(error)
                return
            if page is None:
                item.refuse(Code.HISTORY_DENIED)
                return
            packs: list[Pack] = []
            size = 0
            for entry in page:
                pack = pack_of(entry)
                size += len(pack.payload)
                if packs and size > PAGE_BYTES:
                    break
                packs.append(pack)
            item.answer(HistoryMsgPullResp(error_code=SUCCESS, session_id=session, msgs=packs))

        return done

    # ---- 19

    @handles(HOTSESSION_SYNC, batch=True)
    def _hot_sessions(self, items: list[Item]) -> None:
        for item in items:
            after = max(0, item.message.timestamp)
            self._read_recent(item, after)

    def _read_recent(self, item: Item, after: int, patient: bool = True) -> None:
        self._store.recent.read(item.origin.user, after, HOT_SESSIONS, self._recent(item, after, patient))

    def _recent(self, item: Item, after: int, patient: bool) -> Any:
        def done(found: Recent | None, error: Exception | None) -> None:
            if found is None:
                item.fail(error or RuntimeError("no sessions"))
                return
            if found.more and found.reach > found.clock - RESTED_US:
                # A full page's cursor may only pass stamps that are moved by whatever happens next in their session.
                rested = [row for row in found.sessions if row[1] <= found.clock - RESTED_US]
                if rested:
                    found = found._replace(sessions=rested, reach=rested[-1][1])
                elif patient:
                    Later(RESTED_SECONDS, self._read_recent, item, after, False)
                    return
                else:
                    self._note_again(item.origin.user, found.sessions)
            settled = found.reach if found.more else min(found.reach, found.clock - SETTLED_US)
            self._overview(item, found.sessions, max(after, settled), found.more)

        return done

    def _overview(self, item: Item, sessions: list[tuple[str, int]], cursor: int, more: bool) -> None:
        def attributed(attributes: list[dict[str, str]] | None, error: Exception | None) -> None:
            if attributes is None:
                item.fail(error or RuntimeError("no attributes"))
                return
            seen = self._seen(item, cursor, more, dict(zip(names, attributes, strict=True)))
            self._store.sessions.overview(item.origin.user, sessions, seen)

        names = [session for session, _ in sessions]
        self._store.profiles.start_attributes(SESSION, item.origin.user, names, attributed)

    def _note_again(self, user: str, page: list[tuple[str, int]]) -> None:
        """A page full of sessions that never rest: have them come again with later stamps."""
        Later(RESTED_SECONDS, self._store.sessions.touch, [(user, session) for session, _ in page])

    def _seen(self, item: Item, cursor: int, more: bool, attributes: dict[str, dict[str, str]]) -> Any:
        def done(sessions: Sequence[Overview] | None, error: Exception | None) -> None:
            if sessions is None:
                item.fail(error or RuntimeError("no sessions"))
                return
            rows = [
                HotSessionItem(
                    session_id=s.session, read_seq_id=s.read_seq, unread_count=s.unread,
                    last_msgs=[pack_of(s.newest)], attribute=_json(attributes[s.session]),
                )
                for s in sorted(sessions, key=_newest_seq)
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


def _json(attributes: dict[str, str]) -> str:
    return _encode_json(attributes).decode() if attributes else "{}"


def _newest_seq(overview: Overview) -> int:
    """Pages are cut by stamps, which are coarse; in a page the newest message tells the order."""
    return overview.newest.seq
