"""How fast pushes leave, after which pauses, and which device tokens are really dead."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TypeVar

import gevent

from mesh.loop import now
from push.model import Outcome, Verdict

LONGEST_PAUSE = 300.0
"""Between two tries, unless the vendor asks for more: what waits is worth less with each minute."""
LONGEST_WISH = 3600.0
"""What a vendor may ask for."""
DAY = 86_400
VENDORS_MIDNIGHT = 16 * 3600
"""Seconds of a UTC day at which a day begins for the vendors that have daily quotas (UTC+8)."""
OPEN_AFTER = 10
"""Failures in a row after which a vendor is left alone for a while."""
FIRST_REST, LONGEST_REST = 1.0, 60.0
CONFIG_AFTER = 3
CONFIG_REST = 60.0
"""How long nothing is sent after the vendor said that our key or app is wrong: at the first time, or so often in a row
once it has worked. One token of another app must not stop all others."""
FEW_DEAD = 3
"""Tokens that may be taken for dead while nothing at all is accepted."""
T = TypeVar("T")

FAILED = frozenset((Outcome.SERVER, Outcome.LOST, Outcome.UNREACHABLE, Outcome.UNKNOWN))
RETRIED = FAILED | {Outcome.THROTTLED, Outcome.BUSY, Outcome.CONFIG, Outcome.QUOTA}


class Throttle:
    """So many calls per second, evenly, and a tenth of a second of them at once."""

    def __init__(self, per_second: float) -> None:
        self._step = 1 / per_second
        self._at = 0.0  # when the next call may begin
        self._least = 0.0  # nothing before

    def wait(self) -> None:
        """Block until the next call may begin."""
        clock = now()
        begin = max(self._at, clock - 0.1, self._least)
        self._at = begin + self._step
        if begin > clock:
            gevent.sleep(begin - clock)

    def pause(self, seconds: float) -> None:
        """Begin nothing for so long."""
        self._least = max(self._least, now() + seconds)


class Breaker:
    """Leaves a vendor alone that fails again and again: one call tries whether it works again."""

    def __init__(self) -> None:
        self._failures = 0
        self._refusals = 0
        self._worked = False
        self._rest = FIRST_REST
        self._until = 0.0

    @property
    def seconds(self) -> float:
        """How long it is still left alone."""
        return max(0.0, self._until - now())

    @property
    def trying(self) -> bool:
        """Whether it was left alone and has not worked since: one call at a time."""
        return self._until > 0

    def note(self, verdicts: Sequence[Verdict]) -> None:
        """What became of a call."""
        outcomes = {verdict.outcome for verdict in verdicts}
        if Outcome.ACCEPTED in outcomes:
            self._worked, self._refusals = True, 0
            self._close()
        elif Outcome.CONFIG in outcomes:
            self._refusals += 1
            if self._refusals >= CONFIG_AFTER or not self._worked:
                self._until = now() + CONFIG_REST
        elif Outcome.QUOTA in outcomes:
            self._until = now() + seconds_of_day_left()
        elif outcomes <= FAILED:
            self._failures += 1
            if self._failures >= OPEN_AFTER and now() >= self._until:
                self._until = now() + self._rest
                self._rest = min(LONGEST_REST, 2 * self._rest)
        else:
            self._close()

    def _close(self) -> None:
        self._failures, self._rest, self._until = 0, FIRST_REST, 0.0


def seconds_of_day_left() -> float:
    """Until the next day of vendors that have daily quotas."""
    return DAY - (time.time() - VENDORS_MIDNIGHT) % DAY


def pause_before_retry(verdict: Verdict, tries: int, server_pause: float) -> float | None:
    """Seconds until a push is tried again after its try number `tries` (from 1); None when it never is."""
    if verdict.outcome not in RETRIED:
        return None
    if verdict.outcome is Outcome.UNKNOWN and tries >= 3:
        return None
    if verdict.outcome is Outcome.QUOTA:
        return seconds_of_day_left()
    if verdict.retry_after > 0:
        return min(LONGEST_WISH, verdict.retry_after) * random.uniform(1.0, 1.2)
    first = {
        Outcome.SERVER: server_pause, Outcome.THROTTLED: 10.0, Outcome.BUSY: 10.0, Outcome.CONFIG: CONFIG_REST,
    }.get(verdict.outcome, 1.0)  # fmt: skip
    return min(max(LONGEST_PAUSE, first), first * 2.0 ** (tries - 1)) * random.uniform(0.8, 1.2)


class DeadTokens:
    """Believes that tokens are dead only when others are alive: a wrong package or key makes every token look dead."""

    def __init__(self) -> None:
        self._believed = 0  # since the last success
        self.doubted = 0
        """Tokens that looked dead since the last success and were kept. When they are dead, the next push shows it."""

    def note(self, accepted: int, dead: Sequence[T]) -> Sequence[T]:
        """What became of a call; returns which tokens are to be unregistered now."""
        if accepted:
            self._believed = self.doubted = 0
            return dead
        believed = dead[: FEW_DEAD - self._believed]
        self._believed += len(believed)
        self.doubted += len(dead) - len(believed)
        return believed
