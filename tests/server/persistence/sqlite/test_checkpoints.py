"""When a checkpoint is due."""

from __future__ import annotations

from recordd.persistence.sqlite.checkpoints import Checkpoints


def is_due(checkpoints: Checkpoints, pages: int) -> bool:
    """Commit, and tell whether a checkpoint is due behind it."""
    checkpoints.note_length(pages)
    return checkpoints.is_due


def is_overdue(checkpoints: Checkpoints, pages: int) -> bool:
    checkpoints.note_length(pages)
    return checkpoints.is_overdue


def test_a_checkpoint_is_due_at_each_so_many_pages() -> None:
    checkpoints = Checkpoints(100, 400)
    assert not is_due(checkpoints, 99)
    assert is_due(checkpoints, 100)
    checkpoints.note_done()
    assert [is_due(checkpoints, pages) for pages in (2, 99, 100)] == [False, False, True]


def test_a_wal_that_a_reader_holds_is_tried_again_a_quarter_later() -> None:
    checkpoints = Checkpoints(100, 400)
    checkpoints.note_length(130)
    checkpoints.note_done()
    assert [is_due(checkpoints, pages) for pages in (154, 155)] == [False, True]


def test_one_that_is_put_off_is_overdue_so_many_pages_later() -> None:
    checkpoints = Checkpoints(100, 400)
    assert [is_overdue(checkpoints, pages) for pages in (100, 399, 400)] == [False, False, True]
    checkpoints.note_done()  # as far as a reader let it
    assert [is_overdue(checkpoints, pages) for pages in (724, 725)] == [False, True]


def test_one_page_is_a_length_too() -> None:
    checkpoints = Checkpoints(1, 1)
    checkpoints.note_length(1)
    checkpoints.note_done()
    assert [is_due(checkpoints, pages) for pages in (1, 2)] == [False, True]
