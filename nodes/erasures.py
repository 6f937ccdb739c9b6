"""Erasures of users, as the olap node does them: it is asked for one, notes it, and goes on until it is done. Of
several nodes one does it; when that dies, another begins it again. The work itself: nodes/erasing.py."""

from __future__ import annotations

import time
from typing import Any

import gevent.event
import msgspec

from mesh.errors import AppError, CallError, Timeout
from mesh.log import Log
from mesh.loop import now
from mesh.process import Process
from mesh.stats import Stats
from nodes.contracts import Packs, User
from nodes.contracts_erasure import DONE, RUNNING, Erasing, Erasure, Erasures
from nodes.erasing import Eraser, Found, Services, lock_out
from nodes.lease import Lease
from packs.codes import Code
from packs.ids import is_user_id
from store.archive.database import Archive
from store.errors import StoreError
from store.hot import HotStore

LOOK_SECONDS = 5.0
"""Between two looks for what another began, and before what failed is tried again."""
NOTE_SECONDS = 0.5
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Erasure).decode


class _NoLongerOurs(Exception):
    """Another process may have begun it."""


class ErasureAnswers(Erasures):
    """For a node with an archive; what is missing in the topology makes it refuse."""

    process: Process
    stats: Stats
    log: Log
    user: User | None
    msgop: Erasing | None
    _archive: Archive
    _store: HotStore

    def prepare_erasures(self) -> None:
        """Before serving."""
        packs: dict[str, Any] = {kind: self.process.proxy(Packs, kind, needed_by=None) for kind in ("group", "user")}
        self._services: Services | None = None
        if self.user is not None and self.msgop is not None and None not in packs.values():
            self._services = Services(self.user, self.msgop, packs)
        self._erasing = Lease(self._store.leases, "erasures", self.process.name)
        self._asked = gevent.event.Event()
        self._noted_at = 0.0

    # ---- the contract

    def erase(self, user: str) -> Erasure:
        if not is_user_id(user):
            raise AppError(Code.PARAM, "user is malformed")
        if self._services is None:
            raise AppError(Code.UNAVAILABLE, "this system lacks nodes that erasing needs: user, group, msgop")
        lock_out(self._services.user, user)
        state = Erasure(user, started=_ms())
        try:
            if not self._store.erasures.begin(user, _encode(state)):
                state = self._state(user)
        except StoreError as error:
            raise Timeout(str(error)) from None
        self._asked.set()
        return state

    def erasure(self, user: str) -> Erasure | None:
        try:
            found = self._store.erasures.state(user)
        except StoreError as error:
            raise Timeout(str(error)) from None
        return None if found is None else _decode(found)

    # ---- the work

    def work_on_erasures(self) -> None:
        """For ever; in a greenlet."""
        while True:
            self._asked.wait(LOOK_SECONDS)
            self._asked.clear()
            try:
                for user in self._store.erasures.under_way():
                    self._still_ours()
                    self._erase(user)
            except _NoLongerOurs:
                continue
            except StoreError as error:
                self.log.limited("erasures", 30, "erasures wait for the store", error=error)

    def _erase(self, user: str) -> None:
        """Erase one, or note why it must be tried again. Raises `StoreError` when not even that can be noted."""
        assert self._services is not None
        before = self._state(user)._replace(state=RUNNING, trouble="")

        def tell(found: Found) -> None:
            self._still_ours()
            if now() >= self._noted_at + NOTE_SECONDS:
                self._noted_at = now()
                self._store.erasures.note(user, _encode(before._replace(**found._asdict())))

        try:
            found = Eraser(user, self._store, self._archive, self._services, tell).run()
        except _NoLongerOurs:
            raise
        except Exception as error:  # whatever it is, the archive and other erasures go on
            expected = isinstance(error, StoreError | CallError | AppError)
            self.log.error("an erasure waits", exc_info=None if expected else error, error=error)
            text = str(error) if expected else f"{type(error).__name__}, see the log"
            self._store.erasures.note(user, _encode(self._state(user)._replace(trouble=text)))
            return
        self._store.erasures.end(user, _encode(before._replace(state=DONE, ended=_ms(), **found._asdict())))
        self.stats.counts["erased"] += 1
        self.log.info("a user is erased", messages=found.messages, notices=found.notices)

    def _still_ours(self) -> None:
        if self._services is None or not self._erasing.held():
            raise _NoLongerOurs

    def _state(self, user: str) -> Erasure:
        found = self._store.erasures.state(user)
        return _decode(found) if found is not None else Erasure(user, started=_ms())


def _ms() -> int:
    return int(time.time() * 1000)
