"""The routes of the system that imesh follows, for callers written for it: its paths, its JSON, always by POST or GET.

Its mistakes are mended: the content of a message arrives, an outcome is told when it is known, `success` says what is
so, the status is 200 only then, and a repeat with the same `traceId` is done once. Answers have its form,
`{"code", "success", "message"}`, and refusals also the `error` of all other routes; a request that gets to no node is
refused as everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mesh.errors import AppError
from nodes.contracts import Notices, Request
from nodes.rest import wire
from nodes.rest.acting import Nodes, origin_of
from nodes.rest.problems import problem_of
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.flags import COUNTER, HIGH_PRIORITY
from packs.ids import business_session, canonical_session, single_session
from packs.structs import MsgAck, MsgReq, PushInfo
from packs.table import MSG_GROUP_CHAT, MSG_SINGLE_CHAT
from webapi.exchange import Answer, json_answer
from webapi.routes import Call, route

TAG = "classic"
TraceId = Annotated[str, Meta(pattern=r"^[!-~]{1,64}$")]


class Wish(msgspec.Struct, rename="camel"):
    """Base of requests. As ever, unknown fields are ignored."""

    trace_id: TraceId


class SimpleMsg(Wish, kw_only=True):
    """A business notice. `from` is kept for old callers; the sender is the app."""

    app_id: wire.UserId
    sender: Annotated[str, Meta(min_length=1)] = msgspec.field(name="from")
    to: wire.UserId
    content: wire.Content
    session_id: str = ""
    content_type: wire.Int32 = 1
    push_title: str = ""
    push_summary: str = ""


class ComplexMsg(Wish, kw_only=True):
    """Any message: `type` 14 of a user to a user, 15 of a user to a group, 16 of an app to a user."""

    type: Annotated[int, Meta(ge=14, le=16)]
    sender: wire.UserId = msgspec.field(name="from")
    to: wire.UserId
    content: wire.Content
    content_type: wire.Int32 = 1
    counter: bool = True
    high_priority: bool = False
    push_title: str = ""
    push_summary: str = ""
    push_url: str = ""


class SyncMsg(Wish, kw_only=True):
    """A sync command."""

    app_id: Annotated[str, Meta(min_length=1)]
    users: wire.Users
    command: wire.Int32 = 0
    content: Annotated[str, Meta(max_length=4096)] = ""


class FriendWish(Wish, kw_only=True):
    """Two users."""

    user_id: wire.UserId
    friend_id: wire.UserId


class UserWish(Wish, kw_only=True):
    """A user."""

    user_id: wire.UserId


class Classic:
    """The five routes and the complex message."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @route("POST", "/msg/sendsimplemsg", scope="messages:write", tag=TAG, any_type=True, errors=(422,),
           summary="A business notice")  # fmt: skip
    def simple(self, call: Call, body: SimpleMsg) -> Answer:
        session = business_session(body.app_id, body.to)
        if body.session_id and canonical_session(body.session_id) != session:
            return _failed(call, AppError(Code.PARAM, "sessionId does not belong to appId and to"))
        push = (body.push_title, body.push_summary, "")
        return self._notify(call, body.app_id, body.to, body.content, body.content_type, COUNTER, push, body.trace_id)

    @route("POST", "/msg/sendcomplexmsg", scope="messages:write", tag=TAG, any_type=True, errors=(422,),
           summary="A message of any kind")  # fmt: skip
    def complex(self, call: Call, body: ComplexMsg) -> Answer:
        flags = COUNTER * body.counter | HIGH_PRIORITY * body.high_priority
        push = (body.push_title, body.push_summary, body.push_url)
        if body.type not in (MSG_SINGLE_CHAT, MSG_GROUP_CHAT):
            return self._notify(call, body.sender, body.to, body.content, body.content_type, flags, push, body.trace_id)
        title, summary, url = push
        payload = encode_payload(
            MsgReq(
                to=body.to, content=body.content, content_type=body.content_type,
                push_info=PushInfo(title=title, summary=summary, url=url),
            )
        )  # fmt: skip
        session = body.to if body.type == MSG_GROUP_CHAT else single_session(body.sender, body.to)
        origin, request = origin_of(call, body.sender), Request(body.type, flags, body.trace_id, payload)
        ordered: Any = self._nodes.ordered(body.type)
        try:
            ack = decode_payload(MsgAck, ordered(session, origin.connection, origin, request))
        except Exception as error:
            return _failed(call, error)
        code = ack.error_code.code
        if code not in (Code.SUCCESS, Code.MSG_REPEATED):
            return _failed(call, AppError(code, ack.error_code.desc, ack.error_code.retry_after))
        return _done()

    @route("POST", "/msg/sendsyncmsg", scope="sync:write", tag=TAG, any_type=True, errors=(422,),
           summary="A sync command")  # fmt: skip
    def sync(self, call: Call, body: SyncMsg) -> Answer:
        try:
            self._nodes.user.sync(tuple(body.users), body.command, body.content, body.trace_id)
        except Exception as error:
            return _failed(call, error)
        return _done()

    @route("POST", "/friend/add", scope="friends:write", tag=TAG, any_type=True, errors=(422,), summary="Make friends")
    def add(self, call: Call, body: FriendWish) -> Answer:
        try:
            self._nodes.user.add_friends(body.user_id, ((body.friend_id, ""),))
        except Exception as error:
            return _failed(call, error)
        return _done()

    @route("POST", "/friend/del", scope="friends:write", tag=TAG, any_type=True, errors=(422,),
           summary="End a friendship")  # fmt: skip
    def delete(self, call: Call, body: FriendWish) -> Answer:
        try:
            self._nodes.user.delete_friends(body.user_id, (body.friend_id,))
        except Exception as error:
            return _failed(call, error)
        return _done()

    @route("POST", "/friend/get", scope="friends:read", tag=TAG, any_type=True, mutating=False, errors=(422,),
           summary="The friends of a user")  # fmt: skip
    def friends(self, call: Call, body: UserWish) -> Answer:
        try:
            found = self._nodes.user.friends(body.user_id)
        except Exception as error:
            return _failed(call, error)
        rows = [{"userId": body.user_id, "friendId": friend} for friend, _ in found]
        return json_answer(200, {"code": 0, "success": True, "message": "", "data": rows})

    def _notify(
        self,
        call: Call,
        app: str,
        to: str,
        content: str,
        content_type: int,
        flags: int,
        push: tuple[str, str, str],
        pack_id: str,
    ) -> Answer:
        chat: Notices = self._nodes.chat
        try:
            receipt = chat.notify(app, to, content, content_type, flags, push, pack_id)
        except Exception as error:
            return _failed(call, error)
        return _done() if receipt.code == 0 else _failed(call, AppError(receipt.code))


def _done() -> Answer:
    return json_answer(200, {"code": 0, "success": True, "message": "success"})


def _failed(call: Call, error: Exception) -> Answer:
    """A refusal in the form of old, with the error as everywhere else beside it. Raises what is a bug of ours."""
    problem = problem_of(error)
    if problem is None:
        raise error
    number = problem.details.get("number", int(Code.UNAVAILABLE))
    body = {"code": number, "success": False, "message": problem.message, "error": problem.problem(call.request_id)}
    return json_answer(problem.status, body)
