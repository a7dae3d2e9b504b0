"""The tail: the newest rows' index entries, in memory until they are merged to disk.

An index in random order costs seven to twelve times the write rate, since every row
dirties a page of its own. So entries gather here and go to disk in sorted runs. A run is
written in slices; readers take its entries from here until the whole run is on disk.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import msgspec

__all__ = ["Entries", "MergedRun", "Run", "Tail"]

Entries = dict[int, list[tuple[int, int]]]
"""Record id → (`ts`, `rev`) in order. Lists only ever grow, by late rows in the middle too: readers
on other threads look at copies, and at entries up to the `rev` that they know."""

Run = list[tuple[int, int, int]]
"""(record id, `ts`, `rev`), in index order."""


class MergedRun(msgspec.Struct, frozen=True):
    """A run that is merged: the rev up to which, and its rows by record id."""

    rev: int
    counts: dict[int, int]


class Tail:
    """Index entries above `merged_rev`: those gathering, and the run being merged."""

    def __init__(self, merged_rev: int) -> None:
        self.merged_rev = merged_rev
        self._gathering: Entries = {}
        self._merging: Entries = {}
        self._run: Run = []
        self._records: list[int] = []  # of the run, whose entries are not in `_run` yet
        self._run_rev = merged_rev
        self._size = 0

    def __len__(self) -> int:
        """Entries that gather; those of the run are not counted."""
        return self._size

    @property
    def is_merging(self) -> bool:
        """Whether a run is under way."""
        return bool(self._run or self._records)

    def append(self, record: int, ts: int, rev: int) -> None:
        """Add a committed row's entry."""
        self.extend([record], [ts], [rev])

    def extend(self, records: Sequence[int], times: Sequence[int], revs: Sequence[int]) -> None:
        """Add the entries of committed rows."""
        gathering = self._gathering
        for record, entry in zip(records, zip(times, revs, strict=True), strict=True):
            if (entries := gathering.get(record)) is None:
                gathering[record] = [entry]
            elif entry > entries[-1]:
                entries.append(entry)
            else:
                insort(entries, entry)
        self._size += len(records)

    def has(self, record: int) -> bool:
        """Tell whether a record has rows that are not merged."""
        return record in self._gathering or record in self._merging

    def snapshot(self) -> tuple[int, tuple[Entries, Entries]]:
        """Return `merged_rev` and the entries above it, for a reader on another thread."""
        return self.merged_rev, (self._merging, self._gathering)

    def start_run(self, last_rev: int) -> None:
        """Turn what has gathered, all up to `last_rev`, into the run to merge."""
        assert not self.is_merging, "one run at a time"
        self._merging, self._gathering = self._gathering, {}
        self._size = 0
        # Entries are sorted record by record, as slices need them: all at once takes 40 ms.
        self._records = sorted(self._merging, reverse=True)
        self._run_rev = last_rev

    def next_slice(self, rows: int) -> tuple[Run, MergedRun | None]:
        """Return the run's next entries, and with its last ones what the run came to."""
        while self._records and len(self._run) < rows:
            record = self._records.pop()
            self._run += [(record, ts, rev) for ts, rev in self._merging[record]]
        entries = self._run[:rows]
        if len(entries) < len(self._run) or self._records:
            return entries, None
        counts = {record: len(found) for record, found in self._merging.items()}
        return entries, MergedRun(self._run_rev, counts)

    def drop_slice(self, rows: int) -> None:
        """Forget entries that `next_slice` gave and the disk has; after the last, move the mark."""
        del self._run[:rows]
        if not self.is_merging:
            self.merged_rev = self._run_rev
            self._merging = {}
