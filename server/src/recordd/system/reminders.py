"""Calls at a time to come, one task for all of them.

Each open connection is looked at now and then. A task for each, asleep until then, takes
4 KiB; an entry here takes 0.2.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["Reminder", "Reminders"]

logger: Final = logging.getLogger(__name__)

_FEW: Final = 64
"""So many that were dropped may stay; past it they are cleared away when they are half of all."""


class Reminder:
    """One call to come."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at: Final = at
        self.call: Callable[[], None] | None = call
        """None once it was made or dropped: it holds nobody in memory then."""

    def __lt__(self, other: Reminder) -> bool:
        return self.at < other.at


class Reminders:
    """Calls to come, by Trio's clock."""

    def __init__(self) -> None:
        self._heap: list[Reminder] = []
        self._dropped = 0
        """How many of the heap are."""
        self._sleep = trio.CancelScope()

    def __len__(self) -> int:
        return len(self._heap) - self._dropped

    @property
    def kept(self) -> int:
        """How many are in memory: of the dropped no more than of the others, or a few."""
        return len(self._heap)

    def add(self, at: float, call: Callable[[], None]) -> Reminder:
        """Have `call` called at a time, or soon after, by the task of `run`."""
        reminder = Reminder(at, call)
        heapq.heappush(self._heap, reminder)
        if at < self._sleep.deadline:
            self._sleep.deadline = at
        return reminder

    def drop(self, reminder: Reminder) -> None:
        """Call it no more, where it has not been called yet."""
        if reminder.call is None:
            return
        reminder.call = None
        self._dropped += 1
        if self._dropped > max(_FEW, len(self._heap) // 2):
            self._heap = [each for each in self._heap if each.call is not None]
            heapq.heapify(self._heap)
            self._dropped = 0

    async def run(self) -> None:
        """Make the calls, for ever. What one of them raises is logged; the others are made."""
        while True:
            first = self._heap[0].at if self._heap else math.inf
            with trio.CancelScope(deadline=first) as self._sleep:
                await trio.sleep_forever()
            self._call_due(trio.current_time())

    def _call_due(self, now: float) -> None:
        while self._heap and self._heap[0].at <= now:
            reminder = heapq.heappop(self._heap)
            call, reminder.call = reminder.call, None
            if call is None:
                self._dropped -= 1
                continue
            try:
                call()
            except Exception:
                logger.exception("a reminder failed")
