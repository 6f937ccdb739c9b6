"""The one way to ask the server something: a pack out, one completion.

`ask` calls back; `request` waits, and asks again with the same packId while the outcome is unknown, which is harmless
for every type. Requests that wait survive reconnects that way.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from client.errors import ConnectionLost, NotAnswered, Refused
from packs import structs as s
from packs.codec import decode_payload, encode_payload
from packs.codes import Code
from packs.errors import PayloadError
from packs.flags import DUP
from packs.pack import Pack
from packs.table import TABLE, payload_struct

Done = Callable[[Any, Exception | None], None]
"""Called once with (result, None) or (None, error)."""

ANSWER_SECONDS = 6.0
"""The server answers within 5 s; later than this an answer will not come."""
REQUEST_SECONDS = 15.0
"""How long `request` tries, unless told otherwise."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 0.1, 1.0
"""Pause before a request is made again, doubled each time, with full jitter."""
OUTCOME_UNKNOWN = frozenset((Code.UNAVAILABLE, Code.REFUSED, Code.EXCEPTION))
"""After these codes a request is to be made again; every other one is final."""


class Request(Protocol):
    """What subjects (groups, friends, …) are given to ask with."""

    def __call__(self, pack_type: int, payload: s.Payload | None = None, timeout: float = REQUEST_SECONDS) -> Any:
        """The answer. Raises `Refused`, `ConnectionLost` or `NotAnswered`."""
        ...


class Ask(Protocol):
    """`Requests.ask`."""

    def __call__(self, pack_type: int, payload: s.Payload | None, done: Done) -> None: ...


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
            raise NotAnswered(f"{what}: no answer within {timeout:g} s")
        result, error = self._outcome
        if error is not None:
            raise error
        return result


class Requests:
    """By packId. `ask` and `request` may be called from any thread, the rest by the reader."""

    def __init__(self, send: Callable[[int, bytes, str, int], bool], over: threading.Event | None = None) -> None:
        """`send(type, payload, packId, flags)` is False when there is no connection; `over`: there will be none."""
        self._send = send
        self.over = over or threading.Event()
        self.reader: threading.Thread | None = None  # the thread that answers come on
        self._waiting: dict[str, tuple[int, Done, float]] = {}  # packId -> (type, completion, deadline)

    def ask(
        self, pack_type: int, payload: s.Payload | None, done: Done, pack_id: str = "", flags: int = 0
    ) -> None:  # fmt: skip
        """Ask once; `done` is called on the reader's thread, or here when there is no connection."""
        pack_id = pack_id or str(uuid.uuid4())
        self._waiting[pack_id] = (pack_type, done, time.monotonic() + ANSWER_SECONDS)
        sent = self._send(pack_type, encode_payload(payload or s.Empty()), pack_id, flags)
        if not sent and self._waiting.pop(pack_id, None) is not None:
            done(None, ConnectionLost("not connected"))

    def request(self, pack_type: int, payload: s.Payload | None = None, timeout: float = REQUEST_SECONDS) -> Any:
        """Ask until it is answered; `timeout` in seconds.

        Raises `Refused`, `ConnectionLost`, `NotAnswered`; and `RuntimeError` in a callback, because the answer would
        come on the thread that waits for it.
        """
        name = TABLE[pack_type].name if pack_type in TABLE else f"type {pack_type}"
        if threading.current_thread() is self.reader:
            raise RuntimeError(f"{name}: a callback may not wait for an answer; take messages() or events() instead")
        pack_id, flags, pause = str(uuid.uuid4()), 0, RETRY_SECONDS
        limit = time.monotonic() + timeout
        while True:
            waiter = Waiter()
            self.ask(pack_type, payload, waiter, pack_id, flags)
            try:
                return waiter.get(max(0.0, limit - time.monotonic()), name)
            except Refused as error:
                if error.code not in OUTCOME_UNKNOWN:
                    raise
                wait, last = error.retry_after / 1000, error
            except (ConnectionLost, NotAnswered) as error:
                wait, last = 0.0, error  # type: ignore[assignment]
            wait = max(wait, random.uniform(0, pause))
            pause = min(2 * pause, RETRY_SECONDS_MAX)
            flags = DUP
            if time.monotonic() + wait > limit or self.over.wait(wait):
                raise last

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
