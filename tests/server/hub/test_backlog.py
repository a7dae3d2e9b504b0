"""The newest commits in memory: what they cover, and where a rev is among them."""

from __future__ import annotations

from recordd.conformance.support import revs, row
from recordd.hub.backlog import Backlog
from recordd_protocol.rows import Row

ROW_BYTES = 513
"""What a row with a value of one byte takes."""


def filled(commits: int, max_bytes: int = 1 << 20) -> Backlog:
    """Commits of two rows each: revs and ticks go together."""
    backlog = Backlog(max_bytes)
    for before in range(0, 2 * commits, 2):
        rows = [row(before + 1, value=b"1"), row(before + 2, value=b"1")]
        backlog.append(rows, tick_before=before, rev_before=before)
    return backlog


def after(backlog: Backlog, tick: int) -> list[int | None] | None:
    rows = backlog.rows_after(tick)
    return None if rows is None else revs(rows)


def test_rows_after_a_tick_come_from_its_commit_on() -> None:
    backlog = filled(3)
    assert [after(backlog, tick) for tick in (0, 2, 3, 6)] == [
        [1, 2, 3, 4, 5, 6],
        [3, 4, 5, 6],
        [4, 5, 6],
        [],
    ]


def test_the_oldest_commits_give_way_and_are_known_to_be_gone() -> None:
    backlog = filled(5, max_bytes=4 * ROW_BYTES)
    assert backlog.size_bytes == 4 * ROW_BYTES
    assert (after(backlog, 5), after(backlog, 6)) == (None, [7, 8, 9, 10])
    assert (backlog.find_tick(5), backlog.find_tick(6)) == (None, 6)


def test_the_newest_commit_stays_however_large_it_is() -> None:
    backlog = filled(2, max_bytes=1)
    assert after(backlog, 2) == [3, 4]
    assert after(backlog, 1) is None


def test_the_tick_of_a_rev_is_behind_the_rows_without_one_before_it() -> None:
    backlog = Backlog(1 << 20)
    transient = Row("t", b"1", 1, None)
    backlog.append([transient, row(1), transient], tick_before=0, rev_before=0)
    backlog.append([row(2), transient], tick_before=3, rev_before=1)
    assert [backlog.find_tick(rev) for rev in (0, 1, 2)] == [0, 3, 4]


def test_an_empty_one_covers_nothing() -> None:
    backlog = Backlog(1 << 20)
    assert (backlog.covers(0), backlog.rows_after(0), backlog.find_tick(0)) == (False, None, None)
