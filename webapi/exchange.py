"""What a request and an answer are."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

JSON_TYPE = "application/json"
_encode = msgspec.json.Encoder().encode

REASONS = {status.value: status.phrase for status in HTTPStatus}


class Head(NamedTuple):
    """A request without its body. Header names are lower case; the target's parts are as they were sent."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    peer: str
    """Address of the other side."""
    length: int
    """Bytes of the body as announced; -1 when it comes in chunks."""


class Request(NamedTuple):
    """A whole request. `admitted` is what the application made of its head."""

    head: Head
    admitted: Any
    body: bytes
    keep_alive: bool


class Answer(NamedTuple):
    """An answer: `body` is sent as it is."""

    status: int
    body: bytes = b""
    type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


class ApiError(Exception):
    """A refusal. `code` is for programs, `message` for people; `retry_after` in seconds, 0 for none."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: float = 0,
        headers: tuple[tuple[str, str], ...] = (), **details: Any,
    ) -> None:  # fmt: skip
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers = headers
        self.retry_after = retry_after

    def problem(self, request_id: str = "") -> Problem:
        """What is said of it."""
        return Problem(self.code, self.message, request_id, self.details)


class Problem(msgspec.Struct, omit_defaults=True):
    """What went wrong. `code` is for programs, `message` for people."""

    code: str
    message: str
    request_id: str = ""
    """Names the request in our logs."""
    details: dict[str, Any] = {}
    """`field`: what in the request it is about; others as documented."""


class ErrorBody(msgspec.Struct):
    """The body of every answer that is no success."""

    error: Problem


def json_answer(status: int, value: Any, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer with `value` as JSON."""
    return Answer(status, _encode(value), JSON_TYPE, headers)


def error_answer(error: ApiError, request_id: str) -> Answer:
    """The answer that a refusal becomes."""
    problem = error.problem(request_id)
    headers = (("X-Request-Id", request_id), *error.headers)
    if error.retry_after > 0:
        headers = (*headers, ("Retry-After", str(max(1, int(error.retry_after + 0.999)))))
    return json_answer(error.status, ErrorBody(problem), headers)


Admit = Callable[[Head], Any]
"""On the hub: what to make of a head. Raises `ApiError` to refuse it unread."""
Handle = Callable[[Request, Callable[[Answer], None]], None]
"""On the hub: begin to answer; the completion is called on the hub, exactly once."""
