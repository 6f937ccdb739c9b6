"""Processes that share the tests run each test once, and those of a file in one process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import sharing

FILES = {"a": 3, "b": 1, "c": 4, "d": 2}


def items(*files: str) -> list[Any]:
    return [SimpleNamespace(path=file, nodeid=f"{file}::{n}") for file in files for n in range(FILES[file])]


def test_each_file_is_taken_once_whoever_is_quicker(tmp_path: Path) -> None:
    everything = items(*FILES, "a")  # a file may come again: with another value of a fixture of the session
    slow, quick = (sharing._mine(everything, tmp_path) for _ in range(2))
    first = next(slow)
    others = list(quick)
    rest = list(slow)
    assert [first, *rest] == items("a")
    assert others == items("b", "c", "d", "a")


def test_they_must_see_the_same_tests(tmp_path: Path) -> None:
    assert next(sharing._mine(items("a", "b"), tmp_path))
    with pytest.raises(pytest.UsageError):
        next(sharing._mine(items("b", "a"), tmp_path))
