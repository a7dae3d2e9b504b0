"""Two builds are compared round by round, and noise is not called slower."""

from __future__ import annotations

import random

from benchmarks.wire.lines import Line
from benchmarks.wire.ratios import BASE, NOW, Verdict, compare_line, format_ratios

STEADY = [100.0] * 9


def test_half_the_time_and_twice_the_rate_are_both_twice_as_fast() -> None:
    assert compare_line("µs", STEADY, [50.0] * 9).median == 2
    assert compare_line("/s", STEADY, [200.0] * 9).median == 2
    assert compare_line("MiB", STEADY, [200.0] * 9).median == 0.5


def test_what_is_slower_in_every_round_is_called_slower() -> None:
    assert compare_line("µs", STEADY, [110.0] * 9).verdict is Verdict.SLOWER
    assert compare_line("/s", STEADY, [110.0] * 9).verdict is Verdict.FASTER


def test_one_round_the_other_way_is_doubt_enough() -> None:
    assert compare_line("µs", STEADY, [*[120.0] * 8, 90.0]).verdict is Verdict.SAME


def test_rounds_are_compared_in_pairs_whatever_the_weather() -> None:
    weather = [random.Random(n).uniform(1, 10) for n in range(9)]
    base = [100 * w for w in weather]
    now = [110 * w for w in weather]
    assert compare_line("µs", base, now).verdict is Verdict.SLOWER


def test_a_little_is_nothing_even_if_it_is_in_every_round() -> None:
    assert compare_line("MiB", STEADY, [101.0] * 9).verdict is Verdict.SAME


def test_few_rounds_say_nothing() -> None:
    assert compare_line("µs", STEADY[:3], [200.0] * 3).verdict is Verdict.SAME
    assert compare_line("µs", STEADY[:4], [200.0] * 4).verdict is Verdict.SLOWER


def test_the_table_marks_what_is_slower() -> None:
    line = Line(name="get", title="record.get", unit="µs")
    row = format_ratios([line], {"get": {BASE: STEADY, NOW: [125.0] * 9}}).splitlines()[2]
    assert row == "| record.get | 100 µs | 125 µs | 0.80x | 0.80 to 0.80 | **slower** |"


def test_a_line_that_only_one_build_answered_is_left_out() -> None:
    line = Line(name="get", title="record.get", unit="µs")
    assert len(format_ratios([line], {"get": {NOW: STEADY}}).splitlines()) == 2
