"""The merge of the tail into the index, a slice at a time.

Theory of operation. What has gathered becomes a run (`Tail.start_run`). The run is sorted first, a
part at a time; then slices of it go into the index, and the last one moves the mark. Where nobody
waits for the index they go on beside the loop until a write waits for the connection, and again
behind its commit. So a slice takes as long as the loop takes to publish what was committed, to
answer it, and to read and plan the next. Where each slice had its 16,000 rows, whoever waited, the
loop stood still for a third of a load (four requests of 1,000 rows in flight).
"""

from __future__ import annotations

import time
from typing import Final

import apsw
import trio

from recordd.extending.backend import (
    BackendError,
    DamagedStorage,
    FatalBackendError,
    PassingBackendError,
    PersistenceError,
    RestartNeeded,
    UnreadableStorage,
)
from recordd.persistence.sqlite import statements
from recordd.persistence.sqlite.beside import Beside
from recordd.persistence.sqlite.damage import INDEX
from recordd.persistence.sqlite.merge_pace import MergePace
from recordd.persistence.sqlite.tail import Key, Run, Tail
from recordd.persistence.sqlite.writing import WritingSide

__all__ = ["Merger"]

_RUN_START: Final = (-1, -1, -1)
"""Before every entry of a run: neither ids, times nor revs are negative."""
_SORTED_AT_ONCE: Final = 4096
"""Revs whose rows are sorted for the index in one step, some 2 ms: a write may wait for it."""


class Merger:
    """Merges a tail into the index of a file."""

    def __init__(
        self,
        tail: Tail,
        writing: WritingSide,
        beside: Beside,
        *,
        tail_rows: int,
        is_index_lost: bool,
    ) -> None:
        """Merge where more than `tail_rows` have gathered.

        `is_index_lost` says that the last start could not make the index anew.
        """
        self.merges = 0
        self.pace: Final = MergePace()
        self._tail: Final = tail
        self._writing: Final = writing
        self._beside: Final = beside
        self._tail_rows: Final = tail_rows
        self._is_index_lost: Final = is_index_lost
        self._use: Final = trio.Lock()
        self._merged_to: Key | None = None  # of the run, None where it is not sorted yet
        self._sorted: tuple[int, int] | None = None  # of the run: up to which rev, and how many
        self._goes_on_beside = False  # the run that is under way, behind each commit

    @property
    def is_at_rest(self) -> bool:
        """Whether no run is under way, and nothing goes on beside the loop."""
        return not self._tail.is_merging and self._beside.is_free

    async def merge_some(self, newest_rev: int, awaited_rev: int | None) -> bool:
        """Merge a slice where a run is due; return whether there may be a further one to merge.

        A run is due when enough has gathered, or when somebody waits for the index up to a rev.
        With an `awaited_rev` of None nobody waits, neither for the index nor for what comes behind
        it. `newest_rev` is the newest row's.

        Raises:
            BackendError: of this slice, or of one beside the loop that nobody was told of.
        """
        tail = self._tail
        if self._can_wait(awaited_rev) and self._beside.is_busy:
            return False
        self._goes_on_beside = False
        await self._beside.join()
        if not tail.is_merging and len(tail) and self._is_due(awaited_rev or 0):
            tail.start_run(newest_rev)
        if self._can_wait(awaited_rev):
            self._goes_on_beside = tail.is_merging
            if tail.is_merging or self._writing.is_checkpoint_due:
                self._beside.start(self._keep_house)
            return False
        await self._writing.checkpoint_if_due()
        if not tail.is_merging:
            return False
        await self._merge_slice()
        # Writes must not outrun the merge: past a second tail they wait for it.
        while tail.is_merging and self._is_full:
            await self._merge_slice()
        return True

    def go_on_beside(self) -> None:
        """Begin the next slice of a run that goes on beside the loop, behind a commit."""
        if self._goes_on_beside and self._tail.is_merging and self._beside.is_free:
            self._beside.start(self._keep_house)

    async def bound_tail(self) -> None:
        """Merge where a second tail is full: housekeeping rests, or cannot.

        Raises:
            RestartNeeded: the next start makes the index anew.
            BackendError: it would not help.
        """
        while self._tail.is_merging and len(self._tail) >= self._tail_rows:
            try:
                await self._merge_slice()
            except FatalBackendError:
                raise
            except PersistenceError as fault:
                raise self._refuse_rows(fault) from None

    @property
    def _is_full(self) -> bool:
        """Whether no more rows should gather: what they take must fit on a full disk too."""
        return len(self._tail) >= min(self._tail_rows, self._writing.max_unmerged_rows)

    def _can_wait(self, awaited_rev: int | None) -> bool:
        return awaited_rev is None and not self._is_full

    def _is_due(self, awaited_rev: int) -> bool:
        return self._is_full or self._tail.merged_rev < awaited_rev

    async def _keep_house(self) -> None:
        """Copy the WAL into the file where it is long, and merge a slice; go on until awaited.

        The copying cannot be cut short, so it comes first, when a write is least to be expected.
        """
        await self._writing.checkpoint_if_due()
        while self._tail.is_merging:
            await self._merge_slice()
            if self._beside.is_awaited:
                return
            await self._writing.checkpoint_if_due()

    async def _merge_slice(self) -> None:
        """Merge a slice of the run; before the first one, sort some of the run."""
        async with self._use:
            if (run := self._tail.run) is None:  # somebody else has merged the last one
                return
            if self._merged_to is None:
                await self._sort_some(run)
                return
            started_s = time.perf_counter()
            self.merges += await self._writing.in_slices(
                lambda slice_rows: self._merge_rows(run, slice_rows), self.pace.times
            )
            self.pace.note(time.perf_counter() - started_s)

    async def _sort_some(self, run: Run) -> None:
        """Sort some rows of the run; where the log has not all of them, memory has."""
        if self._sorted is None:
            await self._writing.commit(None, statements.begin_run)
        after_rev, rows = self._sorted or (run.after_rev, 0)
        last_rev = min(run.last_rev, after_rev + _SORTED_AT_ONCE)
        try:
            rows += await self._writing.commit(
                None, lambda db: statements.sort_rows(db, after_rev, last_rev)
            )
        except DamagedStorage:  # of the log; it is noted
            rows, last_rev = 0, run.last_rev
        if last_rev < run.last_rev:
            self._sorted = (last_rev, rows)
            return
        if rows != run.size:
            self._tail.sort_out()
            await self._writing.commit(None, lambda db: statements.sort_run_of_memory(db, run))
        self._sorted, self._merged_to = None, _RUN_START

    async def _merge_rows(self, run: Run, slice_rows: int) -> bool:
        """Merge so many rows of the run; return whether they were its last."""
        behind = self._merged_to
        assert behind is not None, "it is sorted"

        def merge(db: apsw.Connection) -> Key | None:
            return statements.merge_slice(
                db, run.last_rev, behind, slice_rows, lambda: self._beside.is_awaited
            )

        self._merged_to = await self._writing.commit(None, merge)
        if self._merged_to is not None:
            return False
        self._tail.end_run()
        return True

    def _refuse_rows(self, fault: PersistenceError) -> BackendError:
        """Say what memory has no room for rows for, and what comes of that."""
        text = f"rows cannot be indexed any more: {fault}"
        is_passing = isinstance(fault, UnreadableStorage)
        is_of_index = isinstance(fault, DamagedStorage) and fault.part == INDEX
        if is_of_index and not is_passing and not self._is_index_lost:
            return RestartNeeded(f"{text}; the next start makes the index anew")
        return PassingBackendError(f"writes wait until they can: {text}")
