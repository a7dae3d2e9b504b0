"""Housekeeping on the writing connection that goes on while the loop does other things.

A slice of the merge, or a checkpoint, takes as long as the loop takes to publish a large batch,
to answer it, and to read and plan the next one. One behind the other, the loop stands still
for the one and the disk for the other. So nobody waits for the slice but who needs the
connection next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from recordd.extending.backend import FatalBackendError

__all__ = ["Beside"]


class Beside:
    """At most one piece of work that goes on by itself."""

    def __init__(self) -> None:
        self._ended: trio.Event | None = None
        self._fault: Exception | None = None
        self._waiting = 0

    @property
    def is_busy(self) -> bool:
        """Whether the work goes on still."""
        return self._ended is not None

    @property
    def is_free(self) -> bool:
        """Whether work can begin: none goes on, and no fault is untold."""
        return self._ended is None and self._fault is None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for its end; threads may ask too."""
        return self._waiting > 0

    def start(self, work: Callable[[], Awaitable[object]]) -> None:
        """Begin the work, in a task of its own; what goes wrong is told by `join`."""
        assert self.is_free, "one at a time, and not behind a fault that nobody knows"
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, work)

    async def wait(self) -> None:
        """Wait until nothing goes on any more, to the end, also when cancelled.

        Raises:
            FatalBackendError: the work met it, now or earlier.
        """
        if self._ended is not None:  # a scope takes 10 µs, and every commit asks
            self._waiting += 1
            with trio.CancelScope(shield=True):
                while self._ended is not None:  # another may have begun when this task runs again
                    await self._ended.wait()
            self._waiting -= 1
        if isinstance(self._fault, FatalBackendError):
            raise self._fault

    async def join(self) -> None:
        """Wait as `wait` does, and tell once what went wrong.

        Raises:
            Exception: of the work.
        """
        await self.wait()  # a fatal fault stays: nothing is to go on behind it
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    async def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        assert self._ended is not None, "just made"
        try:
            await work()
        except Exception as fault:  # raised again by `join`
            self._fault = fault
        finally:
            self._ended.set()
            self._ended = None
