"""The chat node: single chats. Save, publish, acknowledge, in this order; all three in `_send` and `_stored`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from zlib import crc32

import msgspec

from mesh.errors import Timeout
from nodes import hot, publications
from nodes.auth import AuthSettings
from nodes.packs import Item, PackNode, handles
from packs.codes import Code, describe
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from packs.ids import canonical_session
from packs.message import stored_payload, with_numbers
from packs.structs import SUCCESS, CommonErrorCode, MsgAck
from packs.table import MSG_SINGLE_CHAT
from store import entries
from store.errors import StoreError
from store.priority import message_item
from store.sessions import BATCH, BLOCKED, CONFLICT, NOT_FRIENDS, REPEATED, STORED, Message, Stored

KEPT_FLAGS = COUNTER | HIGH_PRIORITY
"""Header flags of a message that are stored; the others belong to the request or to the server."""
REPEATED_CODE = CommonErrorCode(code=Code.MSG_REPEATED, desc=describe(Code.MSG_REPEATED))

_REFUSALS = {
    CONFLICT: (Code.PARAM, "this packId was used for another message"),
    NOT_FRIENDS: (Code.NOT_FRIENDS, ""),
    BLOCKED: (Code.BLOCKED, ""),
}


class ChatSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [node.chat]."""

    require_friend: bool = False
    """Whether single chat needs friendship (code 50)."""
    max_payload: int = 65_536
    """Bytes of a message's payload, at most (code 41)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not 1024 <= self.max_payload <= 600_000:
            yield "max_payload", "must be from 1024 to 600000"


class Draft:
    """A checked message on its way into the store."""

    __slots__ = ("item", "message", "payload", "to")

    def __init__(self, item: Item, to: str, payload: bytes, message: Message) -> None:
        self.item = item
        self.to = to
        self.payload = payload
        self.message = message


class ChatNode(PackNode):
    """Single chat, type 14."""

    Settings = ChatSettings
    sections = {**hot.SECTIONS, "auth": AuthSettings}
    publishes = True

    def start(self) -> None:
        self._store = self.process.shared(hot.hot_store)
        self._store.open()
        self._accounts_only = self.section("auth").mode == "password"
        self._known: set[str] = set()  # accounts that were seen; they are never unmade
        self._unknown: dict[str, list[Draft]] = {}  # to whom -> drafts that wait for the look-up, in order

    @handles(MSG_SINGLE_CHAT, batch=True)
    def _send(self, items: list[Item]) -> None:
        drafts = [d for d in map(self._check, items) if d is not None]
        if self._accounts_only:
            drafts = self._of_accounts(drafts)
        for i in range(0, len(drafts), BATCH):
            self._save(drafts[i : i + BATCH])

    def _check(self, item: Item) -> Draft | None:
        """What can be said without the store; None when the item is refused."""
        message, user, request = item.message, item.origin.user, item.request
        if message.sender and message.sender != user:
            item.refuse(Code.CONN_DENIED, "from is not you")
        elif len(request.payload) > self.settings.max_payload:
            item.refuse(Code.MSG_TOO_LONG)
        elif not message.content:
            item.refuse(Code.MSG_TOO_SHORT)
        else:
            session, given = item.key, message.session_id
            if given and given != session and canonical_session(given) != session:
                item.refuse(Code.PARAM, "sessionId does not belong to from and to")
                return None
            message.session_id, message.sender, message.status = session, user, 0
            payload = stored_payload(message)
            flags = request.flags & KEPT_FLAGS
            crc = crc32(payload, flags).to_bytes(4, "big")
            tail = entries.tail(MSG_SINGLE_CHAT, flags, request.pack_id, payload)
            peer = message.to if message.to != user else ""
            kept = Message(session, user, peer, request.pack_id, crc, bool(flags & COUNTER), tail)
            return Draft(item, message.to, payload, kept)
        return None

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
            for i in range(0, len(drafts), BATCH):
                self._save(drafts[i : i + BATCH])
            return
        for draft in drafts:
            if error is not None:
                draft.item.fail(error)
            else:
                draft.item.refuse(Code.PARAM, "no such user")

    def _save(self, drafts: list[Draft]) -> None:
        def stored(outcomes: Sequence[Stored] | None, error: Exception | None) -> None:
            if outcomes is None:
                for draft in drafts:
                    draft.item.fail(error if isinstance(error, StoreError) else Timeout(str(error)))
            else:
                self._stored(drafts, outcomes)

        self._store.sessions.commit([d.message for d in drafts], self.settings.require_friend, stored)

    def _stored(self, drafts: list[Draft], outcomes: Sequence[Stored]) -> None:
        """Publish, note the activity, acknowledge; what is cut off here by a crash is done again for the resend."""
        activity: dict[tuple[str, str], None] = {}
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if outcome.status in (STORED, REPEATED):
                self._publish(draft, outcome)
                session, sender = draft.message.session, draft.message.sender
                activity[(draft.to, session)] = None
                activity[(sender, session)] = None
        self._store.sessions.touch(list(activity))
        for draft, outcome in zip(drafts, outcomes, strict=True):
            self._acknowledge(draft, outcome)
        self.stats.counts["messages"] += len(drafts)

    def _publish(self, draft: Draft, outcome: Stored) -> None:
        holders = self.process.fanout.holders
        item, sender, to = draft.item, draft.message.sender, draft.to
        if item.request.flags & HIGH_PRIORITY:
            self._store.priority.add([(to, message_item(draft.message.session, outcome.seq))])
        own, peer = publications.USER + sender, publications.USER + to
        to_own = item.origin.others or holders(own) > 1  # without other devices, nobody but the sending connection
        to_peer = to != sender and holders(peer) > 0
        if not (to_own or to_peer):
            return
        flags = item.request.flags & KEPT_FLAGS | (DUP if outcome.status == REPEATED else 0)
        payload = with_numbers(draft.payload, outcome.seq, outcome.prev)
        body = publications.delivery(
            item.origin.connection, MSG_SINGLE_CHAT, flags, item.request.pack_id, payload
        )
        if to_peer:
            self.publish(peer, body)
        if to_own:
            self.publish(own, body)

    def _acknowledge(self, draft: Draft, outcome: Stored) -> None:
        item = draft.item
        if outcome.status == STORED or (outcome.status == REPEATED and item.resent_by_broker):
            error_code = SUCCESS
        elif outcome.status == REPEATED:
            error_code = REPEATED_CODE
        elif outcome.status in _REFUSALS:
            item.refuse(*_REFUSALS[outcome.status])
            return
        else:
            self.log.limited("commit", 10, "a message could not be stored", error=outcome.text)
            item.fail(Timeout(outcome.text))
            return
        item.answer(
            MsgAck(
                error_code=error_code, session_id=draft.message.session, seq_id=outcome.seq,
                timestamp=outcome.seq // 1000, prev_seq_id=outcome.prev,
            )
        )  # fmt: skip
