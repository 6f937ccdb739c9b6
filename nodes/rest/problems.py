"""What the errors of nodes mean over HTTP."""

from __future__ import annotations

from mesh.errors import AppError, CallError, Overloaded, Unreachable
from packs.codes import Code, describe
from packs.errors import PayloadError
from store.errors import StoreError
from webapi.exchange import ApiError

STATUSES: dict[int, int] = {
    Code.PARAM: 422, Code.SENSITIVE_WORD: 422, Code.MSG_TOO_SHORT: 422, Code.MSG_TOO_LONG: 422, Code.MSG_FORMAT: 422,
    Code.MSG_COMMAND: 422, Code.REFUSED: 429, Code.CONN_DENIED: 403, Code.MSG_FORBIDDEN: 403, Code.HISTORY_DENIED: 403,
    Code.NOT_GROUP_MEMBER: 403, Code.GROUP_NO_PRIVILEGE: 403, Code.GROUP_NOT_OWNER: 403, Code.NOT_FRIENDS: 403,
    Code.BLOCKED: 403, Code.GROUP_NOT_FOUND: 404, Code.MSG_NOT_FOUND: 404, Code.GROUP_MEMBER_LIMIT: 409,
}  # fmt: skip
"""Code -> status; the outcome of every other code is unknown or open: 503."""
RETRY_SECONDS = 1.0


def problem_of(error: Exception) -> ApiError | None:
    """What a caller is told of an error of a node or a store; None for one that is nobody's but ours."""
    if isinstance(error, AppError):
        return of_code(error.code, error.text, error.retry_after)
    if isinstance(error, PayloadError):
        return of_code(error.code, error.desc)
    if isinstance(error, Unreachable | Overloaded):
        return ApiError(503, "unavailable", "nothing was done: try again", retry_after=RETRY_SECONDS, done="no")
    if isinstance(error, CallError | StoreError):
        text = "the outcome is unknown: repeat the request with the same Idempotency-Key"
        return ApiError(503, "unavailable", text, retry_after=RETRY_SECONDS, done="unknown")
    return None


def is_open(status: int) -> bool:
    """Whether a repeat may end otherwise: of an answer, or of an item in one."""
    return status == 429 or status >= 500


def of_code(code: int, text: str = "", retry_after: int = 0) -> ApiError:
    """The refusal that a code of the protocol becomes. `retry_after` in ms."""
    status = STATUSES.get(code, 503)
    seconds = retry_after / 1000 or (RETRY_SECONDS if status in (429, 503) else 0)
    try:
        name = Code(code).name.lower()
    except ValueError:
        name = "unknown"
    return ApiError(status, name, text or describe(code), retry_after=seconds, number=int(code))
