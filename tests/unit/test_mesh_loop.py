"""Waiting for a completion, whenever it comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.loop import Done, Later, wait_for


def later(done: Done, result: object, error: Exception | None) -> None:
    Later(0.001, done, result, error)


def at_once(done: Done, result: object, error: Exception | None) -> None:
    done(result, error)


@pytest.mark.parametrize("complete", [later, at_once])
def test_a_completion_is_waited_for(complete: Callable[[Done, object, Exception | None], None]) -> None:
    assert wait_for(lambda done: complete(done, "result", None)) == "result"
    with pytest.raises(ValueError, match="why"):
        wait_for(lambda done: complete(done, None, ValueError("why")))
