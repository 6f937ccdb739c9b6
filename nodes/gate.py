"""Asking another system before a message is stored (`[hooks.before_send]`).

    save(drafts) -> one draft of a session at a time is asked about -> stored, changed and stored, or refused

What comes behind it in its session waits, other sessions do not. What was decided on a message is kept
(`store/events.py`), so a message that is sent again gets the same answer, and is found to be stored already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from mesh.contract import start
from mesh.errors import AppError, Overloaded
from nodes.contracts_hooks import Draft as Asked
from nodes.contracts_hooks import Hooks, Verdict
from nodes.hook_settings import REFUSE, BeforeSend
from nodes.rest.sessions import KINDS
from packs.codes import Code

if TYPE_CHECKING:
    from nodes.messages import Draft

MAX_WAITING = 10_000
"""Messages of one node that wait; more are refused (code 7)."""


class Gate:
    """Of one node. `change` puts another content into a draft, False when it is too long; `store` takes drafts that may
    be stored, in order."""

    def __init__(
        self, hooks: Hooks, settings: BeforeSend, change: Callable[[Draft, str], bool],
        store: Callable[[list[Draft]], None],
    ) -> None:  # fmt: skip
        self._hooks = hooks
        self._refuses = settings.on_failure == REFUSE
        self._change = change
        self._store = store
        self._behind: dict[str, deque[Draft]] = {}  # session -> what waits behind the one that is asked about
        self.waiting = 0

    def take(self, drafts: Sequence[Draft]) -> None:
        """Ask about drafts, in order. On the hub."""
        for draft in drafts:
            if self.waiting >= MAX_WAITING:
                draft.item.fail(Overloaded("too many messages wait for another system"))
                continue
            self.waiting += 1
            behind = self._behind.get(draft.message.session)
            if behind is not None:
                behind.append(draft)
            else:
                self._behind[draft.message.session] = deque()
                self._ask(draft)

    def _ask(self, draft: Draft) -> None:
        message, m = draft.message, draft.item.message
        digest = blake2b(digest_size=16)
        for part in (message.session, message.sender, message.pack_id):
            digest.update(part.encode() + b"\0")
        digest.update(draft.payload)
        asked = Asked(
            digest.hexdigest(), message.pack_id, message.session, message.sender, draft.to,
            KINDS.get(draft.item.request.type, "single"), m.content, m.content_type, tuple(m.mentions),
        )  # fmt: skip
        start(self._hooks.before_send, lambda verdict, error: self._said(draft, verdict, error), asked)

    def _said(self, draft: Draft, verdict: Verdict | None, error: Exception | None) -> None:
        self.waiting -= 1
        try:
            self._judge(draft, verdict, error)
        finally:
            behind = self._behind[draft.message.session]
            if behind:
                self._ask(behind.popleft())
            else:
                del self._behind[draft.message.session]

    def _judge(self, draft: Draft, verdict: Verdict | None, error: Exception | None) -> None:
        if verdict is None:
            if isinstance(error, AppError):
                draft.item.fail(error)
            elif self._refuses:
                draft.item.refuse(Code.REFUSED, "it cannot be checked now", 1000)
            else:
                self._store([draft])
        elif not verdict.allowed:
            draft.item.refuse(Code.MSG_FORBIDDEN, verdict.reason)
        else:
            if verdict.content and not self._change(draft, verdict.content):
                draft.item.refuse(Code.MSG_TOO_LONG)
                return
            self._store([draft])
