"""The tail of the index: what has gathered becomes a run, and its end moves the mark."""

from __future__ import annotations

import random

import pytest

from recordd.persistence.sqlite.tail import Entries, Tail


def entries_of(rows: list[tuple[int, int, int]]) -> Entries:
    """Return what readers are to see of rows: each record's, in order."""
    return {
        record: sorted((ts, rev) for known, ts, rev in rows if known == record)
        for record, _, _ in rows
    }


@pytest.mark.parametrize("seed", range(10))
def test_readers_see_all_that_came_whenever_they_ask(seed: int) -> None:
    """Also where none asked for long, and where the run ends before anybody asks."""
    chance = random.Random(seed)
    tail, rev = Tail(merged_rev=0), 0
    run: list[tuple[int, int, int]] = []
    gathering: list[tuple[int, int, int]] = []
    for _ in range(80):
        step = chance.random()
        if step < 0.6:
            revs = range(rev + 1, rev + 1 + chance.randrange(1, 4))
            rows = [(chance.randrange(4), chance.randrange(9), number) for number in revs]
            tail.extend(*zip(*rows, strict=True))
            gathering, rev = [*gathering, *rows], revs[-1]
        elif step < 0.8 and not tail.is_merging:
            tail.start_run(rev)
            run, gathering = gathering, []
        elif step < 0.9 and tail.is_merging:
            tail.end_run()
            run = []
        elif step < 0.95:
            record = chance.randrange(4)
            assert tail.has(record) == (record in entries_of([*run, *gathering]))
        elif step < 0.97:
            next(tail.sort_in_steps(), None)  # and no further
        else:
            _, seen = tail.snapshot()
            assert seen == (entries_of(run), entries_of(gathering))
        assert len(tail) == len(gathering)


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
    assert tail.snapshot() == (3, (in_run, gathering))
    assert run.entries == in_run
    assert (len(tail), tail.is_merging, tail.merged_rev) == (1, True, 3)
    assert (tail.has(1), tail.has(2), tail.has(3)) == (True, True, False)
    tail.end_run()
    assert tail.snapshot() == (9, ({}, gathering))
    assert (tail.has(1), tail.has(2), tail.is_merging) == (True, False, False)


def test_many_rows_are_sorted_out_in_steps_with_what_comes_between_them() -> None:
    tail, rev = Tail(merged_rev=0), 0
    rows: list[tuple[int, int, int]] = []

    def commit(size: int) -> None:
        nonlocal rev
        some = [(number % 7, -number % 1000, number) for number in range(rev + 1, rev + size + 1)]
        tail.extend(*zip(*some, strict=True))
        rows.extend(some)
        rev += size

    for _ in range(20):
        commit(1)
        commit(300)
    tail.start_run(rev)
    in_run = entries_of(rows)
    rows.clear()
    for _ in range(1000):
        commit(1)
    steps = 0
    for _ in tail.sort_in_steps():
        steps += 1
        if steps < 10:
            commit(5)
    assert 20 <= steps <= 25
    commit(3)  # whose entries are where they belong: a reader has asked
    assert list(tail.sort_in_steps()) == []
    assert tail.snapshot() == (0, (in_run, entries_of(rows)))


def test_a_large_run_is_sorted_out_where_nothing_gathers() -> None:
    tail = Tail(merged_rev=0)
    rows = [(number % 7, number, number) for number in range(1, 901)]
    for start in range(0, 900, 300):
        tail.extend(*zip(*rows[start : start + 300], strict=True))
    tail.start_run(900)
    assert tail.snapshot() == (0, (entries_of(rows), {}))
