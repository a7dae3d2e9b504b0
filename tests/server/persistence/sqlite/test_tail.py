"""The tail of the index: a run gives all its entries, in order, and its end with the last."""

from __future__ import annotations

import random

import pytest

from recordd.persistence.sqlite.tail import Tail


@pytest.mark.parametrize("rows", [1, 7, 50, 1000])
def test_slices_give_every_entry_in_order_and_the_mark_moves_behind_the_last(rows: int) -> None:
    chance = random.Random(rows)
    tail = Tail(merged_rev=0)
    entries = [(chance.randrange(9), chance.randrange(100), rev) for rev in range(1, 201)]
    for record, ts, rev in entries:
        tail.append(record, ts, rev)
    tail.start_run(200)
    tail.append(1, 5, 201)
    given = []
    while tail.is_merging:
        assert tail.merged_rev == 0
        found, last = tail.next_slice(rows)
        assert 0 < len(found) <= rows
        given += found
        assert (last is not None) == (len(given) == len(entries))
        tail.drop_slice(len(found))
    assert given == sorted(entries)
    assert last is not None
    assert (last.rev, sum(last.counts.values())) == (200, 200)
    assert (tail.merged_rev, len(tail)) == (200, 1)
