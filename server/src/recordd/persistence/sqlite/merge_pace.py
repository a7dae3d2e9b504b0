"""How large the slices are in which the index is merged.

A slice is written in the index's own order, by record, and the timeline's is another: entries
of all times are in every slice, so each one writes nearly every page of the timeline that the
run touches. One million rows of 1,000 records came to 763 MB written in slices of 2,000 rows,
552 in slices of 8,000 and 528 in slices of 16,000, with a fifth less CPU. But a write waits for a
slice that somebody waits for, and cuts short only the one beside the loop, so how long a slice
takes decides.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MergePace"]

_QUICK_S: Final = 0.02
_SLOW_S: Final = 0.04
"""Between the two it stays as it was: twice as many rows may take twice as long."""
_MOST_TIMES: Final = 8


class MergePace:
    """How many times as large as another slice of housekeeping the next one is."""

    def __init__(self) -> None:
        self.times = 1

    def note(self, taken_s: float) -> None:
        """Note how long a slice took."""
        if taken_s < _QUICK_S:
            self.times = min(2 * self.times, _MOST_TIMES)
        elif taken_s > _SLOW_S:
            self.times = max(1, self.times // 2)
