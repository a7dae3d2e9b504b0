"""Snapshots: what the pages of one moment hold back, and for whom."""

from __future__ import annotations

from recordd.hub.records import memory_of
from recordd.hub.snapshots import Snapshot, SnapshotLimits, Snapshots
from recordd_protocol.rows import Row


class Replaced:
    """A catalogue of which only this is asked."""

    replaced_bytes = 10_000


def keep(snapshots: Snapshots, rows: list[Row], owner: object) -> Snapshot:
    steps = snapshots.keep(rows, owner, rev=1)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            kept: Snapshot = stop.value
            return kept


async def test_a_snapshot_costs_what_was_replaced_since_and_no_more_than_its_rows() -> None:
    replaced = Replaced()
    limits = SnapshotLimits(max_bytes=1 << 20, per_owner=8, max_age_s=60)
    snapshots = Snapshots(replaced, limits)
    rows = [Row("a", b"1" * 100, 1, 1), Row("b", b"1" * 100, 1, 2)]
    keep(snapshots, rows, "owner")
    pointers = 2 * 8
    assert snapshots.statistics().bytes == pointers
    replaced.replaced_bytes += 70
    assert snapshots.statistics().bytes == pointers + 70
    replaced.replaced_bytes += 1 << 20
    assert snapshots.statistics().bytes == pointers + sum(map(memory_of, rows))


async def test_the_owner_who_costs_most_loses_his_oldest_first() -> None:
    replaced = Replaced()
    rows = [Row("a", b"1" * 1000, 1, 1)]
    limits = SnapshotLimits(max_bytes=2 * memory_of(rows[0]) + 100, per_owner=8, max_age_s=60)
    snapshots = Snapshots(replaced, limits)
    modest = keep(snapshots, list(rows), "modest")
    oldest, newest = (keep(snapshots, list(rows), "greedy") for _ in range(2))
    replaced.replaced_bytes += 1 << 20
    found = [snapshots.find(one.id) is not None for one in (modest, oldest, newest)]
    assert found == [True, False, True]
