"""Messages: sent as users and as apps, revoked, replaced, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mesh.contract import BoundMethod
from mesh.errors import AppError
from mesh.loop import Done as Completion
from nodes.contracts import Receipt, Request
from nodes.rest import wire
from nodes.rest.acting import Nodes, origin_of
from nodes.rest.problems import is_open, of_code, problem_of
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.enums import ControlCommand
from packs.flags import COUNTER, HIGH_PRIORITY
from packs.ids import business_members, business_session, single_session
from packs.structs import NO_PUSH_INFO, MsgAck, MsgControl, MsgReq, PushInfo
from packs.table import MSG_CTRL, MSG_GROUP_CHAT, MSG_SINGLE_CHAT
from webapi.api import unique
from webapi.exchange import ApiError
from webapi.gather import gather
from webapi.routes import Call, route

AT_ONCE = 64
"""Messages of one request that are under way at once: its node has others to serve."""


class Messages:
    """Routes of messages."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    @route("POST", "/v1/messages", scope="messages:write", status=201, tag="messages", errors=(422,),
           summary="Send a message")  # fmt: skip
    def send(self, call: Call, body: wire.Message) -> wire.Sent:
        """As a user (`from`) or as an app (`app`), to one user (`to`) or a group (`group`)."""
        (outcome,) = self._send_all(call, [body])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @route("POST", "/v1/messages/batch", scope="messages:write", tag="messages", errors=(422,),
           summary="Send up to 1,000 messages")  # fmt: skip
    def batch(self, call: Call, body: wire.Messages) -> wire.SendResults:
        """Each has its own result. Those of one sender to one session keep their order."""
        return self._results(call, self._send_all(call, body.messages))

    @route("POST", "/v1/messages/broadcast", scope="messages:write", tag="messages", errors=(422,),
           summary="Send one message to up to 1,000 users")  # fmt: skip
    def broadcast(self, call: Call, body: wire.Broadcast) -> wire.SendResults:
        """Each recipient has his own result, in the order given."""
        if len(set(body.to)) != len(body.to):
            raise ApiError(422, "param", "a user is there twice", field="to")
        messages = [
            wire.Message(
                sender=body.sender, app=body.app, to=user, content=body.content, content_type=body.content_type,
                push=body.push, unread=body.unread, high_priority=body.high_priority,
            )
            for user in body.to
        ]  # fmt: skip
        return self._results(call, self._send_all(call, messages))

    @route("POST", "/v1/sessions/{session}/messages/{seq_id}/revoke", scope="messages:write", tag="messages",
           errors=(422,), summary="Revoke a message")  # fmt: skip
    def revoke(self, call: Call, session: wire.SessionId, seq_id: wire.SeqId, body: wire.Operator) -> wire.Done:
        """As its sender, which of a notice is the app, within the system's window, or as the owner of the group."""
        return self._control(call, session, seq_id, body.operator, ControlCommand.REVOKE)

    @route("PUT", "/v1/sessions/{session}/messages/{seq_id}/content", scope="messages:write", tag="messages",
           errors=(422,), summary="Replace the content of a message")  # fmt: skip
    def override(self, call: Call, session: wire.SessionId, seq_id: wire.SeqId, body: wire.Override) -> wire.Done:
        """As its sender, which of a notice is the app, within the system's window, or as the owner of the group."""
        return self._control(call, session, seq_id, body.operator, ControlCommand.OVERRIDE, body.content)

    @route("DELETE", "/v1/sessions/{session}/messages/{seq_id}", scope="messages:write", tag="messages", errors=(422,),
           summary="Delete a message for everybody")  # fmt: skip
    def delete(self, call: Call, session: wire.SessionId, seq_id: wire.SeqId, query: wire.OperatorQuery) -> wire.Done:
        """As its sender, which of a notice is the app, or as the owner of the group."""
        try:
            return self._control(call, session, seq_id, query.operator, ControlCommand.DELETE)
        except ApiError as error:
            if call.again and error.status == 404:
                return wire.Done()  # the first try did it
            raise

    def _control(
        self, call: Call, session: str, seq_id: int, operator: str, command: ControlCommand, content: str = ""
    ) -> wire.Done:
        app, user = business_members(session) or ("", "")
        if operator == app:  # the sender of a notice; over HTTP anybody may be an app, as he may be any user
            notice = self._nodes.message(call, user, session, seq_id)
            request = unique(call.seed, f"{MSG_CTRL} ")
            self._nodes.msgop.control_notice(app, user, seq_id, notice.pack_id, command.value, content, request)
            return wire.Done()
        found = self._nodes.message(call, operator, session, seq_id)
        asked = MsgControl(command=command, session_id=session, pack_id=found.pack_id, seq_id=seq_id, content=content)
        self._nodes.ask(call, operator, MSG_CTRL, asked)
        return wire.Done()

    @staticmethod
    def _results(call: Call, outcomes: Sequence[wire.Sent | Exception]) -> wire.SendResults:
        results = [_result(outcome) for outcome in outcomes]
        call.open = any(is_open(result.status) for result in results)
        return wire.SendResults(results)

    # ---- sending

    def _send_all(self, call: Call, messages: Sequence[wire.Message]) -> list[wire.Sent | Exception]:
        """Send messages, `AT_ONCE` at a time; the outcome of each. Blocks this greenlet."""
        outcomes = gather(messages, AT_ONCE, partial(self._start, call))
        return [sent if error is None else error for sent, error in outcomes]

    def _start(self, call: Call, n: int, message: wire.Message, came: Completion) -> None:
        """Begin to send one. On the hub."""
        pack_id = unique(call.seed, f"message {n}")
        flags = COUNTER * message.unread | HIGH_PRIORITY * message.high_priority
        _check(message)
        if message.app is not None:
            self._start_notice(message, flags, pack_id, came)
        else:
            self._start_chat(call, message, flags, pack_id, came)

    def _start_notice(self, message: wire.Message, flags: int, pack_id: str, came: Completion) -> None:
        app, to, push = message.app or "", message.to or "", message.push or wire.Push()

        def answered(receipt: Receipt | None, error: Exception | None) -> None:
            if receipt is None:
                came(None, error)
            elif receipt.code:
                came(None, of_code(receipt.code))
            else:
                came(wire.Sent(pack_id, business_session(app, to), receipt.seq_id, receipt.timestamp), None)

        notify: Any = self._nodes.chat.notify
        args = (app, to, message.content, message.content_type, flags, (push.title, push.summary, push.url), pack_id)
        _call(notify, args, answered)

    def _start_chat(self, call: Call, message: wire.Message, flags: int, pack_id: str, came: Completion) -> None:
        sender, push = message.sender or "", message.push
        kind = MSG_SINGLE_CHAT if message.group is None else MSG_GROUP_CHAT
        to = message.to or message.group or ""
        session = to if message.group is not None else single_session(sender, to)
        shown = NO_PUSH_INFO if push is None else PushInfo(title=push.title, summary=push.summary, url=push.url)
        payload = encode_payload(
            MsgReq(
                to=to, content=message.content, content_type=message.content_type, push_info=shown,
                mentions=message.mentions,
            )
        )  # fmt: skip
        origin = origin_of(call, sender)
        request = Request(kind, flags, pack_id, payload)

        def answered(response: bytes | None, error: Exception | None) -> None:
            if response is None:
                came(None, error)
                return
            ack = decode_payload(MsgAck, response)
            code = ack.error_code.code
            if code in (Code.SUCCESS, Code.MSG_REPEATED):
                came(wire.Sent(pack_id, ack.session_id, ack.seq_id, ack.timestamp), None)
            else:
                came(None, AppError(code, ack.error_code.desc, ack.error_code.retry_after))

        _call(self._nodes.ordered(kind), (session, origin.connection, origin, request), answered)


def _call(method: BoundMethod, args: tuple[Any, ...], done: Completion) -> None:
    method.caller.start(method.service, method.method, args, done)


def _check(message: wire.Message) -> None:
    """What the schema cannot say. Raises `ApiError` 422."""
    if (message.sender is None) == (message.app is None):
        raise ApiError(422, "param", "either from or app", field="from")
    if (message.to is None) == (message.group is None):
        raise ApiError(422, "param", "either to or group", field="to")
    if message.app is not None and message.group is not None:
        raise ApiError(422, "param", "an app writes to users, not to groups", field="group")


def _result(outcome: wire.Sent | Exception) -> wire.SendResult:
    if isinstance(outcome, wire.Sent):
        return wire.SendResult(201, outcome)
    error = outcome if isinstance(outcome, ApiError) else problem_of(outcome)
    if error is None:
        raise outcome
    return wire.SendResult(error.status, error=error.problem())
