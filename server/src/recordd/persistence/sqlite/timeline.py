"""Reading many records at once, in the order of the answer: by time, over all records.

Theory of operation. `timeline` is an index of `history` by (`ts`, `rev`). A stretch of it
is read in one statement, a stretch of the tail that ends at the same place is added, and
what belongs to records that are not meant is left out. So a page costs as much as it holds,
and what lies between. Read record by record, each page would cost a look at every record:
a hundred thousand, for each of a hundred pages.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, cast

import apsw

from recordd.persistence.sqlite.damage import INDEX, naming
from recordd.persistence.sqlite.plans import Key, Pace, QueryPlan

__all__ = ["read_by_time", "tail_keys"]

_STRETCH: Final = 4096
"""Entries read by one statement: some 3 ms."""

_CAREFUL_STRETCH: Final = 64
"""The same before a damaged page, with which all of a stretch is refused."""

_TIMELINE: Final = (
    "SELECT ts, rev, record FROM history INDEXED BY timeline"
    " WHERE (ts, rev) > (?1, ?2) AND ts <= ?3 AND rev <= ?4 ORDER BY ts, rev LIMIT ?5"
)
_END: Final = (2**64, 0)


def read_by_time(db: apsw.Connection, plan: QueryPlan, pace: Pace) -> Iterator[Key]:
    """Yield the keys of the records that are meant, from where the page starts.

    Ends where the page should end by its time, once it has a row.
    """
    start, is_meant = plan.start, plan.records.get
    while start < _END:
        pace.check()
        keys, start = _read_stretch(db, plan, start)
        for key in keys:
            if is_meant(key[2]) is not None:
                pace.found_row()
                yield key
        if pace.is_over():
            pace.was_cut = start < _END
            return


def _read_stretch(
    db: apsw.Connection, plan: QueryPlan, start: tuple[int, int]
) -> tuple[list[Key], tuple[int, int]]:
    """Return the keys behind `start` in order, and where they end, `_END` where no more come."""
    size = _CAREFUL_STRETCH if plan.is_careful else _STRETCH
    bounds = (*start, plan.end_ms, plan.last_rev_on_disk, size)
    with naming(f"{INDEX} from ts {start[0]} on", db):
        on_disk = cast("list[Key]", db.execute(_TIMELINE, bounds).fetchall())
    end = on_disk[-1][:2] if len(on_disk) == size else _END
    in_tail = heapq.nsmallest(size, tail_keys(plan, start, end))
    if len(in_tail) == size:
        end = in_tail[-1][:2]
        on_disk = [key for key in on_disk if key[:2] <= end]
    return sorted(on_disk + in_tail), end


def tail_keys(
    plan: QueryPlan, start: tuple[int, int], end: tuple[int, int] = _END
) -> Iterator[Key]:
    """Yield entries that are not on disk yet, behind `start` and up to `end`, in no order."""
    first_ts, last_ts = start[0], min(plan.end_ms, end[0])
    for entries in plan.tails:
        # A copy of the dict: commits add to it meanwhile, on another thread.
        for record, found in entries.copy().items():
            for ts, rev in found[:]:
                is_there = plan.merged_rev < rev <= plan.as_of
                if first_ts <= ts <= last_ts and is_there and start < (ts, rev) <= end:
                    yield ts, rev, record
