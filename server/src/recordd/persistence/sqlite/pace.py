"""The disk's pace: whether a commit is so quick that the event loop can wait for it.

A disk that answers a sync in a fraction of a millisecond costs the loop less than a hop to a
thread and back. One that does not would hold every reader up. The last commits tell which it
is; the next one may be a stall all the same, and those are bounded together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Pace"]

_QUICK_S: Final = 0.0007
_SLOW_S: Final = 0.001
"""Between the two it stays as it was. A hop takes 0.15 ms, a turn of the loop 2 ms."""
_WEIGHT: Final = 1 / 8
_MOST_S: Final = 0.002
"""Of the newest commit in the typical one, and at most: half a dozen slow ones make the disk
slow, and a single one does not."""
_STALL_S: Final = 0.005
_REST_FACTOR: Final = 20
"""After a stall the loop does not wait for commits for so many times as long: stalls take no
more than a twentieth of its time, on whatever disk."""


class Pace:
    """What COMMIT takes, on the loop or on a thread."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock: Final = clock
        self._typical_s = 0.0
        self._is_quick = True
        self._rests_until_s = 0.0
        self._began_s: float | None = None

    @property
    def is_quick(self) -> bool:
        """Whether the loop can wait for the next commit."""
        return self._is_quick and (not self._rests_until_s or self._clock() >= self._rests_until_s)

    def begin(self) -> None:
        """Note that COMMIT begins; `end` is to follow, also where it fails."""
        self._began_s = self._clock()

    def end(self) -> None:
        """Note that COMMIT has ended; does nothing where none has begun."""
        if self._began_s is None:
            return
        now_s = self._clock()
        taken_s, self._began_s = now_s - self._began_s, None
        self._typical_s += (min(taken_s, _MOST_S) - self._typical_s) * _WEIGHT
        if taken_s >= _STALL_S:
            self._rests_until_s = now_s + taken_s * _REST_FACTOR
        if self._typical_s > _SLOW_S:
            self._is_quick = False
        elif self._typical_s < _QUICK_S:
            self._is_quick = True
