"""`Idempotency-Key`: a request that is repeated with its key and body is done once and answered alike.

A record is made before the handler runs and completed with its answer. While it is incomplete, a repeat runs the
handler again: all that handlers do is derived from `Call.seed`, which is the same then, so it is found to be done
already. Answers that leave the outcome of something open (429, 5xx, `Call.open`) complete nothing.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Protocol

import msgspec

from webapi.exchange import Answer, ApiError, Head

MAX_KEY = 128
_KEY = re.compile(r"[!-~]{1,128}").fullmatch
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, bytes, str, tuple[tuple[str, str], ...]]).decode

NEW, SAME, OTHER, LATE, BEGUN = range(5)
"""What there is of a record: nothing; a complete one; that of another request; an incomplete one so old that what it
did is not recognised any more; an incomplete one."""


class Records(Protocol):
    """Where records are kept. In a greenlet."""

    def begin(self, record: str, digest: bytes) -> tuple[int, bytes]:
        """The state of a record, and the answer that is kept; it is there from now on."""
        ...

    def complete(self, record: str, answer: bytes) -> bytes:
        """Keep an answer unless there is one; the one that is kept."""
        ...


class Repeatable:
    """One request with an `Idempotency-Key`."""

    def __init__(self, records: Records, caller: str, key: str, head: Head, body: bytes) -> None:
        """Raises `ApiError` 400 for a malformed key."""
        if _KEY(key) is None:
            raise ApiError(400, "bad_request", f"Idempotency-Key has 1 to {MAX_KEY} visible ASCII characters",
                           field="Idempotency-Key")  # fmt: skip
        self._records = records
        self._record = blake2b(f"{caller}\0{key}".encode(), digest_size=16).hexdigest()
        self._digest = blake2b(b"\0".join((head.method.encode(), head.path.encode(), head.query.encode(), body)),
                               digest_size=16).digest()  # fmt: skip
        self.seed = self._record.encode()
        self.again = False
        """Known after `before`: a first try may have done something already."""

    def before(self) -> Answer | None:
        """The answer of the first time, if there is one. Raises `ApiError` 409 when it was another request."""
        found, kept = self._records.begin(self._record, self._digest)
        self.again = found == BEGUN
        if found == OTHER:
            raise ApiError(409, "idempotency_conflict", "this Idempotency-Key was used for another request",
                           field="Idempotency-Key")  # fmt: skip
        if found == LATE:
            raise ApiError(409, "idempotency_expired", "the first try is too long ago, and its outcome was not noted",
                           field="Idempotency-Key")  # fmt: skip
        return _replayed(kept) if found == SAME else None

    def after(self, answer: Answer, is_open: bool) -> Answer:
        """Keep the answer unless it leaves something open; the one to give."""
        if is_open or answer.status == 429 or answer.status >= 500:
            return answer
        mine = _encode((answer.status, answer.body, answer.type, answer.headers))
        kept = self._records.complete(self._record, mine)
        return answer if kept == mine else _replayed(kept)


def _replayed(kept: bytes) -> Answer:
    status, body, kind, headers = _decode(kept)
    return Answer(status, body, kind, (*headers, ("Idempotency-Replayed", "true")))
