"""The tail of the index: what has gathered becomes a run, and its end moves the mark."""

from __future__ import annotations

from recordd.persistence.sqlite.tail import Tail


def test_a_run_has_what_has_gathered_and_readers_see_it_until_it_ends() -> None:
    tail = Tail(merged_rev=3)
    for record, ts, rev in [(1, 20, 5), (2, 10, 6), (1, 10, 8)]:
        tail.append(record, ts, rev)
    assert (len(tail), tail.is_merging) == (3, False)
    tail.start_run(9)
    tail.append(1, 5, 10)
    run = tail.run
    assert run is not None
    assert (run.after_rev, run.last_rev, run.size) == (3, 9, 3)
    in_run, gathering = {1: [(10, 8), (20, 5)], 2: [(10, 6)]}, {1: [(5, 10)]}
    assert run.entries == in_run
    assert tail.snapshot() == (3, (in_run, gathering))
    assert (len(tail), tail.is_merging, tail.merged_rev) == (1, True, 3)
    assert (tail.has(1), tail.has(2), tail.has(3)) == (True, True, False)
    tail.end_run()
    assert tail.snapshot() == (9, ({}, gathering))
    assert (tail.has(1), tail.has(2), tail.is_merging) == (True, False, False)
