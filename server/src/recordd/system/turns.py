"""Turns at the event loop, so that long work holds nobody up.

Work that takes longer than a turn is cut into slices of about `TURN_S`, with `Turns.next`
between two of them. However many connections have such work, one slice of it runs in each
pass of the loop: the others' wait does not grow with the number of busy connections.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from typing import Final, Generic, TypeVar

import trio

__all__ = ["TURN_S", "Steps", "Turns", "Work"]

TURN_S: Final = 0.002
"""How long one task may keep the loop to itself: long beside the 20 µs of a pass."""


_BEGINNING_S: Final = 0.0005
"""Time for new work before its first turn: a hundred may begin in one pass."""

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work in short steps of 100 µs or so: it yields between them, and returns its result."""


class Work(Generic[T]):
    """Steps, taken a turn at a time; `result` is there when they are done."""

    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps: Final = steps
        self._is_done = False

    def begin(self) -> bool:
        """Go on for less than a turn, without waiting for one; return whether it is done."""
        return self._advance(min(_BEGINNING_S, TURN_S))

    def advance(self) -> bool:
        """Go on for a turn; return whether it is done."""
        return self._advance(TURN_S)

    def _advance(self, turn_s: float) -> bool:
        clock = time.perf_counter
        turn_ends = clock() + turn_s
        try:
            while not self._is_done and clock() < turn_ends:
                next(self._steps)
        except StopIteration as stop:
            self.result = stop.value
            self._is_done = True
        return self._is_done


class Turns:
    """The queue of tasks with more work than fits a turn, first come, first served."""

    def __init__(self) -> None:
        # Trio hands the lock to the task that waits longest; it runs in the next pass, no sooner.
        self._lock: Final = trio.StrictFIFOLock()

    async def next(self) -> float:
        """Let others run; return when the turn that begins now ends, by `time.perf_counter`.

        Cancelled, no turn has begun.
        """
        async with self._lock:
            pass
        return time.perf_counter() + TURN_S

    async def run(self, steps: Iterable[object]) -> None:
        """Go through short steps to their end, a turn's worth at a time.

        Nothing else runs within a turn. Cancelled, it has come to the end of some turn.
        """
        clock = time.perf_counter
        turn_ends = clock() + TURN_S
        for _ in steps:
            if clock() > turn_ends:
                turn_ends = await self.next()
