"""Record rules: what a table may say, and ages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.config.rules import RuleTable, format_age, parse_age, read_rules


def read(*tables: dict[str, Any], retention_ms: int | None = 1000) -> RuleTable:
    return read_rules(list(tables), default_retention_ms=retention_ms, max_capacity=10)


@given(st.integers(0, 999_999_999), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_an_age_is_written_as_it_is_read(number: int, unit: str) -> None:
    age_ms = parse_age(f"{number}{unit}")
    assert parse_age(format_age(age_ms)) == age_ms


@pytest.mark.parametrize(
    ("age_ms", "text"),
    [(None, "off"), (1500, "1500ms"), (90_000, "90s"), (7_200_000, "2h"), (172_800_000, "2d")],
)
def test_an_age_is_written_in_its_largest_whole_unit(age_ms: int | None, text: str) -> None:
    assert format_age(age_ms) == text


@pytest.mark.parametrize("text", ["", "1", "1 s", "-1s", "1w", "1.5h", "1sx", "OFF", 5, None])
def test_what_is_no_age_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not an age"):
        parse_age(text)


def test_the_first_rule_that_matches_holds_and_else_the_default() -> None:
    table = read({"name": "a.#", "retention": "off"}, {"name": "a.b", "max_rows": 5})
    assert [table.rule_for(name).retention_ms for name in ("a.b", "c")] == [None, 1000]
    assert table.rule_for("a.b").max_rows is None


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"name": "a", "retention": "0s"}, "would delete everything"),
        ({"name": "a", "buffer": "spmc_ring"}, "needs a capacity"),
        ({"name": "a", "capacity": 2}, "takes no capacity"),
        ({"name": "a", "buffer": "spmc_ring", "capacity": 11}, "over max_ring_capacity 10"),
        ({"name": "a", "buffer": "spmc_ring", "capacity": 0}, "capacity"),
        ({"name": "a#"}, "whole segment"),
        ({"name": "a", "max_row": 1}, "max_row"),
        ({}, "name"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_by_its_number(
    table: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=rf"^\[\[record\]\] number 2: .*{why}"):
        read({"name": "fine"}, table)


def test_a_ring_may_be_as_large_as_the_limit() -> None:
    table = read({"name": "a", "buffer": "spmc_ring", "capacity": 10})
    assert (table.is_ring("a"), table.is_ring("b")) == (True, False)
    assert table.rule_for("a").capacity == 10
