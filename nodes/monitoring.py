"""Users who listen to sessions of others (22-24), as the node sees it that answers for it: existence, audit, reading.

Whether somebody may is decided at his login; brokers ask here only for those who may. Nothing is heard or read before
it is in the audit: a line in the log (`audit=true`) and an entry of the stream `imesh:audit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mesh.errors import AppError, Timeout
from mesh.node import Node
from nodes import publications
from nodes.contracts import Audited, Monitoring, Origin
from nodes.packs import PackNode
from nodes.reading import original_of
from packs.codec import encode_payload
from packs.codes import Code
from packs.ids import is_group_id
from packs.pack import Pack
from packs.structs import HotSessionItem, HotSessionResp
from store.errors import StoreError

PAGE_BYTES = 100_000
"""Payload bytes of newest messages in one answer to 24, so that it fits a frame in every codec."""
MAX_AUDITED = 1_000
"""Entries of the audit in one answer."""
START, STOP, READ = "start", "stop", "read"


@contextmanager
def _store_errors() -> Iterator[None]:
    """A store that does not answer leaves the outcome unknown."""
    try:
        yield
    except StoreError as error:
        raise Timeout(str(error)) from None


class MonitoringNode(PackNode, Monitoring):
    """A node with the hot store in `_store` that answers for listeners."""

    _store: Any

    def watch(self, origin: Origin, session: str) -> None:
        with _store_errors():
            if is_group_id(session) and not self._store.groups.present(session, ()).version:
                raise AppError(Code.GROUP_NOT_FOUND)
            self._audit(origin, START, (session,))

    def unwatch(self, origin: Origin, sessions: tuple[str, ...]) -> None:
        with _store_errors():
            self._audit(origin, STOP, sessions)

    def watched(self, origin: Origin, sessions: tuple[str, ...]) -> bytes:
        with _store_errors():
            self._audit(origin, READ, sessions)
            newest = self._store.audit.newest(sessions)
        items, size = [], 0
        for session, entry in sorted(zip(sessions, newest, strict=True), key=lambda row: row[1].seq if row[1] else 0):
            packs: list[Pack] = []
            if entry is not None and size + len(entry.payload) <= PAGE_BYTES:
                size += len(entry.payload)
                packs.append(original_of(entry))
            items.append(HotSessionItem(session_id=session, last_msgs=packs, attribute="{}"))
        return encode_payload(HotSessionResp(sessions=items))

    def audit(self, before: str, count: int) -> tuple[Audited, ...]:
        with _store_errors():
            return tuple(Audited(*row) for row in self._store.audit.page(before, max(1, min(count, MAX_AUDITED))))

    def _audit(self, origin: Origin, action: str, sessions: tuple[str, ...]) -> None:
        self._store.audit.note(origin.user, action, sessions, origin.device_id, origin.address)
        for session in sessions:
            self.log.info(
                "session monitored", audit="true", who=origin.user, action=action, session=session,
                device=origin.device_id, address=origin.address,
            )  # fmt: skip


def listeners(node: Node, session: str) -> str:
    """The topic for copies of what happens in a session, or "" when nobody listens to it."""
    topic = publications.SESSION + session
    return topic if node.process.fanout.holders(topic) else ""
