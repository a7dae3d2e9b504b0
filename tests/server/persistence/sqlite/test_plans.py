"""What a query is to read: which entries of the tail count, and when its page is over."""

from __future__ import annotations

import pytest
import trio

from recordd.extending.paging import PageLimits
from recordd.persistence.sqlite.by_id import ById
from recordd.persistence.sqlite.catalog import Names, Selection
from recordd.persistence.sqlite.plans import Pace, QueryPlan
from recordd_protocol.patterns import compile_patterns

TAIL = {1: [(20, 6), (25, 5), (30, 7), (35, 9), (40, 8)], 2: [(15, 8)]}


def plan(*, behind: tuple[int, int] | None = None, end_ms: int = 100, as_of: int = 8) -> QueryPlan:
    """Rows from 20 ms on, of which those up to 5 are on disk."""
    return QueryPlan(
        records=Selection({}, ById(), {}, compile_patterns("#"), Names(ById(), {}, 0)),
        tails=(TAIL,),
        merged_rev=5,
        as_of=as_of,
        limit_per_record=None,
        start_ms=20,
        end_ms=end_ms,
        behind=behind,
        page=PageLimits(10, 1000),
    )


def test_entries_of_the_tail_count_that_are_not_on_disk_and_of_the_moment() -> None:
    assert plan().tail_keys(1) == [(20, 6, 1), (30, 7, 1), (40, 8, 1)]
    assert plan(end_ms=39).tail_keys(1) == [(20, 6, 1), (30, 7, 1)]
    assert (plan().tail_keys(2), plan().tail_keys(3)) == ([], [])


def test_entries_of_many_records_begin_behind_the_page_before() -> None:
    assert list(plan(behind=(30, 6)).keys_in_tail([1, 2])) == [(30, 7, 1), (40, 8, 1)]
    assert list(plan(behind=(30, 7)).keys_in_tail([1, 2])) == [(40, 8, 1)]
    assert list(plan(end_ms=40).keys_in_tail([2, 1]))[-1] == (40, 8, 1)
    assert list(plan(end_ms=39).keys_in_tail([2, 1]))[-1] == (30, 7, 1)
    assert list(plan().keys_in_tail([2])) == []


def test_no_page_begins_before_the_time_that_is_asked_for() -> None:
    """Although it is behind another, of a query from an earlier time."""
    assert plan(behind=(7, 3)).start == (20, -1)
    assert plan(behind=(20, 6)).start == (20, 6)


def test_the_index_on_disk_is_read_up_to_the_moment() -> None:
    assert plan().last_rev_on_disk == 5
    assert plan(as_of=3).last_rev_on_disk == 3


def test_a_page_ends_in_time_once_it_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(timeout_s=5)
    now += 1
    pace.found_row()
    assert (pace.is_timed, pace.is_over()) == (False, False)
    pace = Pace(timeout_s=5)
    pace.begin()
    now += 1
    assert (pace.is_timed, pace.is_over()) == (True, False)
    pace.found_row()
    assert pace.is_over()


def test_a_query_is_given_up_past_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(timeout_s=5)
    now += 5
    pace.check()
    now += 1
    with pytest.raises(trio.TooSlowError):
        pace.check()
