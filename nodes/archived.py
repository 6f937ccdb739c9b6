"""One history: what Redis holds, continued in the archive, so that readers notice nothing.

Redis has everything above a number that each session keeps, the archive everything up to it. One script reads both, so
a trim in between takes nothing away: what is not in its reply was archived before. What was done lately to archived
messages lies in Redis until the archive knows it, and is laid over what the archive says. It is read first: the other
way round a change could pass by between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mesh.contract import start
from nodes.contracts import Archive
from store import entries
from store.entries import DELETED, Entry
from store.hot import HotStore
from store.sessions import Overview, Page

PageDone = Callable[["list[Entry] | None", "Exception | None"], None]


class OneHistory:
    """Sessions from their newest message to their first. `archive` is None in a topology without an olap node."""

    def __init__(self, store: HotStore, archive: Archive | None) -> None:
        self._sessions = store.sessions
        self._archive = archive

    def page(self, session: str, below: int, count: int, done: PageDone, member: str = "") -> None:
        """As `Sessions.page`, to the end of the archive: at most `count`, fewer when more would not fit a message."""

        def read(page: Page | None, error: Exception | None) -> None:
            if page is None or self._archive is None or not page.rest:
                done(page.entries if page is not None else None, error)
            else:
                self._continue(session, page, count, done)

        self._sessions.page(session, below, count, read, member)

    def _continue(self, session: str, page: Page, count: int, done: PageDone) -> None:
        assert self._archive is not None
        changed = {entry.seq: entry for entry in page.changed}
        wanted = count - len(page.entries)
        deleted = sum(1 for entry in page.changed if entry.state & DELETED and entry.seq <= page.rest)

        def came(found: tuple[bytes, ...], error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            rows = [entries.parse(entry) for entry in found]
            newest = [_newer(row, changed.get(row.seq)) for row in rows]
            kept = [row for row in newest if not row.state & DELETED][:wanted]
            if rows and not kept:
                self._continue(session, page._replace(rest=rows[-1].seq - 1), count, done)
            else:
                done(page.entries + kept, None)

        start(self._archive.page, came, session, page.rest, wanted + deleted)

    def complete(
        self, overviews: Sequence[Overview], done: Callable[[list[Overview] | None, Exception | None], None]
    ) -> None:
        """The same overviews with the newest messages that lie in the archive; those that have none are left out."""
        missing = [o.session for o in overviews if isinstance(o.newest, int)]
        newest: dict[str, Entry] = {}
        failed: list[Exception] = []
        if not missing:
            done(list(overviews), None)
            return

        def completed() -> None:
            if failed:
                done(None, failed[0])
                return
            whole = (o._replace(newest=newest.get(o.session, o.newest)) for o in overviews)
            done([o for o in whole if not isinstance(o.newest, int)], None)

        def came(session: str, page: list[Entry] | None, error: Exception | None) -> None:
            missing.remove(session)
            if error is not None:
                failed.append(error)
            elif page:
                newest[session] = page[0]
            if not missing:
                completed()

        for session in list(missing):
            self.page(session, 0, 1, lambda page, error, session=session: came(session, page, error))  # type: ignore[misc]


def _newer(row: Entry, other: Entry | None) -> Entry:
    return other if other is not None and other.revision > row.revision else row
