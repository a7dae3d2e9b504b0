"""The rule of what fits, in its three forms: at once, one by one, and page after page."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordd.extending.paging import (
    Filling,
    NewestRows,
    PageLimits,
    count_fitting,
    end_of_page,
    fill_page,
    keep_newest,
)
from recordd_protocol.rows import Row, join_rows

SIZES = st.lists(st.integers(1, 40), max_size=30)
BOUNDS = st.integers(0, 400)
VALUES = st.lists(st.integers(1, 30), max_size=30)


def rows_of(lengths: Sequence[int]) -> list[Row]:
    return [Row("a", b"1" * length, 5, rev) for rev, length in enumerate(lengths, 1)]


def bytes_of(rows: Sequence[Row]) -> int:
    """What rows take in an answer: a separator more than between them."""
    return len(join_rows(rows)) - len(b"[{}]") + len(b"},{") if rows else 0


@given(SIZES, BOUNDS, st.integers(0, 5))
def test_what_fits_is_as_much_as_fits_and_no_more(
    sizes: list[int], bound: int, beside: int
) -> None:
    count = count_fitting(sizes, bound, beside_bytes=beside)
    assert sum(sizes[:count]) + beside * count <= bound
    assert count == len(sizes) or sum(sizes[: count + 1]) + beside * (count + 1) > bound


@given(SIZES, BOUNDS)
def test_one_may_stand_alone_and_no_second_beside_it(sizes: list[int], bound: int) -> None:
    count = count_fitting(sizes, bound, one_fits=True)
    assert count == (max(1, count_fitting(sizes, bound)) if sizes else 0)


@given(VALUES, st.integers(0, 12), BOUNDS, st.data())
def test_a_page_is_the_same_at_once_and_row_by_row(
    lengths: list[int], most_rows: int, most_bytes: int, data: st.DataObject
) -> None:
    rows, limits = rows_of(lengths), PageLimits(most_rows, most_bytes)
    start = data.draw(st.integers(0, len(rows)))
    page, more = fill_page(iter(rows[start:]), limits)
    end = end_of_page(rows, start, limits)
    assert (page, more) == (rows[start:end], end < len(rows))
    assert len(page) <= 1 or (len(page) <= most_rows and bytes_of(page) <= most_bytes)
    assert page or start == len(rows)


@given(VALUES, BOUNDS)
def test_the_newest_rows_are_the_longest_end_that_fits(lengths: list[int], bound: int) -> None:
    rows = rows_of(lengths)
    newest = keep_newest(rows, bound)
    assert newest == rows[len(rows) - len(newest) :]
    assert bytes_of(newest) <= bound
    assert newest == rows or bytes_of(rows[-len(newest) - 1 :]) > bound


@given(st.lists(VALUES, max_size=5), BOUNDS)
def test_the_newest_rows_of_pages_are_those_of_all_rows(pages: list[list[int]], bound: int) -> None:
    newest, every = NewestRows(bound), list[Row]()
    for page in map(rows_of, pages):
        newest.extend(page)
        every += page
        assert list(newest.rows) == keep_newest(every, bound)


def test_the_newest_of_many_rows_are_found_across_the_steps_of_adding_up() -> None:
    rows = rows_of([1] * 5000)
    each = bytes_of(rows[-1:])
    for count in (0, 1, 1023, 1024, 1025, 3000):
        assert keep_newest(rows[1000:], count * each) == rows[5000 - count :]


@pytest.mark.parametrize("one_fits", [True, False])
def test_a_first_row_that_is_too_large_is_taken_only_where_one_may_stand_alone(
    one_fits: bool,
) -> None:
    (row,) = rows_of([100])
    filling = Filling(PageLimits(10, 5), one_fits=one_fits)
    assert [filling.take(row), filling.take(row)] == [one_fits, False]


def test_bytes_beside_each_row_count() -> None:
    (row,) = rows_of([10])
    taken = 3 * (len(row.body) + 50)
    filling = Filling(PageLimits(10, taken), beside_bytes=50)
    assert [filling.take(row) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("wanted", "rows"), [(None, 10), (3, 3), (10, 10), (99, 10), (0, 0)])
def test_a_page_of_which_fewer_rows_are_wanted_holds_no_more(wanted: int | None, rows: int) -> None:
    assert PageLimits(10, 1000).at_most(wanted) == PageLimits(rows, 1000)
