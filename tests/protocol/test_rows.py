"""Rows: their order, and their text in messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd_protocol.rows import Row, join_rows, order_of

positions = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))


@given(positions, positions)
def test_rows_are_ordered_by_time_and_then_by_rev(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    assert (order_of(*one) < order_of(*other)) is (one < other)
    assert Row("a", b"1", *one).order == order_of(*one)


def test_a_transient_row_comes_before_others_of_its_time() -> None:
    assert (
        Row("a", b"1", 5, None).order < Row("b", b"1", 5, 1).order < Row("c", b"1", 6, None).order
    )


def test_rows_are_joined_as_an_array() -> None:
    rows = [Row("wien-süd", b'{"a":1}', 5, 7), Row("b", b"null", 6, None)]
    assert json.loads(join_rows(rows)) == [
        {"name": "wien-süd", "value": {"a": 1}, "ts": 5, "rev": 7},
        {"name": "b", "value": None, "ts": 6, "rev": None},
    ]
    assert join_rows([]) == b"[]"


@pytest.mark.parametrize(("rev", "shown"), [(7, b"7"), (None, b"null")])
def test_the_body_is_rendered_once_when_it_is_asked_for(rev: int | None, shown: bytes) -> None:
    row = Row("wien-süd", b"[1]", 5, rev)
    body = row.body
    assert body == '"name":"wien-süd","value":[1],"ts":5,"rev":'.encode() + shown
    assert row.body is body
    assert not hasattr(row, "bodies")
