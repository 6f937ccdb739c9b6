"""Being up to date: which sessions have news, and pages of history for what is missing. Runs on the reader's thread."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from client.errors import Refused
from client.inbox import Inbox, Message, Pull
from client.requests import Done
from packs import structs as s
from packs import table as t
from packs.codec import decode_payload
from packs.codes import Code
from packs.pack import Pack

PAGE = 200
"""Messages of one page; the server gives no more."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 0.5, 10.0
"""Pause after a failed sync, doubled each time, with full jitter."""
OUTCOME_UNKNOWN = frozenset((Code.UNAVAILABLE, Code.REFUSED, Code.EXCEPTION))
"""After these codes a request is to be made again; every other one is final."""


class Sync:
    """Feeds an inbox."""

    def __init__(
        self, inbox: Inbox, cursor: int, ask: Callable[[int, s.Payload, Done], None], unsent: Callable[[], set[str]]
    ) -> None:
        """`cursor`: of a former run, 0 for none. `unsent`: packIds of our messages whose ack is still to come."""
        self.cursor = cursor
        self.tried = False  # whether any sync has come to its end, good or bad
        self._inbox = inbox
        self._ask = ask
        self._unsent = unsent
        self._due: float | None = None
        self._under_way = False
        self._failures = 0
        self._random = random.Random()

    def begin(self, now: float) -> None:
        """There may be news: a new connection, or the server says so."""
        self._due = now

    def tick(self, now: float) -> None:
        """Ask what is due to be asked."""
        if self._due is not None and now >= self._due and not self._under_way:
            self._ask_for_sessions()
        for pull in self._inbox.pulls(now):
            self._page(pull, pull.top, [])

    def _ask_for_sessions(self) -> None:
        def done(response: s.HotSessionResp, error: Exception | None) -> None:
            self._under_way = False
            now = time.monotonic()
            if error is not None:
                self.tried = True
                self._failures += 1
                limit = min(RETRY_SECONDS * 2**self._failures, RETRY_SECONDS_MAX)
                self._due = now + self._random.uniform(RETRY_SECONDS / 2, limit)
                return
            self._failures = 0
            self._sessions(response, now)

        self._due = None
        self._under_way = True
        self._ask(t.HOTSESSION_SYNC, s.HotSessionReq(timestamp=self.cursor), done)

    def _sessions(self, response: s.HotSessionResp, now: float) -> None:
        for item in response.sessions:
            if item.last_msgs:
                newest = message_of(item.last_msgs[0], "history").seq_id
                self._inbox.hot(item.session_id, newest, item.read_seq_id, now)
        self.cursor = response.timestamp
        if response.error_code.code == Code.HOT_SESSION_MORE:
            self._ask_for_sessions()
        else:
            self._inbox.synced(now)
            self.tried = True

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
                self._page(pull, page[-1].seq_id - 1, so_far)
                return
            self._inbox.page(pull, so_far, self._unsent(), now)

        self._ask(t.HISTORY_MSG_PULL, s.HistoryMsgPullReq(session_id=pull.session, seq_id=top, count=PAGE), done)


def message_of(pack: Pack, via: str) -> Message:
    """A message pack as the program gets it. Raises `PayloadError`."""
    m = decode_payload(s.MsgReq, pack.payload)
    return Message(
        m.session_id, m.seq_id, m.prev_seq_id, m.timestamp, m.sender, m.to, m.content, m.content_type, pack.flags,
        pack.pack_id, via,
    )  # fmt: skip
