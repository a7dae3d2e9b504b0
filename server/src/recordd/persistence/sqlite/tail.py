"""The tail: the newest rows' index entries, in memory until they are merged to disk.

An index in random order costs seven to twelve times the write rate, since every row
dirties a page of its own. So entries gather here and go to disk in sorted runs. A run is
written in slices; readers take its entries from here until the whole run is on disk.

Readers alone need the entries of each record, so these are sorted out when one comes: to do it
with each commit took 0.3 µs a row of 1,000 records and 0.9 of 100,000 (a tuple and a list for
each, which the garbage collector looks at), and of a large load nobody may ask. From then on
each commit is sorted out as it comes, until the next run starts: a reader finds few rows to do.
The first one after a quiet time finds two runs at most. To sort those out takes 100 ms where each
row is another record's: so who can, does it in steps, and lets others run between them.
"""

from __future__ import annotations

import collections
from bisect import insort
from collections.abc import Sequence
from typing import Final

import msgspec

from recordd.system.turns import Steps

__all__ = ["Entries", "Key", "Run", "Tail"]

Entries = dict[int, list[tuple[int, int]]]
"""Record id → (`ts`, `rev`) in order. Lists only ever grow, by late rows in the middle too: readers
on other threads look at copies, and at entries up to the `rev` that they know."""

_Pending = collections.deque[tuple[Sequence[int], Sequence[int], Sequence[int]]]
"""Records, times and revs of the rows of commits."""

Key = tuple[int, int, int]
"""(record id, `ts`, `rev`): the order of the index."""

_ROWS_A_STEP: Final = 256
"""At least, where so many are left: 0.1 ms, or 0.3 where each is of another record."""


class Run(msgspec.Struct, frozen=True):
    """What is merged: the rows of the log behind one rev and up to another.

    `size` is how many they are, and `entries` has each of them, as long as the run goes on, once
    `Tail.sort_out` was called.
    """

    after_rev: int
    last_rev: int
    size: int
    entries: Entries


class Tail:
    """Index entries above `merged_rev`: those gathering, and the run being merged."""

    def __init__(self, merged_rev: int) -> None:
        self.merged_rev = merged_rev
        self.run: Run | None = None
        self._gathering: Entries = {}
        self._pending: _Pending = collections.deque()
        """Commits whose entries gather and are not sorted out yet."""
        self._pending_run: _Pending = collections.deque()
        """Of the run, likewise."""
        self._is_asked = False
        """Whether a reader came since the last run started."""
        self._size = 0

    def __len__(self) -> int:
        """Entries that gather; those of the run are not counted."""
        return self._size

    @property
    def is_merging(self) -> bool:
        """Whether a run is under way."""
        return self.run is not None

    def append(self, record: int, ts: int, rev: int) -> None:
        """Add a committed row's entry."""
        self.extend([record], [ts], [rev])

    def extend(self, records: Sequence[int], times: Sequence[int], revs: Sequence[int]) -> None:
        """Add the entries of committed rows."""
        self._size += len(records)
        if self._is_asked:
            _file(records, times, revs, self._gathering)
        else:
            self._pending.append((records, times, revs))

    def has(self, record: int) -> bool:
        """Tell whether a record has rows that are not merged."""
        self.sort_out()
        return record in self._gathering or record in self._merging

    def snapshot(self) -> tuple[int, tuple[Entries, Entries]]:
        """Return `merged_rev` and the entries above it, for a reader on another thread."""
        self._is_asked = True
        self.sort_out()
        return self.merged_rev, (self._merging, self._gathering)

    def sort_out(self) -> None:
        """Put what came into the entries of its records."""
        while self._sort_some():
            pass

    def sort_in_steps(self) -> Steps[None]:
        """Do as `sort_out` for a reader that is about to ask; of few rows there is one step.

        What comes between the steps is sorted out too.
        """
        self._is_asked = True
        while self._sort_some():
            yield

    def _sort_some(self) -> bool:
        """Sort some rows out; return whether there are more."""
        rows = 0
        if self.run is not None:
            rows = _sort_some(self._pending_run, self.run.entries, _ROWS_A_STEP)
        _sort_some(self._pending, self._gathering, _ROWS_A_STEP - rows)
        return bool(self._pending_run or self._pending)

    def start_run(self, last_rev: int) -> None:
        """Turn what has gathered, all up to `last_rev`, into the run to merge."""
        assert not self.is_merging, "one run at a time"
        self.run = Run(self.merged_rev, last_rev, self._size, self._gathering)
        self._gathering = {}
        self._pending_run, self._pending = self._pending, collections.deque()
        self._is_asked = False
        self._size = 0

    def end_run(self) -> None:
        """Forget the run, all of which the disk has: the mark moves."""
        assert self.run is not None, "it is under way"
        self.merged_rev = self.run.last_rev
        self.run = None
        self._pending_run.clear()

    @property
    def _merging(self) -> Entries:
        return {} if self.run is None else self.run.entries


def _sort_some(pending: _Pending, entries: Entries, most_rows: int) -> int:
    """Add so many rows, or a commit's more, to the entries of their records; return how many.

    They are not pending then.
    """
    rows = 0
    while pending and rows < most_rows:
        records, times, revs = pending.popleft()
        _file(records, times, revs, entries)
        rows += len(records)
    return rows


def _file(
    records: Sequence[int], times: Sequence[int], revs: Sequence[int], entries: Entries
) -> None:
    """Add rows to the entries of their records."""
    for record, entry in zip(records, zip(times, revs, strict=True), strict=True):
        if (known := entries.get(record)) is None:
            entries[record] = [entry]
        elif entry > known[-1]:
            known.append(entry)
        else:
            insort(known, entry)
