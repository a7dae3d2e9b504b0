"""Group commit: for whom the next commit waits a little.

A batch is what came while the last one was committed. Those who were answered then come at once,
if they come: a pass or two of the loop is enough for them.
"""

from __future__ import annotations

import time
from typing import Final

import trio

from recordd.writing.queue import WriteQueue

__all__ = ["Gathering"]

_GATHER_S: Final = 0.003
"""How long a batch may be gathered: some hundred requests are read in that time."""

_QUIET_PASSES: Final = 2
"""Of the loop. In a single one the writer may run before the sessions that have something."""

_COMMITS_BETWEEN: Final = 8
"""Two clients that come to write in turns share their commits after so many."""


class Gathering:
    """How many requests the next commit is expected to have."""

    def __init__(self, queue: WriteQueue) -> None:
        self._queue: Final = queue
        self._expected = self._last_batch = 1
        self._commits_to_wait = 0
        """So many commits pass before those of two are expected together again."""

    async def gather(self) -> None:
        """Let those come who were answered last, if they come at once: they share one commit.

        A lone write waits for nobody, nor does one behind which nothing more comes. Without
        this, clients that write in lock-step fall into two halves, whose commits take turns:
        64 clients make 33 rows a commit, and not nearly 64.
        """
        waiting, quiet_passes = len(self._queue), 0
        ends_at_s = time.perf_counter() + _GATHER_S
        while (
            0 < waiting < self._expected
            and quiet_passes < _QUIET_PASSES
            and time.perf_counter() < ends_at_s
        ):
            await trio.lowlevel.cancel_shielded_checkpoint()
            has_come = len(self._queue) - waiting
            quiet_passes = 0 if has_come else quiet_passes + 1
            waiting += has_come

    def note_commit(self, size: int) -> None:
        """Take note of a commit of `size` requests: how many may come before the next one.

        Where more may have been on the way, those of the commit before are expected too: two
        halves become one. Where fewer came, there were no others; who expects them again at
        every other commit gives 30 µs away each time, so that rests until a larger one, or a while.
        """
        is_lone = size == self._last_batch == 1
        if size < self._expected:
            self._commits_to_wait = _COMMITS_BETWEEN
        elif size > self._last_batch:
            self._commits_to_wait = 0
        has_others = size >= self._expected and not is_lone and not self._commits_to_wait
        self._commits_to_wait = max(0, self._commits_to_wait - 1)
        self._expected = size + self._last_batch if has_others else size
        self._last_batch = size
