"""Messages of sessions, for the nodes that store them: check, save, publish, acknowledge, in this order.

    class Chat(MessageNode):
        @handles(14, batch=True)
        def _send(self, items): self.save([d for item in items if (d := self.draft(item, peer))])
        def publish_stored(self, draft, outcome): ...        # who hears of it

All messages of a turn are one script call (of at most `BATCH`). What is cut off after it by a crash is done again for
the resend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from zlib import crc32

from mesh.contract import start
from mesh.errors import Overloaded, Timeout
from nodes import hot, monitoring, publications, words
from nodes.contracts import Archive, Repeat
from nodes.contracts_hooks import Hooks
from nodes.gate import Gate
from nodes.packs import Item, PackNode
from packs.codes import Code, describe
from packs.flags import COUNTER, DUP, HIGH_PRIORITY
from packs.ids import canonical_session
from packs.message import stored_payload, with_numbers
from packs.structs import SUCCESS, CommonErrorCode, MsgAck
from store import entries
from store.errors import StoreError
from store.sessions import (
    ASK,
    BATCH,
    BEHIND,
    BLOCKED,
    CHANGED,
    CONFLICT,
    MEMBERS_ONLY,
    NO_GROUP,
    NOT_FRIENDS,
    NOT_MEMBER,
    REPEATED,
    STORED,
    Message,
    Stored,
)

KEPT_FLAGS = COUNTER | HIGH_PRIORITY
"""Header flags of a message that are stored; the others belong to the request or to the server."""
REPEATED_CODE = CommonErrorCode(code=Code.MSG_REPEATED, desc=describe(Code.MSG_REPEATED))

_REFUSALS = {
    CONFLICT: (Code.PARAM, "this packId was used for another message"),
    NOT_FRIENDS: (Code.NOT_FRIENDS, ""),
    BLOCKED: (Code.BLOCKED, ""),
    NO_GROUP: (Code.GROUP_NOT_FOUND, ""),
    NOT_MEMBER: (Code.NOT_GROUP_MEMBER, ""),
}


class Draft:
    """A checked message on its way into the store."""

    __slots__ = ("item", "message", "payload", "to")

    def __init__(self, item: Item, to: str, payload: bytes, message: Message) -> None:
        self.item = item
        self.to = to
        self.payload = payload
        self.message = message


class MessageNode(PackNode):
    """Base of the nodes that store messages. Their settings have `max_payload`."""

    words_of: ClassVar[words.Kind]  # whose sensitive words; `words.SECTIONS` are among its sections
    olap: Archive | None
    hooks: Hooks | None
    needs_friends = False  # whether messages with a `peer` are for his friends only
    publishes = True

    def start(self) -> None:
        self._store = hot.opened(self.process)
        self._store.pressure.start()
        self._words = words.checker(self.process.topology, self.words_of)
        self._asking: dict[str, list[Draft]] = {}  # session -> drafts behind one that was sent again
        before_send = self.section("hooks").before_send
        self._gate: Gate | None = None
        if before_send.url and self.hooks is not None:
            self._gate = Gate(self.hooks, before_send, self._change, self._commit)

    def describe(self) -> dict[str, Any]:
        full = self._store.pressure.full
        return {"alarm": f"messages are refused: {full}"} if full else {}

    # ---- for the node to say

    def publish_stored(self, draft: Draft, outcome: Stored) -> None:
        """Publish a stored message to whom it concerns."""
        raise NotImplementedError

    def users(self, item: Item) -> tuple[str, ...]:
        """In whose lists of recent sessions the message is noted."""
        return ()

    # ---- for the node to use

    def draft(self, item: Item, peer: str) -> Draft | None:
        """What can be said without the store; None when the item is refused. `peer`: see `Message`."""
        message, user, request = item.message, item.origin.user, item.request
        if self._store.pressure.full:
            item.fail(Overloaded(self._store.pressure.full))
        elif message.sender and message.sender != user:
            item.refuse(Code.CONN_DENIED, "from is not you")
        elif len(request.payload) > self.settings.max_payload:
            item.refuse(Code.MSG_TOO_LONG)
        elif not message.content:
            item.refuse(Code.MSG_TOO_SHORT)
        elif not self._words.screen(message):
            item.refuse(Code.SENSITIVE_WORD)
        else:
            session, given = item.key, message.session_id
            if given and given != session and canonical_session(given) != session:
                item.refuse(Code.PARAM, "sessionId does not belong to from and to")
                return None
            message.session_id, message.sender, message.status = session, user, 0
            flags = request.flags & KEPT_FLAGS
            payload, crc, tail = _stored_form(item, flags)
            to_group = peer == MEMBERS_ONLY and bool(flags & HIGH_PRIORITY)
            again = self.olap is not None and bool(request.flags & DUP)
            kept = Message(
                session, user, peer, request.pack_id, crc, bool(flags & COUNTER), tail, to_group, again,
                self.users(item),
            )  # fmt: skip
            return Draft(item, message.to, payload, kept)
        return None

    def save(self, drafts: list[Draft]) -> None:
        """Store messages, in order, once whoever is to be asked has been; each is then published and answered."""
        if self._gate is not None:
            self._gate.take(drafts)
        else:
            self._commit(drafts)

    def body(self, draft: Draft, outcome: Stored) -> tuple[int, bytes]:
        """Flags and payload with which a stored message is published."""
        flags = draft.item.request.flags & KEPT_FLAGS | (DUP if outcome.status == REPEATED else 0)
        return flags, with_numbers(draft.payload, outcome.seq, outcome.prev)

    # ---- inside

    def _change(self, draft: Draft, content: str) -> bool:
        """Put another content into a message; False when it is too long then."""
        draft.item.message.content = content
        draft.payload, crc, tail = _stored_form(draft.item, draft.item.request.flags & KEPT_FLAGS)
        draft.message = draft.message._replace(crc=crc, tail=tail)
        return bool(len(draft.payload) <= self.settings.max_payload)

    def _commit(self, drafts: list[Draft]) -> None:
        for shard in self._store.by_session(drafts, _session_of):
            for i in range(0, len(shard), BATCH):
                part = [draft for draft in shard[i : i + BATCH] if not self._waits(draft)]
                if part:
                    self._save(part)

    def _waits(self, draft: Draft) -> bool:
        """Whether a message must wait behind one of its session that may have been stored long ago."""
        waiting = self._asking.get(draft.message.session)
        if waiting is not None:
            waiting.append(draft)
        return waiting is not None

    def _save(self, drafts: list[Draft]) -> None:
        sessions = {draft.message.session for draft in drafts if draft.message.again}
        for session in sessions:
            self._asking[session] = []

        def stored(outcomes: Sequence[Stored] | None, error: Exception | None) -> None:
            if outcomes is None:
                failure = error if isinstance(error, StoreError) else Timeout(str(error))
                for draft in [*drafts, *(draft for session in sessions for draft in self._asking.pop(session))]:
                    draft.item.fail(failure)
                return
            rows = list(zip(drafts, outcomes, strict=True))
            known = [row for row in rows if row[1].status not in (ASK, BEHIND)]
            self._stored([draft for draft, _ in known], [outcome for _, outcome in known])
            for session in sessions:
                behind = [draft for draft, outcome in rows if outcome.status in (ASK, BEHIND)]
                self._settle(session, [draft for draft in behind if draft.message.session == session])

        self._store.sessions.commit([d.message for d in drafts], self.needs_friends, stored)

    def _settle(self, session: str, unknown: list[Draft]) -> None:
        """Go on behind messages that were sent again. Of the first of the `unknown` the archive must be asked whether
        it was stored before: Redis forgets after a while."""
        if not unknown:
            self._commit(self._asking.pop(session))
            return
        self._asking[session][:0] = unknown[1:]
        draft, message = unknown[0], unknown[0].message

        def done(found: Repeat, error: Exception | None) -> None:
            waiting = self._asking.pop(session)
            if error is not None:  # unknown, so nothing may overtake it
                for each in [draft, *waiting]:
                    each.item.fail(error)
            elif found.seq:
                status = CONFLICT if not found.same else CHANGED if found.changed else REPEATED
                self._stored([draft], [Stored(status, found.seq, found.prev, 0)])
                self._commit(waiting)
            else:
                draft.message = message._replace(again=False)
                self._commit([draft, *waiting])

        assert self.olap is not None
        start(self.olap.find, done, session, message.sender, message.pack_id, message.crc)

    def _stored(self, drafts: Sequence[Draft], outcomes: Sequence[Stored]) -> None:
        """Publish, acknowledge; what is cut off here by a crash is done again for the resend."""
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if outcome.status in (STORED, REPEATED):
                self.publish_stored(draft, outcome)
                self._copy_to_listeners(draft, outcome)
        for draft, outcome in zip(drafts, outcomes, strict=True):
            self._acknowledge(draft, outcome)
        self.stats.counts["messages"] += len(drafts)

    def _copy_to_listeners(self, draft: Draft, outcome: Stored) -> None:
        if topic := monitoring.listeners(self, draft.message.session):
            flags, payload = self.body(draft, outcome)
            request = draft.item.request
            skip = draft.item.origin.connection
            self.publish(topic, publications.delivery(skip, request.type, flags, request.pack_id, payload))

    def _acknowledge(self, draft: Draft, outcome: Stored) -> None:
        item = draft.item
        again = outcome.status in (REPEATED, CHANGED)
        if outcome.status == STORED or (again and item.resent_by_broker):
            error_code = SUCCESS
        elif again:
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


def _stored_form(item: Item, flags: int) -> tuple[bytes, bytes, bytes]:
    """Payload, crc and tail of a message as it is stored."""
    request, payload = item.request, stored_payload(item.message)
    crc = crc32(payload, flags).to_bytes(4, "big")
    return payload, crc, entries.tail(request.type, flags, request.pack_id, payload)


def _session_of(draft: Draft) -> str:
    return draft.message.session
