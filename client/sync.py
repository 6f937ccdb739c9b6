"""Being up to date: which sessions have news, pages of history for what is missing, and what must not be missed.

Runs on the reader's thread.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from client.errors import Refused
from client.events import HOW, Changed, Message, Missed
from client.inbox import Inbox, Pull
from client.requests import OUTCOME_UNKNOWN, Ask
from client.store import HOT, PRIORITY, Kept
from packs import structs as s
from packs import table as t
from packs.codec import decode_payload
from packs.codes import Code
from packs.pack import Pack

PAGE = 200
"""Messages of one page; the server gives no more."""
CATCH_UP = 10_000
"""Messages of one session that are fetched for a gap at most; older ones are left in the history (`Missed` says so)."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 0.5, 10.0
"""Pause after a failed sync, doubled each time, with full jitter."""


class Sync:
    """Feeds an inbox."""

    def __init__(
        self, inbox: Inbox, kept: Kept, ask: Ask, unsent: Callable[[], set[str]], tell: Callable[[Missed], None]
    ) -> None:
        """`kept`: of a former run. `unsent`: packIds of our messages whose ack is still to come."""
        self.cursors = {HOT: kept.cursors.get(HOT, 0), PRIORITY: kept.cursors.get(PRIORITY, 0)}
        self.tried = False  # whether any sync has come to its end, good or bad
        self._inbox = inbox
        self._ask = ask
        self._unsent = unsent
        self._tell = tell
        self._queues = [_Asking(self._ask_for_sessions), _Asking(self._ask_for_priority)]
        # Who never was here reads everything as it is now: changes of former days are news to nobody.
        self._quiet = not kept.cursors and not kept.positions
        self._random = random.Random()

    def begin(self, now: float) -> None:
        """There may be news: a new connection, or the server says so."""
        for queue in self._queues:
            queue.due = now

    def tick(self, now: float) -> None:
        """Ask what is due to be asked."""
        for queue in self._queues:
            if queue.due is not None and now >= queue.due and not queue.under_way:
                queue.due = None
                queue.under_way = True
                queue.ask(queue)
        for pull in self._inbox.pulls(now):
            self._page(pull, pull.top, [])

    def _failed(self, queue: _Asking) -> None:
        queue.under_way = False
        queue.failures += 1
        limit = min(RETRY_SECONDS * 2**queue.failures, RETRY_SECONDS_MAX)
        queue.due = time.monotonic() + self._random.uniform(RETRY_SECONDS / 2, limit)

    @staticmethod
    def _succeeded(queue: _Asking) -> None:
        queue.under_way = False
        queue.failures = 0

    # ---- recent sessions

    def _ask_for_sessions(self, queue: _Asking) -> None:
        def done(response: s.HotSessionResp, error: Exception | None) -> None:
            if error is not None:
                self.tried = True
                self._failed(queue)
            else:
                self._sessions(response, queue)

        self._ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=self.cursors[HOT]), done)

    def _sessions(self, response: s.HotSessionResp, queue: _Asking) -> None:
        now = time.monotonic()
        for item in response.sessions:
            if item.last_msgs:
                newest = message_of(item.last_msgs[0], "history").seq_id
                self._inbox.hot(item.session_id, newest, item.read_seq_id, now)
        self.cursors[HOT] = response.timestamp
        if response.error_code.code == Code.HOT_SESSION_MORE:
            self._ask_for_sessions(queue)
            return
        self._succeeded(queue)
        self._inbox.synced(now)
        self.tried = True

    # ---- what must not be missed

    def _ask_for_priority(self, queue: _Asking) -> None:
        def done(response: s.MsgHighPrioritySyncResp, error: Exception | None) -> None:
            if isinstance(error, Refused) and error.code not in OUTCOME_UNKNOWN:
                self._succeeded(queue)  # a server without it
            elif error is not None:
                self._failed(queue)
            else:
                self._priorities(response, queue)

        cursor = self.cursors[PRIORITY]
        self._ask(t.HIGH_PRIOR_MSG_SYNC, s.MsgHighPrioritySyncReq(seq_id=cursor, count=PAGE), done)

    def _priorities(self, response: s.MsgHighPrioritySyncResp, queue: _Asking) -> None:
        now = time.monotonic()
        for pack in response.msgs:
            if pack.type != t.MSG_CTRL:
                self._inbox.offer(message_of(pack, "history"), now)
            elif (change := change_of(pack)) is not None:
                self._inbox.control(change, now, quiet=self._quiet)
        cut = response.error_code.code == Code.HOT_SESSION_MORE or len(response.msgs) >= PAGE
        more = cut and response.last_seq_id > self.cursors[PRIORITY]
        self.cursors[PRIORITY] = response.last_seq_id
        if more:
            self._ask_for_priority(queue)
        else:
            self._succeeded(queue)
            self._quiet = False

    # ---- gaps

    def _page(self, pull: Pull, top: int, so_far: list[Message]) -> None:
        """Fetch pages from `top` down to the floor of `pull`."""

        def done(response: s.HistoryMsgPullResp, error: Exception | None) -> None:
            now = time.monotonic()
            if isinstance(error, Refused) and error.code not in OUTCOME_UNKNOWN:
                self._inbox.page(pull, [], set(), now)  # what is not ours to read leaves no gap
                return
            if error is not None:
                self._inbox.failed(pull, now)
                return
            page = [message_of(pack, "history") for pack in response.msgs]
            so_far.extend(m for m in page if m.seq_id > pull.floor)
            if page and page[-1].seq_id > pull.floor and page[-1].prev_seq_id > pull.floor:
                if len(so_far) < CATCH_UP:
                    self._page(pull, page[-1].seq_id - 1, so_far)
                    return
                self._tell(Missed(0, pull.session, so_far[-1].seq_id))
            self._inbox.page(pull, so_far, self._unsent(), now)

        self._ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=pull.session, seq_id=top, count=PAGE), done)


class _Asking:
    """One thing that is asked for from time to time."""

    def __init__(self, ask: Callable[[_Asking], None]) -> None:
        self.ask = ask
        self.due: float | None = None
        self.under_way = False
        self.failures = 0


def message_of(pack: Pack, via: str) -> Message:
    """A message pack as the program gets it. Raises `PayloadError`."""
    m = decode_payload(s.MsgReq, pack.payload)
    return Message(
        m.session_id, m.seq_id, m.prev_seq_id, m.timestamp, m.sender, m.to, m.content, m.content_type, pack.flags,
        pack.pack_id, via, tuple(m.mentions),
    )  # fmt: skip


def change_of(pack: Pack) -> Changed | None:
    """A control pack as the program gets it; None for a command that we do not know. Raises `PayloadError`."""
    c = decode_payload(s.MsgControl, pack.payload)
    how = HOW.get(c.command)
    if how is None:
        return None
    return Changed(c.session_id, c.seq_id, c.pack_id, how, c.content, c.operator_id, c.timestamp, pack.pack_id)
