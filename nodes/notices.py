"""Business notices (16): what an app tells users, from other nodes and over HTTP, never from a client.

A notice is stored, published and answered like any message (`nodes/messages.py`), in the session `BM_<app>_<user>` that
only the user reads, unless he has blocked the app. There is no pack of a client to answer, so `Notice` stands for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mesh.dispatch import Incoming
from mesh.errors import AppError
from mesh.node import batch
from nodes.contracts import Notices, Origin, Receipt, Request
from nodes.messages import Draft, MessageNode
from nodes.packs import Item
from packs.codec import PayloadError, encode_payload
from packs.codes import Code
from packs.ids import business_session, is_pack_id, is_user_id
from packs.structs import NO_PUSH_INFO, MsgReq, Payload, PushInfo
from packs.table import MSG_BIZ_NOTIFY

MAX_RECIPIENTS = 1_000
"""Users in one call: they are stored before others get their turn."""

Done = Callable[[Receipt | None, Exception | None], None]


class Notice(Item):
    """A notice to one user, to be answered once."""

    __slots__ = ("_done",)

    def __init__(self, incoming: Incoming, app: str, flags: int, pack_id: str, message: MsgReq, done: Done) -> None:
        origin = Origin(app, 0, "", "", "", others=False)  # no connection: all devices of the user are told
        request = Request(MSG_BIZ_NOTIFY, flags, pack_id, encode_payload(message))
        super().__init__(incoming, business_session(app, message.to), origin, request, message)
        self._done = done

    @property
    def resent_by_broker(self) -> bool:
        return False

    def answer(self, response: Payload) -> None:
        repeated = response.error_code.code == Code.MSG_REPEATED  # type: ignore[attr-defined]
        self._done(Receipt(0, response.seq_id, response.timestamp, repeated), None)  # type: ignore[attr-defined]

    def refuse(self, code: int, text: str = "", retry_after: int = 0) -> None:
        self._done(None, AppError(code, text, retry_after))

    def fail(self, error: Exception) -> None:
        if isinstance(error, AppError | PayloadError):
            super().fail(error)
        else:
            self._done(None, error)


class NoticeNode(MessageNode, Notices):
    """A message node that takes notices too."""

    def store_checked(self, drafts: list[Draft]) -> None:
        """Store drafts, once it is known that their recipients exist."""
        raise NotImplementedError

    @batch(Notices.notify)
    def _notify(self, calls: Sequence[Incoming]) -> None:
        drafts: list[Draft] = []
        for call in calls:
            app, to, *rest = call.args

            def done(receipt: Receipt | None, error: Exception | None, call: Incoming = call) -> None:
                if receipt is None:
                    call.fail(error or RuntimeError("no receipt"))
                else:
                    call.reply(receipt)

            drafts += self._drafts(call, app, (to,), rest, [done])
        self.store_checked(drafts)

    @batch(Notices.notify_many)
    def _notify_many(self, calls: Sequence[Incoming]) -> None:
        for call in calls:
            app, users, *rest = call.args
            if not 1 <= len(users) <= MAX_RECIPIENTS or len(set(users)) != len(users):
                call.fail(AppError(Code.PARAM, f"1 to {MAX_RECIPIENTS} different users"))
                continue
            self.store_checked(self._drafts(call, app, users, rest, _collect(call, len(users))))

    def _drafts(
        self, call: Incoming, app: str, users: Sequence[str], rest: Sequence[object], done: Sequence[Done]
    ) -> list[Draft]:
        """One draft for each user, but for those that are refused."""
        content, content_type, flags, push_info, pack_id = rest
        assert isinstance(pack_id, str) and isinstance(flags, int) and isinstance(push_info, tuple)
        bad = "appId" if not is_user_id(app) else "packId" if not is_pack_id(pack_id) else ""
        title, summary, url = push_info
        shown = PushInfo(title=title, summary=summary, url=url) if any(push_info) else NO_PUSH_INFO
        drafts = []
        for user, finish in zip(users, done, strict=True):
            if bad or not is_user_id(user):
                finish(None, AppError(Code.PARAM, f"bad {bad or 'user id'}"))
                continue
            message = MsgReq(
                sender=app, to=user, push_info=shown, content_type=content_type, content=content  # type: ignore[arg-type]
            )
            draft = self.draft(Notice(call, app, flags, pack_id, message, finish), user)
            if draft is not None:
                drafts.append(draft)
        return drafts


def _collect(call: Incoming, count: int) -> list[Done]:
    """Completions of the notices of one call; the last one answers it."""
    receipts: list[Receipt | None] = [None] * count
    missing = count

    def finish(n: int, receipt: Receipt | None, error: Exception | None) -> None:
        nonlocal missing
        if receipt is None:
            code = error.code if isinstance(error, AppError) else Code.UNAVAILABLE
            receipt = Receipt(int(code), 0, 0, False)
        receipts[n] = receipt
        missing -= 1
        if not missing:
            call.reply(tuple(receipts))

    def completion(n: int) -> Done:
        return lambda receipt, error: finish(n, receipt, error)

    return [completion(n) for n in range(count)]
