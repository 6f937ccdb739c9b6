"""When many sockets are looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest

from mesh.loop import now
from mesh.pacing import ENOUGH, WINDOW_SECONDS, Pace, PacedReader
from tests.waiting import wait_until

MOST, INTERVAL = 64, 0.004
LOOKS = 5


# ---- whether to wait


def flooded(interval: float = INTERVAL, each: int = 2 * ENOUGH) -> Pace:
    """A pace at time 1, behind a second with `each` events per `INTERVAL`."""
    pace = Pace(MOST, interval, 0.0)
    steps = round(1 / INTERVAL)
    for n in range(1, steps + 1):
        pace.waits(each, n / steps)
    return pace


def test_while_much_comes_it_waits() -> None:
    assert flooded().waits(1, 1.001)


def test_while_little_comes_it_does_not() -> None:
    assert not flooded(each=ENOUGH // 2).waits(1, 1.001)


def test_nor_for_one_look_that_found_much() -> None:
    pace = Pace(MOST, INTERVAL, 0.0)
    assert not pace.waits(MOST - 1, WINDOW_SECONDS / 2)


def test_nor_when_nothing_came_or_more_than_one_look_takes() -> None:
    pace = flooded()
    assert not pace.waits(0, 1.001) and not pace.waits(MOST, 1.002)


def test_nor_for_what_comes_alone_after_a_flood() -> None:
    pace = flooded()
    pace.waits(0, 1.01)
    assert not pace.waits(1, 3.0) and not pace.waits(1, 3.0 + WINDOW_SECONDS / 2)


def test_nor_without_an_interval() -> None:
    assert not flooded(interval=0.0).waits(1, 1.001)


# ---- the loop


class Source:
    """Something that is always readable, with much in it."""

    def __init__(self) -> None:
        self.fd, self._other = os.pipe()
        os.write(self._other, b"x")
        self.fails = self.closes = False
        self.looks: list[float] = []
        self.reader = PacedReader(self.fd, self._look, MOST, INTERVAL)

    def _look(self, most: int) -> int:
        assert most == MOST
        self.looks.append(now())
        if self.fails:
            self.fails = False
            raise ValueError("a bug")
        if self.closes:
            self.reader.close()
        return most // 2

    def is_paced(self) -> bool:
        last = self.looks[-LOOKS:]
        pauses = [b - a for a, b in pairwise(last)]
        return len(pauses) == LOOKS - 1 and min(pauses) > INTERVAL / 2

    def close(self) -> None:
        self.reader.close()
        os.close(self.fd)
        os.close(self._other)


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.close()


def test_there_are_pauses_between_looks(source: Source) -> None:
    wait_until(source.is_paced, "pauses")


def test_a_look_that_fails_is_not_the_last(source: Source) -> None:
    wait_until(source.is_paced, "pauses")
    count, source.fails = len(source.looks), True
    wait_until(lambda: len(source.looks) > count + LOOKS and source.is_paced(), "pauses again")


@pytest.mark.parametrize("flooded", [False, True])
def test_a_look_that_closes_it_is_the_last(source: Source, flooded: bool) -> None:
    wait_until(source.is_paced if flooded else lambda: source.looks, "looks")
    source.closes = True
    count = len(source.looks)
    wait_until(lambda: len(source.looks) > count, "the last look")
    time = now()
    wait_until(lambda: now() > time + 3 * INTERVAL, "others to be due")
    assert len(source.looks) == count + 1
