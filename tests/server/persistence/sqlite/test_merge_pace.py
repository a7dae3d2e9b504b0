"""How large the slices of a merge become; the times that they take are the test's."""

from __future__ import annotations

import pytest

from recordd.persistence.sqlite.merge_pace import MergePace


@pytest.fixture
def pace() -> MergePace:
    return MergePace()


def test_quick_slices_become_larger_up_to_a_bound(pace: MergePace) -> None:
    sizes = []
    for _ in range(5):
        sizes.append(pace.times)
        pace.note(0.005)
    assert sizes == [1, 2, 4, 8, 8]


def test_slow_slices_become_smaller_and_never_none(pace: MergePace) -> None:
    for _ in range(3):
        pace.note(0.005)
    sizes = []
    for _ in range(5):
        pace.note(0.1)
        sizes.append(pace.times)
    assert sizes == [4, 2, 1, 1, 1]


def test_a_slice_that_takes_what_it_may_leaves_the_next_as_it_is(pace: MergePace) -> None:
    pace.note(0.005)
    pace.note(0.03)
    assert pace.times == 2
