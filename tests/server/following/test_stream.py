"""A stream: what fits into an outbox, and what is told with it."""

from __future__ import annotations

from recordd.connections.outbox import Room
from recordd.following.stream import Filling
from recordd_protocol.rows import Row

ROW = Row("a", b"1", 1, 1)
ROW_BYTES = len(ROW.body) + 128


def test_rows_are_taken_while_both_bounds_hold() -> None:
    few = Filling(Room(2, 10 * ROW_BYTES), is_empty=True)
    assert [few.take(ROW) for _ in range(3)] == [True, True, False]
    small = Filling(Room(10, 2 * ROW_BYTES), is_empty=True)
    assert [small.take(ROW) for _ in range(3)] == [True, True, False]


def test_an_empty_outbox_takes_one_row_of_any_size_and_no_second() -> None:
    filling = Filling(Room(1, 1), is_empty=True)
    assert [filling.take(ROW) for _ in range(2)] == [True, False]
    assert filling.rows == [ROW]
    assert not Filling(Room(1, 1), is_empty=False).take(ROW)
