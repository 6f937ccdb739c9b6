"""The checker of the fault tests goes red when it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.load import Entry, Seen, chain_problems, problems

History = list[tuple[int, str]]


def good() -> tuple[History, dict[str, Seen]]:
    history = [(1, "a:0"), (2, "b:0"), (3, "a:1"), (4, "a:2")]
    return history, {
        "a": Seen(["a:0", "a:1", "a:2"], {"a:0": 1, "a:1": 3, "a:2": 4}, [(2, "b:0")]),
        "b": Seen(["b:0"], {"b:0": 2}, [(1, "a:0"), (3, "a:1"), (4, "a:2")]),
    }


def lose_an_acknowledged_one(history: History, seen: dict[str, Seen]) -> None:
    history.remove((3, "a:1"))
    seen["b"].received.remove((3, "a:1"))


def store_one_twice(history: History, seen: dict[str, Seen]) -> None:
    history.append((5, "a:2"))
    seen["b"].received.append((5, "a:2"))


def show_one_twice(history: History, seen: dict[str, Seen]) -> None:
    seen["b"].received.append((4, "a:2"))


def hide_one_from_a_reader(history: History, seen: dict[str, Seen]) -> None:
    seen["b"].received.remove((3, "a:1"))


def swap_two(history: History, seen: dict[str, Seen]) -> None:
    history[2:] = [(3, "a:2"), (4, "a:1")]
    seen["a"].acked.update({"a:2": 3, "a:1": 4})
    seen["b"].received[1:] = [(3, "a:2"), (4, "a:1")]


def show_in_another_order(history: History, seen: dict[str, Seen]) -> None:
    seen["b"].received.reverse()


def invent_one(history: History, seen: dict[str, Seen]) -> None:
    history.append((5, "a:9"))
    seen["b"].received.append((5, "a:9"))


def store_a_refused_one(history: History, seen: dict[str, Seen]) -> None:
    del seen["a"].acked["a:2"]
    seen["a"].refused.append("a:2")


def reuse_a_number(history: History, seen: dict[str, Seen]) -> None:
    seen["b"].received[0] = (1, "a:7")


def renumber_one(history: History, seen: dict[str, Seen]) -> None:
    seen["a"].acked["a:0"] = 9


MUTANTS = [
    lose_an_acknowledged_one, store_one_twice, show_one_twice, hide_one_from_a_reader, swap_two, show_in_another_order,
    invent_one, store_a_refused_one, reuse_a_number, renumber_one,
]  # fmt: skip


def test_a_good_run_is_green() -> None:
    assert problems(*good()) == []


def test_what_is_not_acknowledged_may_be_stored_or_not() -> None:
    history, seen = good()
    del seen["a"].acked["a:2"]
    assert problems(history, seen) == []
    history.remove((4, "a:2"))
    seen["b"].received.remove((4, "a:2"))
    assert problems(history, seen) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_broken_promise_is_red(mutant: Callable[[History, dict[str, Seen]], None]) -> None:
    history, seen = good()
    mutant(history, seen)
    assert problems(history, seen)


def test_a_good_chain_is_green() -> None:
    assert chain_problems([]) == []
    assert chain_problems([Entry(1, 0, "p", "a:0"), Entry(4, 1, "q", "a:1"), Entry(5, 4, "r", "b:0")]) == []


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(Entry(4, 1, "p", "a:1"), id="a packId again"),
        pytest.param(Entry(4, 0, "q", "a:1"), id="one is missing in the chain"),
        pytest.param(Entry(4, 3, "q", "a:1"), id="one is missing in the history"),
        pytest.param(Entry(1, 1, "q", "a:1"), id="a number again"),
    ],
)
def test_a_broken_chain_is_red(second: Entry) -> None:
    assert chain_problems([Entry(1, 0, "p", "a:0"), second])


def test_a_history_without_its_beginning_is_red() -> None:
    assert chain_problems([Entry(4, 1, "q", "a:1")])
