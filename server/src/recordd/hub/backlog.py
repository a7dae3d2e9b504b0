"""The newest commits, kept in memory, row by row.

A subscription that is a little behind is fed from here: storage could do it, at the cost of a
thread, a query and a page for each of a thousand slow readers. The bound is in bytes, not in
rows or seconds, since memory is the scarce thing.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Final

from recordd.extending.columns import RowColumns
from recordd_protocol.rows import Row

__all__ = ["Backlog"]

_ROW_BYTES: Final = 512
"""What a row takes in memory beside its value, about."""


class _Commit:
    """Rows published together: the hub's tick and rev before the first of them."""

    __slots__ = ("rev_before", "rows", "size", "tick_before")

    def __init__(self, rows: Sequence[Row], tick_before: int, rev_before: int) -> None:
        self.rows: Final = RowColumns.of(rows)
        self.tick_before: Final = tick_before
        self.rev_before: Final = rev_before
        self.size: Final = sum(map(len, self.rows.values)) + _ROW_BYTES * len(rows)


class Backlog:
    """Commits by the hub's tick, which counts rows; the oldest give way past `max_bytes`.

    The newest stays in any case: one large commit makes nobody who keeps up a slow reader.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes
        self._commits: Final[collections.deque[_Commit]] = collections.deque()
        self._size = 0

    @property
    def size_bytes(self) -> int:
        """What the commits take in memory, about."""
        return self._size

    def append(self, rows: Sequence[Row], *, tick_before: int, rev_before: int) -> None:
        """Take the rows of a commit."""
        commit = _Commit(rows, tick_before, rev_before)
        self._commits.append(commit)
        self._size += commit.size
        while self._size > self._max_bytes and len(self._commits) > 1:
            self._size -= self._commits.popleft().size

    def covers(self, tick: int) -> bool:
        """Tell whether every row that was published after `tick` is here."""
        return bool(self._commits) and self._commits[0].tick_before <= tick

    def rows_after(self, tick: int) -> Iterator[Row] | None:
        """Return the rows that were published after `tick`, or None where some are not here."""
        return self._iterate(tick) if self.covers(tick) else None

    def find_tick(self, rev: int) -> int | None:
        """Return the tick of the last row up to `rev`; None where rows after it are not here."""
        for commit in reversed(self._commits):
            if commit.rev_before <= rev:
                passed = 0
                for number, row_rev in enumerate(commit.rows.revs, 1):
                    if row_rev is not None and row_rev <= rev:
                        passed = number
                return commit.tick_before + passed
        return None

    def _iterate(self, tick: int) -> Iterator[Row]:
        newer = []
        for commit in reversed(self._commits):
            newer.append(commit)
            if commit.tick_before <= tick:
                break
        for commit in reversed(newer):
            yield from commit.rows[max(0, tick - commit.tick_before) :]
