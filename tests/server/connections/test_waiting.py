"""The common bound of what waits to be sent."""

from __future__ import annotations

import pytest

from recordd.connections.waiting import Waiting, WaitingStatistics


@pytest.mark.parametrize(
    ("size", "behind", "others"),
    [(100, False, False), (101, True, False), (200, True, False), (201, True, True)],
)
def test_past_the_bound_who_is_behind_gets_nothing_and_past_twice_nobody(
    size: int, behind: bool, others: bool
) -> None:
    waiting = Waiting(100)
    waiting.size = size
    assert waiting.refuses(is_behind=True) is behind
    assert waiting.refuses(is_behind=False) is others
    assert waiting.is_over is behind
    assert waiting.statistics() == WaitingStatistics(bytes=size)
