"""Controls on their way in: which are new, and those that came before their message; no I/O, the clock is an argument.

A control comes live and once more from the high-priority queue, so each is told apart by the packId of its pack. An
older one never undoes a newer one.
"""

from __future__ import annotations

from collections import OrderedDict

from client.events import Changed

KEPT_SECONDS = 60.0
"""How long a control waits for its message."""
KEPT_MAX = 10_000
"""Controls that wait, and messages of which the newest control is remembered; then the oldest goes."""

_Key = tuple[str, int]
"""(session, seqId)."""


class Controls:
    """Of all sessions."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, tuple[float, list[Changed]]] = OrderedDict()  # by when the first came
        self._newest: OrderedDict[_Key, tuple[int, frozenset[str]]] = OrderedDict()  # (timestamp, packIds at that time)

    def is_new(self, change: Changed) -> bool:
        """Whether it was not seen yet and none newer of its message was; from now on it was seen."""
        key = (change.session_id, change.seq_id)
        timestamp, seen = self._newest.get(key, (0, frozenset()))
        if change.timestamp < timestamp or (change.timestamp == timestamp and change.control_id in seen):
            return False
        if change.timestamp > timestamp:
            seen = frozenset()
        self._newest[key] = (change.timestamp, seen | {change.control_id})
        self._newest.move_to_end(key)
        if len(self._newest) > KEPT_MAX:
            self._newest.popitem(last=False)
        return True

    def keep(self, change: Changed, time: float) -> None:
        """Its message has not come yet."""
        key = (change.session_id, change.seq_id)
        self._expire(time)
        self._kept.setdefault(key, (time + KEPT_SECONDS, []))[1].append(change)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def take(self, session: str, seq: int, time: float) -> list[Changed]:
        """Those that waited for this message, in order."""
        if not self._kept:
            return []
        self._expire(time)
        return self._kept.pop((session, seq), (0.0, []))[1]

    def _expire(self, time: float) -> None:
        while self._kept:
            key, (deadline, _) = next(iter(self._kept.items()))
            if time <= deadline:
                return
            del self._kept[key]
