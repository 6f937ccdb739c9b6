"""Requests under way, each with one completion; no I/O, the clock is an argument."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

from client.errors import NotAnswered, Refused
from packs import structs as s
from packs.codec import decode_payload
from packs.codes import Code
from packs.errors import PayloadError
from packs.pack import Pack
from packs.table import payload_struct

Done = Callable[[Any, Exception | None], None]
"""Called once with (result, None) or (None, error)."""


class Waiter:
    """A completion that a thread waits for."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._outcome: tuple[Any, Exception | None] = (None, None)

    def __call__(self, result: Any, error: Exception | None) -> None:
        self._outcome = (result, error)
        self._ready.set()

    def get(self, timeout: float | None, what: str) -> Any:
        """The result within `timeout` seconds, or its error; `NotAnswered` when there is none yet."""
        if not self._ready.wait(timeout):
            raise NotAnswered(f"{what}: no answer within {timeout} s")
        result, error = self._outcome
        if error is not None:
            raise error
        return result


class Requests:
    """By packId. `add` may be called from any thread, the rest by the reader."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, Done, float]] = {}  # packId -> (type, completion, deadline)

    def add(self, pack_type: int, done: Done, deadline: float) -> str:
        """A request that is about to be sent; its packId."""
        pack_id = str(uuid.uuid4())
        self._waiting[pack_id] = (pack_type, done, deadline)
        return pack_id

    def answered(self, pack: Pack) -> None:
        """Complete the request that `pack` answers, if it is still waited for."""
        pack_type, done, _ = self._waiting.pop(pack.pack_id, (0, None, 0.0))
        if done is None:
            return
        try:
            response: Any = decode_payload(payload_struct(pack_type, response=True), pack.payload)
        except PayloadError as error:
            done(None, NotAnswered(f"the answer cannot be read: {error}"))
            return
        outcome = response if isinstance(response, s.CommonErrorCode) else response.error_code
        if outcome.code in (Code.SUCCESS, Code.HOT_SESSION_MORE):
            done(response, None)
        else:
            done(None, Refused(outcome.code, outcome.desc, outcome.retry_after))

    def expire(self, time: float) -> None:
        """Fail those whose deadline has passed."""
        for pack_id, (_, done, deadline) in list(self._waiting.items()):
            if time > deadline and self._waiting.pop(pack_id, None) is not None:
                done(None, NotAnswered("no answer in time"))

    def fail_all(self, error: Exception) -> None:
        """The connection is gone."""
        waiting, self._waiting = self._waiting, {}
        for _, done, _ in waiting.values():
            done(None, error)
