"""Many calls of one request, so many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from mesh.loop import Done, post, wait_for

T = TypeVar("T")


def gather(
    items: Sequence[T], at_once: int, start: Callable[[int, T, Done], None]
) -> list[tuple[Any, Exception | None]]:
    """Call `start(n, item, done)` on the hub for each item, `at_once` under way; the (result, error) of each, in order.

    Blocks this greenlet. What `start` raises is the item's error.
    """
    outcomes: list[tuple[Any, Exception | None]] = [(None, None)] * len(items)
    begun, missing = 0, len(items)

    def begin(done: Done) -> None:
        def came(n: int, result: Any, error: Exception | None) -> None:
            nonlocal missing
            outcomes[n] = result, error
            missing -= 1
            if not missing:
                post(done, None, None)
            elif begun < len(items):
                start_one()

        def start_one() -> None:
            nonlocal begun
            n, begun = begun, begun + 1
            try:
                start(n, items[n], partial(came, n))
            except Exception as error:
                post(came, n, None, error)

        for _ in range(min(at_once, len(items))):
            post(start_one)

    if items:
        wait_for(begin)
    return outcomes
