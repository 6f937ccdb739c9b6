"""Token buckets in memory: so many events per minute for each key, refilled evenly."""

from __future__ import annotations

from mesh.loop import now

MAX_KEYS = 100_000
"""Keys kept; when there are more, full buckets are forgotten."""


class Buckets:
    """One bucket per key; a key that is not here has a full one."""

    def __init__(self, per_minute: float) -> None:
        self._size = float(per_minute)
        self._rate = per_minute / 60.0
        self._levels: dict[str, tuple[float, float]] = {}

    def _level(self, key: str, time: float) -> float:
        found = self._levels.get(key)
        if found is None:
            return self._size
        level, at = found
        return min(self._size, level + (time - at) * self._rate)

    def wait(self, key: str) -> float:
        """Seconds until the next event of `key` is allowed; 0 when it is now."""
        return max(0.0, (1.0 - self._level(key, now())) / self._rate)

    def take(self, key: str) -> None:
        """Count an event."""
        time = now()
        self._levels[key] = (self._level(key, time) - 1.0, time)
        if len(self._levels) > MAX_KEYS:
            self._levels = {k: v for k, v in self._levels.items() if self._level(k, time) < self._size}
