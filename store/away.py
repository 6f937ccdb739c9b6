"""Shards whose server, one of a Cluster, did not answer: each try takes seconds, so they are left alone for a while."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.loop import now

AWAY_SECONDS = 20.0


class Away:
    """The shards, by tag."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, tags: Iterable[str]) -> None:
        """These did not answer."""
        self._until.update(dict.fromkeys(tags, now() + AWAY_SECONDS))

    def __contains__(self, tag: str) -> bool:
        until = self._until.get(tag)
        if until is None:
            return False
        if until > now():
            return True
        del self._until[tag]
        return False
