"""How a request becomes the act of a user: as a pack of a connection of his, which the nodes check as they do any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mesh.contract import BoundMethod
from mesh.errors import AppError
from nodes.contracts import Groups, Notices, Origin, Packs, Request, User
from nodes.contracts_notices import NoticeControls
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.pack import Pack
from packs.structs import CommonErrorCode, HistoryMsgPullReq, HistoryMsgPullResp, MsgReq, Payload
from packs.table import HISTORY_MSG_PULL, TABLE, route_key
from webapi.api import unique
from webapi.exchange import ApiError
from webapi.routes import Call

P = TypeVar("P")
NO_DEVICE = 0


class Nodes:
    """What routes reach other nodes by; None for what the topology lacks."""

    def __init__(
        self, packs: Callable[[str], Packs | None], user: User | None, group: Groups | None, chat: Notices | None,
        msgop: NoticeControls | None,
    ) -> None:  # fmt: skip
        self._packs: dict[str, Any] = {kind: packs(kind) for kind in ("chat", "group", "history", "msgop", "user")}
        self._user, self._group, self._chat, self._msgop = user, group, chat, msgop

    @property
    def user(self) -> User:
        return there(self._user)

    @property
    def group(self) -> Groups:
        return there(self._group)

    @property
    def chat(self) -> Notices:
        return there(self._chat)

    @property
    def msgop(self) -> NoticeControls:
        return there(self._msgop)

    def ordered(self, pack_type: int) -> BoundMethod:
        """How messages of a type are handed to their node."""
        found: BoundMethod = self._of(pack_type).ordered
        return found

    def ask(self, call: Call, user: str, pack_type: int, message: Payload, what: str = "") -> Any:
        """Do as `user` what a pack of this type asks; the response. Raises `AppError` and `CallError`.

        `what` tells several acts of one request apart.
        """
        payload = encode_payload(message)
        key = route_key(pack_type, payload, user)
        request = Request(pack_type, 0, unique(call.seed, f"{pack_type} {what}"), payload)
        answered = self._of(pack_type).handle(key, origin_of(call, user), request)
        struct = TABLE[pack_type].response
        assert struct is not None
        response: Any = decode_payload(struct, answered)
        error: CommonErrorCode = response if isinstance(response, CommonErrorCode) else response.error_code
        if error.code not in (Code.SUCCESS, Code.HOT_SESSION_MORE, Code.MSG_REPEATED):
            raise AppError(error.code, error.desc, error.retry_after)
        return response

    def message(self, call: Call, user: str, session: str, seq_id: int) -> Pack:
        """A message that `user` may read. Raises `ApiError` 404."""
        asked = HistoryMsgPullReq(session_id=session, seq_id=seq_id, count=1)
        found: HistoryMsgPullResp = self.ask(call, user, HISTORY_MSG_PULL, asked)
        for pack in found.msgs:
            if _seq_of(pack) == seq_id:
                return pack
        raise ApiError(404, "msg_not_found", "there is no such message")

    def _of(self, pack_type: int) -> Any:
        owner = TABLE[pack_type].owner
        assert owner is not None
        return there(self._packs[owner])


def origin_of(call: Call, user: str) -> Origin:
    """The connection that a request stands for: nobody's, so that all devices of the user hear of it."""
    return Origin(user, NO_DEVICE, "", f"http/{call.request_id}", call.peer, others=True)


def _seq_of(pack: Pack) -> int:
    return decode_payload(MsgReq, pack.payload).seq_id


def there(node: P | None) -> P:
    """The node. Raises `ApiError` 503 when the topology lacks it."""
    if node is None:
        raise ApiError(503, "unavailable", "this system has no node for it")
    return node
