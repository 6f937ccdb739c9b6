"""Pages of recent sessions, merged from a list and from groups."""

from __future__ import annotations

import random

from store.recent import merged

CLOCK = 10**15


def pages(noted: dict[str, int], groups: dict[str, int], count: int) -> list[tuple[str, int]]:
    """All pages, each read as the store would: the lowest of the list above the cursor."""
    found: list[tuple[str, int]] = []
    cursor = 0
    while True:
        above = sorted(((s, stamp) for s, stamp in noted.items() if stamp > cursor), key=lambda item: item[1])
        page = merged(dict(above[: count + 1]), groups, cursor, count, CLOCK)
        found += page.sessions
        assert page.reach >= cursor
        if not page.more:
            return found
        assert page.reach > cursor, "a page that leads nowhere"
        cursor = page.reach


def test_both_are_merged_by_stamp() -> None:
    page = merged({"SC_a_b": 10, "SC_a_c": 30}, {"GC_1": 20, "GC_2": 5}, 0, 100, CLOCK)
    assert page.sessions == [("GC_2", 5), ("SC_a_b", 10), ("GC_1", 20), ("SC_a_c", 30)]
    assert (page.reach, page.more, page.clock) == (30, False, CLOCK)


def test_what_is_not_above_the_cursor_is_left_out() -> None:
    assert merged({"SC_a_c": 30}, {"GC_1": 20, "GC_2": 21}, 20, 100, CLOCK).sessions == [("GC_2", 21), ("SC_a_c", 30)]


def test_a_group_that_he_has_left_disappears_and_one_in_both_has_the_later_stamp() -> None:
    noted = {"GC_gone": 10, "GC_1": 20, "GC_2": 60}
    assert merged(noted, {"GC_1": 50, "GC_2": 55}, 0, 100, CLOCK).sessions == [("GC_1", 50), ("GC_2", 60)]


def test_nothing_at_all() -> None:
    page = merged({}, {}, 7, 100, CLOCK)
    assert (page.sessions, page.reach, page.more) == ([], 7, False)


def test_no_page_ends_between_equal_stamps() -> None:
    page = merged({"SC_a_b": 1, "SC_a_c": 2}, {"GC_1": 2, "GC_2": 2}, 0, 2, CLOCK)
    assert (page.sessions, page.reach, page.more) == ([("SC_a_b", 1)], 1, True)


def test_a_cut_list_hides_no_later_entry_behind_a_group() -> None:
    noted = {f"GC_left{n}": n for n in range(1, 12)} | {"SC_a_b": 20}
    groups = {"GC_1": 15, "GC_2": 30}
    assert pages(noted, groups, 10) == [("GC_1", 15), ("SC_a_b", 20), ("GC_2", 30)]


def test_pages_hold_everything_once_and_in_order() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        stamps = rng.sample(range(1, 400), 60)
        noted = {f"SC_a_{n}": stamps.pop() for n in range(rng.randrange(30))}
        noted |= {f"GC_left{n}": stamps.pop() for n in range(rng.randrange(10))}
        groups = {f"GC_{n}": stamps.pop() for n in range(rng.randrange(20))}
        expected = sorted(
            [i for i in (*noted.items(), *groups.items()) if not i[0].startswith("GC_left")], key=lambda i: i[1]
        )
        found = pages(noted, groups, rng.choice([1, 3, 7, 100]))
        assert found == expected, seed
