"""The history node: recent sessions (19), what must not be missed (20) and pages of a session (21)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mesh.loop import Later
from nodes import hot
from nodes.archived import OneHistory
from nodes.contracts import Archive
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
from store import entries
from store.entries import Entry
from store.recent import Recent
from store.sessions import TOUCH_SECONDS, Overview

HOT_SESSIONS = 100
"""Sessions in one answer to 19."""
PRIORITY_MAX = 200
"""Items in one answer to 20, and how many when none are asked for."""
PAGE_DEFAULT, PAGE_MAX = 30, 200
PAGE_BYTES = 100_000
"""Payload bytes in one page, so that it fits a frame in every codec (JSON may write a byte as six)."""
ENTRIES_AT_ONCE = 5
"""Messages in one answer of the archive, however long they are: it fits a message of the mesh."""
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
    olap: Archive | None

    def start(self) -> None:
        self._store = hot.opened(self.process)
        self._history = OneHistory(self._store, self.olap)

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
            self._history.page(session, message.seq_id, count, done, member=user if group else "")

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
        def listed(found: Recent | None, error: Exception | None) -> None:
            if found is None:
                item.fail(error or RuntimeError("no sessions"))
                return
            seen = self._seen(item, after, found, patient)

            def read(overviews: list[Overview] | None, error: Exception | None) -> None:
                if overviews is None:
                    seen(None, error)
                else:
                    self._history.complete(overviews, seen)

            self._store.sessions.overview(item.origin.user, found.sessions, read, attributed=found.attributed)

        self._store.recent.read(item.origin.user, after, HOT_SESSIONS, listed)

    def _seen(self, item: Item, after: int, found: Recent, patient: bool) -> Any:
        def done(overviews: Sequence[Overview] | None, error: Exception | None) -> None:
            if overviews is None:
                item.fail(error or RuntimeError("no sessions"))
                return
            fitting = _fitting(overviews)
            more, reach = found.more, found.reach
            if len(fitting) < len(overviews):
                more, reach = True, fitting[-1].stamp
            if more and reach > found.clock - RESTED_US:
                # A full page's cursor may only pass stamps that are moved by whatever happens next in their session.
                page = [row for row in found.sessions if row[1] <= reach]
                rested = [stamp for _, stamp in page if stamp <= found.clock - RESTED_US]
                if rested:
                    reach = rested[-1]
                    fitting = [s for s in fitting if s.stamp <= reach]
                elif patient:
                    Later(RESTED_SECONDS, self._read_recent, item, after, False)
                    return
                else:
                    self._note_again(item.origin.user, page)
            cursor = max(after, reach if more else min(reach, found.clock - SETTLED_US))
            rows = [
                HotSessionItem(
                    session_id=s.session, read_seq_id=s.read_seq, unread_count=s.unread,
                    last_msgs=[pack_of(_newest(s))], attribute=_json(s.attributes) if s.attributes else "{}",
                )
                for s in sorted(fitting, key=_newest_seq)
            ]  # fmt: skip
            item.answer(HotSessionResp(error_code=MORE if more else SUCCESS, timestamp=cursor, sessions=rows))

        return done

    def _note_again(self, user: str, page: list[tuple[str, int]]) -> None:
        """A page full of sessions that never rest: have them come again with later stamps."""
        Later(RESTED_SECONDS, self._store.sessions.touch, [(user, session) for session, _ in page])

    # ---- 20

    @handles(HIGH_PRIOR_MSG_SYNC)
    def _priority(self, item: Item) -> MsgHighPrioritySyncResp:
        message = item.message
        count = PRIORITY_MAX if message.count <= 0 else min(message.count, PRIORITY_MAX)
        page = self._store.priority.page(item.origin.user, max(0, message.seq_id), count, PAGE_BYTES, self._archived)
        msgs = [MSGPACK.decode(i) if isinstance(i, bytes) else pack_of(i) for i in page.items]
        return MsgHighPrioritySyncResp(error_code=MORE if page.cut else SUCCESS, last_seq_id=page.cursor, msgs=msgs)


    def _archived(self, wanted: list[tuple[str, int]]) -> list[Entry | None]:
        """Messages that Redis has no more."""
        found: list[Entry | None] = []
        for i in range(0, len(wanted), ENTRIES_AT_ONCE):
            some = tuple(wanted[i : i + ENTRIES_AT_ONCE])
            replies = self.olap.entries(some) if self.olap is not None else (b"",) * len(some)
            found += [entries.parse(entry) if entry else None for entry in replies]
        return found


def _json(attributes: dict[str, str]) -> str:
    return _encode_json(attributes).decode()


def _newest_seq(overview: Overview) -> int:
    """Pages are cut by stamps, which are coarse; in a page the newest message tells the order."""
    return _newest(overview).seq


def _newest(overview: Overview) -> Entry:
    """The newest message of a session, wherever it lies: `OneHistory.complete` saw to it."""
    assert isinstance(overview.newest, Entry)
    return overview.newest


def _fitting(overviews: Sequence[Overview]) -> Sequence[Overview]:
    """Those from the start, at least one, that fit a page; never some of an equal stamp without the others."""
    size = 0
    for n, overview in enumerate(overviews):
        newest = _newest(overview)
        size += len(newest.payload) + (len(newest.content.encode()) if newest.content else 0)
        if overview.attributes:
            size += len(_json(overview.attributes))
        if n and size > PAGE_BYTES:
            stamp = overview.stamp
            return [o for o in overviews[:n] if o.stamp < stamp] or [o for o in overviews if o.stamp == stamp]
    return overviews
