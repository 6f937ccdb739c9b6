"""The figures of the benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench import measure
from bench.measure import Mark, Outcome, Patience, Rounds, Spread, percentile, spread, table


def test_spread_is_the_median_and_the_range() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    assert spread([1234.5]).text() == "1,234.5 (1,234.5-1,234.5)"
    with pytest.raises(ValueError, match="no rounds"):
        spread([])


@pytest.mark.parametrize(("share", "found"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed(share: float, found: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == found


def test_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.99) == 0


def test_ratios_compare_runs_of_the_same_round() -> None:
    rounds = Rounds()
    for ours, theirs in ((20.0, 10.0), (3.0, 1.0), (100.0, 10.0)):
        rounds.add("ours", {"rate": ours})
        rounds.add("theirs", {"rate": theirs})
    assert rounds.ratio("ours", "theirs", "rate") == Spread(3.0, 2.0, 10.0)
    assert rounds.of("ours", "rate").median == 20.0
    assert rounds.total("rate") == 144.0


def test_a_contestant_that_missed_a_round_is_not_compared() -> None:
    rounds = Rounds()
    rounds.add("ours", {"rate": 1.0})
    rounds.add("ours", {"rate": 2.0})
    rounds.add("theirs", {"rate": 1.0})
    with pytest.raises(ValueError, match="shorter"):
        rounds.ratio("ours", "theirs", "rate")


def test_disturbed_runs_are_repeated_while_patience_lasts() -> None:
    foreign = iter([0.9, 0.9, 0.0, 0.9, 0.9])
    patience = Patience(tries=3)

    def measured() -> dict[str, float]:
        return {"foreign": next(foreign)}

    assert patience.run(measured) == {"foreign": 0.0}
    assert patience.run(measured) == {"foreign": 0.9}
    assert (patience.left, patience.repeated) == (0, 3)


def test_an_outcome_is_told_per_call() -> None:
    outcome = Outcome(200, 1, 2.0, server_us=400.0, client_us=1000.0, foreign=0.1, p50=0.001, p99=0.002)
    figures = outcome.figures()
    assert (figures["rate"], figures["server_us"], figures["client_us"]) == (100.0, 2.0, 5.0)
    assert (figures["p50_ms"], figures["p99_ms"], figures["wrong"]) == (1.0, 2.0, 1)


def test_marks_include_their_limits() -> None:
    assert Mark.at_most("cost", 60.0, 60.0, "µs").reached
    assert not Mark.at_most("cost", 60.1, 60.0, "µs").reached
    assert Mark.at_least("ratio", 1.2, 1.2, "times").reached
    assert not Mark.at_least("ratio", 1.1, 1.2, "times").reached


def test_tables_are_aligned_markdown() -> None:
    assert table(["what", "n"], [["first", "1"], ["x", "1,000"]]) == (
        "| what  |     n |\n| ----- | ----: |\n| first |     1 |\n| x     | 1,000 |"
    )


def test_cpu_time_of_a_process_grows_as_it_works_and_is_zero_when_it_is_gone() -> None:
    before = measure.cpu_us(os.getpid())
    while measure.cpu_us(os.getpid()) < before + 1000:
        sum(range(1000))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert measure.cpu_us(child.pid) == 0


def test_descendants_begin_with_the_process_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert measure.descendants(os.getpid())[0] == os.getpid()
        assert child.pid in measure.descendants(os.getpid())
