"""The table says which targets are met, and by how much the others are missed."""

from __future__ import annotations

import pytest

from benchmarks.wire.lines import INDEXED, LEAST, OURS, Line, Unit, at_least, at_most
from benchmarks.wire.tables import bound_of, format_cpu, format_figure, format_table, is_met

FIGURES = {
    "quick": {OURS: [100.0, 300.0, 200.0], "Redis": [50.0, 400.0, 100.0]},
    "rate": {OURS: [50_000.0], "Redis": [100_000.0]},
    "after": {OURS: [250.0]},
}
QUICK = Line(name="quick", title="one", unit="µs", targets=(at_most(2, "Redis"),))
RATE = Line(name="rate", title="two", unit="/s", targets=(at_least(0.8, "Redis"), at_least(50_000)))


def test_a_bound_is_a_multiple_of_the_peers_median() -> None:
    assert bound_of(at_most(2, "Redis"), QUICK, FIGURES) == 200
    assert bound_of(at_most(7), QUICK, FIGURES) == 7


def test_a_bound_may_be_of_another_line() -> None:
    line = Line(name="after", title="three", unit="µs")
    assert bound_of(at_most(1.5, OURS, "quick"), line, FIGURES) == 300


def test_there_is_no_bound_without_the_peer() -> None:
    assert bound_of(at_most(2, "PostgreSQL"), QUICK, FIGURES) is None


@pytest.mark.parametrize(("figure", "upper", "lower"), [(9, True, False), (10, True, True)])
def test_a_bound_may_be_reached(figure: float, upper: bool, lower: bool) -> None:
    assert is_met(at_most(10), figure, 10) is upper
    assert is_met(at_least(10), figure, 10) is lower
    assert not is_met(at_most(10), 11, 10)


def test_a_line_shows_medians_and_rounds_and_whether_the_target_is_met() -> None:
    row = format_table([QUICK], FIGURES).splitlines()[2]
    assert row == (
        "| one | **200 µs** (100 µs to 300 µs) | Redis 100 µs |  | ≤ 2 x Redis (200 µs) | yes |"
    )


def test_a_missed_upper_bound_shows_the_factor_too() -> None:
    line = Line(name="quick", title="one", unit="µs", targets=(at_most(1, "Redis"),))
    assert format_table([line], FIGURES).endswith("| ≤ Redis (100 µs) | **no**, 2.00x |")


def test_a_line_shows_each_target_and_the_factor_that_is_missing() -> None:
    row = format_table([RATE], FIGURES).splitlines()[2]
    assert row == (
        "| two | **50.0 k/s** | Redis 100 k/s |  | ≥ 0.8 x Redis (80.0 k/s); ≥ 50.0 k/s"
        " | **no**, 1.60x; yes |"
    )


def test_a_line_that_was_not_measured_is_left_out_and_a_refused_one_is_not() -> None:
    other = Line(name="other", title="other", unit="s", targets=(at_most(1),))
    assert len(format_table([other], FIGURES).splitlines()) == 2
    row = format_table([other], FIGURES, {("other", OURS): "timeout"}).splitlines()[2]
    assert row == "| other | refused |  |  | ≤ 1.00 s | - |"


@pytest.mark.parametrize(
    ("ours", "least", "text"),
    [
        (210.0, 250.0, "250 µs, **misses it too**"),
        (210.0, 200.0, "200 µs"),
        (150.0, 250.0, "250 µs"),
    ],
)
def test_a_limit_has_a_column_of_its_own_and_may_miss_what_recordd_misses(
    ours: float, least: float, text: str
) -> None:
    figures = {"quick": {OURS: [ours], "Redis": [100.0], LEAST: [least], INDEXED: [9.0]}}
    cells = format_table([QUICK], figures).splitlines()[2].split(" | ")
    assert cells[2:4] == ["Redis 100 µs", f"{text}; {INDEXED} 9 µs"]


def test_a_limit_is_not_held_against_a_target_beside_recordd_itself() -> None:
    line = Line(name="after", title="three", unit="µs", targets=(at_most(1.5, OURS, "quick"),))
    figures = {"quick": {OURS: [100.0]}, "after": {OURS: [400.0], LEAST: [300.0]}}
    assert format_table([line], figures).splitlines()[2].split(" | ")[3] == "300 µs"


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (9.4, "µs", "9 µs"),
        (1_140, "µs", "1.14 ms"),
        (2_500_000, "µs", "2.50 s"),
        (805, "/s", "805/s"),
        (10_300, "/s", "10.3 k/s"),
        (1_470_000, "/s", "1.47 M/s"),
        (250_000, "rows/s", "250 k rows/s"),
        (280.4, "MiB", "280 MiB"),
        (0.46, "s", "0.46 s"),
    ],
)
def test_figures_have_three_digits_that_count(figure: float, unit: Unit, text: str) -> None:
    assert format_figure(figure, unit) == text


def test_cpu_is_shown_of_every_process_that_is_known() -> None:
    shown = format_cpu([QUICK, RATE], {("quick", OURS): [1.0, 3.0], ("quick", "Redis"): [0.5]})
    assert shown.splitlines()[2:] == ["| one | Redis 0.5 µs; recordd 2.0 µs |"]
