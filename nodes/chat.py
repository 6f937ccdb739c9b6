"""The chat node: single chats. What messages have in common is in `nodes/messages.py`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec

from nodes import hot, publications, words
from nodes.auth import AuthSettings
from nodes.messages import Draft
from nodes.notices import NoticeNode
from nodes.packs import Item, handles
from packs.codes import Code
from packs.flags import HIGH_PRIORITY
from packs.table import MSG_BIZ_NOTIFY, MSG_SINGLE_CHAT
from store.priority import message_item
from store.sessions import Stored


class ChatSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [node.chat]."""

    require_friend: bool = False
    """Whether single chat needs friendship (code 50)."""
    max_payload: int = 65_536
    """Bytes of a message's payload, at most (code 41)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not 1024 <= self.max_payload <= 600_000:
            yield "max_payload", "must be from 1024 to 600000"


class ChatNode(NoticeNode):
    """Single chat, type 14, and business notices, type 16."""

    Settings = ChatSettings
    sections = {**hot.SECTIONS, **words.SECTIONS, "auth": AuthSettings}
    words_of = words.SINGLE

    def start(self) -> None:
        super().start()
        self.needs_friends = self.settings.require_friend
        self._accounts_only = self.section("auth").mode == "password"
        self._known: set[str] = set()  # accounts that were seen; they are never unmade
        self._unknown: dict[str, list[Draft]] = {}  # to whom -> drafts that wait for the look-up, in order

    @handles(MSG_SINGLE_CHAT, batch=True)
    def _send(self, items: list[Item]) -> None:
        drafts = []
        for item in items:
            to = item.message.to
            draft = self.draft(item, to if to != item.origin.user else "")
            if draft is not None:
                drafts.append(draft)
        self.store_checked(drafts)

    def store_checked(self, drafts: list[Draft]) -> None:
        self.save(self._of_accounts(drafts) if self._accounts_only else drafts)

    def _of_accounts(self, drafts: list[Draft]) -> list[Draft]:
        """Those to known accounts; the others wait together, in order, until their account is looked up."""
        ready = []
        for draft in drafts:
            if draft.to in self._known:
                ready.append(draft)
            elif draft.to in self._unknown:
                self._unknown[draft.to].append(draft)
            else:
                self._unknown[draft.to] = [draft]
                self._store.users.exists(draft.to, partial(self._looked_up, draft.to))
        return ready

    def _looked_up(self, user: str, exists: bool | None, error: Exception | None) -> None:
        drafts = self._unknown.pop(user)
        if exists:
            self._known.add(user)
            self.save(drafts)
            return
        for draft in drafts:
            if error is not None:
                draft.item.fail(error)
            else:
                draft.item.refuse(Code.PARAM, "no such user")

    def users(self, item: Item) -> tuple[str, ...]:
        return (item.message.to,) if item.request.type == MSG_BIZ_NOTIFY else (item.message.to, item.origin.user)

    def publish_stored(self, draft: Draft, outcome: Stored) -> None:
        holders = self.process.fanout.holders
        item, sender, to = draft.item, draft.message.sender, draft.to
        if item.request.flags & HIGH_PRIORITY:
            self._store.priority.add([(to, message_item(draft.message.session, outcome.seq))])
        own, peer = publications.USER + sender, publications.USER + to
        notice = item.request.type == MSG_BIZ_NOTIFY  # an app is no user and has no devices
        # Without other devices, nobody but the sending connection listens to `own`.
        to_own = not notice and (item.origin.others or holders(own) > 1)
        to_peer = (notice or to != sender) and holders(peer) > 0
        if not (to_own or to_peer):
            return
        flags, payload = self.body(draft, outcome)
        body = publications.delivery(item.origin.connection, item.request.type, flags, item.request.pack_id, payload)
        if to_peer:
            self.publish(peer, body)
        if to_own:
            self.publish(own, body)
