"""Messages that were taken for delivered and may not have been.

A connection may be dead for a minute before anybody knows. What came for its user meanwhile was not pushed, because he
seemed to be there. So when the last broker gives up the topic of a user (or of his phones), what is unread in his
sessions since he was last heard from is pushed after all, a notice for each session. Who logged out wants no pushes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from mesh.loop import now, wait_for
from nodes import publications, push_settings
from nodes.push_recipients import EVERYBODY, Notice, Recipients, notice_of
from packs.codec import decode_payload
from packs.errors import PayloadError
from packs.flags import COUNTER
from packs.structs import MsgReq
from packs.table import MSG_GROUP_CHAT
from store.entries import REVOKED, Entry
from store.errors import StoreError
from store.recent import Recent
from store.sessions import Overview

if TYPE_CHECKING:
    from mesh.fanout import Fanout
    from mesh.log import Log
    from nodes.push_feed import Feed
    from nodes.push_settings import PushSettings
    from store.hot import HotStore

SETTLE_SECONDS = 3.0
"""Who reconnects within that was not away."""
UNHEARD_MS = 60_000
"""How long ago a connection may have died of which nobody told anything: two heartbeats, and some."""
LATELY_MS = 300_000
"""Connections that ended before that have been looked at."""
SESSIONS = 200
MENTIONS_MAX = 200
"""Messages of a large group among which mentions are looked for."""
MARGIN_US = 2_000_000
"""By how much the stamp of a session may be older than its newest message."""
LOOK_SECONDS = 0.25


class Missed:
    """Looks again after users whose connections ended."""

    def __init__(
        self, store: HotStore, fanout: Fanout, recipients: Recipients, feed: Feed, settings: PushSettings, log: Log
    ) -> None:
        self._store = store
        self._recipients = recipients
        self._feed = feed
        self._settings = settings
        self._log = log
        self._gone: dict[str, float] = {}  # user -> when to look
        self._stopping = False
        for prefix in (publications.USER, publications.MOBILE):
            fanout.observe(prefix, self._moved)

    def _moved(self, user: str, holders: int) -> None:
        if not holders:
            self._gone.setdefault(user, now() + SETTLE_SECONDS)

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until `stop`; in a greenlet."""
        fresh = True
        while not self._stopping:
            gevent.sleep(LOOK_SECONDS)
            if (not self._gone and not fresh) or not self._recipients.complete:
                continue
            try:
                if not self._recipients.wanted():
                    self._gone.clear()
                    continue
                if fresh:
                    for user in self._store.devices.left_since(int(time.time() * 1000) - LATELY_MS):
                        self._gone.setdefault(user, now())
                    fresh = False
                self._look()
            except StoreError as error:
                self._log.warning("sessions cannot be read for pushes", error=error)

    def _look(self) -> None:
        clock = now()
        for user in [user for user, due in self._gone.items() if due <= clock]:
            if self._recipients.is_away(user):
                notices = self._notices(user)
                if notices:
                    self._recipients.queue(notices)
            self._gone.pop(user, None)

    def _notices(self, user: str) -> list[Notice]:
        """What he has not read since he was last heard from."""
        if not self._store.registrations.targets([(user, "")])[0]:
            return []
        clock = int(time.time() * 1000)
        ended = [
            d for d in self._store.devices.of(user) if not d.logged_out and (not d.left or d.left > clock - LATELY_MS)
        ]
        if not ended:
            return []
        since = 1000 * min(device.left or clock - UNHEARD_MS for device in ended)
        found: Recent = wait_for(
            lambda done: self._store.recent.read(user, since - MARGIN_US, SESSIONS, done)
        )  # fmt: skip
        overviews: list[Overview] = wait_for(
            lambda done: self._store.sessions.overview(user, found.sessions, done, attributed=False)
        )
        return [notice for o in overviews if (notice := self._notice(user, o, since)) is not None]

    def _notice(self, user: str, overview: Overview, since: int) -> Notice | None:
        entry = overview.newest
        if isinstance(entry, int):
            return None  # it lies in the archive: those that came since are deleted
        expires = entry.seq / 1e6 + self._settings.ttl
        if not overview.unread or entry.seq <= since or expires <= time.time() or not entry.flags & COUNTER:
            return None
        if self._recipients.was_pushed(user, overview.session, entry.seq):
            return None
        if self._feed.holds(overview.session, user, entry.seq):
            return None  # it came after he had gone
        try:
            message = decode_payload(MsgReq, entry.payload)
        except PayloadError:
            return None
        if message.sender == user or entry.state & REVOKED:
            return None
        if entry.type == MSG_GROUP_CHAT and not self._may_hear(user, overview.session, since):
            return None
        return notice_of(
            overview.session, entry, message, count=overview.unread, user=user, expires=expires
        )  # fmt: skip

    def _may_hear(self, user: str, group: str, since: int) -> bool:
        """Whether what came in a group since then is pushed to him."""
        policy = self._recipients.policy(group)
        if policy != push_settings.MENTIONS:
            return policy != push_settings.OFF
        return any(_mentions(user, entry) for entry in self._store.unread.after(group, since, MENTIONS_MAX))


def _mentions(user: str, entry: Entry) -> bool:
    try:
        mentions = decode_payload(MsgReq, entry.payload).mentions
    except PayloadError:
        return False
    return user in mentions or EVERYBODY in mentions
