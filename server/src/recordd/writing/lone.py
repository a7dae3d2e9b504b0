"""Who may have a write committed before anybody else runs: the connection that writes alone.

Such a commit is one request's. Where many connections write, each would have a commit of its
own so, and hold the others up meanwhile: they wait for the writer's task instead, and share one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from recordd.writing.requests import Flush, WriteRequest, WriteRows

__all__ = ["LoneWriter"]

_PAUSE_S: Final = 0.005
"""With no commit for so long nobody is taken to write at the same time: a commit and the way to
the next request take some 0.5 ms."""

_MOST_ROWS: Final = 64
"""Of a request: some 60 µs to plan and publish, beside what its commit takes."""

_ROWS_BETWEEN: Final = 256
"""Committed so until the writer's task has a turn: it is the one that keeps house."""

_REFUSED_S: Final = 0.01
"""Until storage is asked again: a plan in vain takes 20 µs, which a slow disk would cost each
write."""


class LoneWriter:
    """The connection that had the last commit, where it had that alone."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock: Final = clock
        self._last: Flush | None = None
        self._committed_at_s = -_PAUSE_S
        self._rows_left = _ROWS_BETWEEN
        self._not_before_s = -math.inf

    def note_refusal(self) -> None:
        """Note that storage could not commit at once: on a slow disk it will not, for a while."""
        self._not_before_s = self._clock() + _REFUSED_S

    def note_batch(self, batch: Sequence[WriteRequest]) -> None:
        """Note who had a commit of the writer's task."""
        flushes = {request.flush for request in batch}
        self._last = flushes.pop() if len(flushes) == 1 else None
        self._committed_at_s = self._clock()
        self._rows_left = _ROWS_BETWEEN

    def may_commit(self, request: WriteRows) -> bool:
        """Tell whether a request may be committed at once; if so, it is taken to be."""
        rows, now_s = len(request.items), self._clock()
        if rows > min(_MOST_ROWS, self._rows_left) or now_s < self._not_before_s:
            return False
        if request.flush is not self._last and now_s < self._committed_at_s + _PAUSE_S:
            return False
        self._last = request.flush
        self._committed_at_s = now_s
        self._rows_left -= rows
        return True
