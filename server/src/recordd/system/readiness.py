"""Which sockets can be read: one wait for all of them.

Theory of operation. A task that waits until its own socket can be read costs, for each request,
a system call to arm the wait and a turn of Trio's scheduler: of 16 connections that ask for one
value at a time, 10 of 26 µs. So one task waits for all: for an epoll descriptor, which can be read
itself while any of its sockets can. It then has each of those take a step, which reads and
answers without a wait.

Mostly that is all there is to do. Where a step comes upon something that has to be awaited, the
socket's own task is woken with it, and the socket is not looked at until that task has come back:
a slow connection holds nobody up, and is not read on.

Where there is no such descriptor, or the system has no room for one more socket in it, each task
waits for its own, and takes the same steps.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import trio

from recordd.system.turns import TURN_S

__all__ = ["Readiness"]

T = TypeVar("T")

_AT_ONCE: Final = 256
"""Sockets that are asked for in one go; the system takes turns where there are more."""

_LONE_PASSES: Final = 8
"""In which a socket was the only one, until it is left to itself: to leave takes some 10 µs, and to
wait with the others 3.5 µs more for each request, where there are none."""


class _Reader(Generic[T]):
    """A socket, and the task that waits for something to await."""

    __slots__ = ("error", "outcome", "step", "task")

    def __init__(self, step: Callable[[], T | None], task: trio.lowlevel.Task) -> None:
        self.step: Final = step
        self.task: Final = task
        self.outcome: T | None = None
        self.error: Exception | None = None

    def take_step(self) -> bool:
        """Return whether the task is to go on: with an outcome, or with what was raised."""
        try:
            self.outcome = self.step()
        except Exception as error:  # it concerns this connection alone, whose task raises it
            self.error = error
            return True
        return self.outcome is not None


class Readiness:
    """The sockets that are waited for together."""

    def __init__(self) -> None:
        """Make one that waits for each socket by itself, until `run` does."""
        self._poll: select.epoll | None = None
        self._readers: Final[dict[int, _Reader[Any]]] = {}
        self._lone: int | None = None
        """The socket that is alone, and so waited for by its own task."""
        self._latest: int | None = None
        self._latest_passes = 0
        """How often in a row that was the only one that could be read."""

    async def step_until(self, descriptor: int, step: Callable[[], T | None]) -> T:
        """Call `step` each time the socket can be read, until it returns something; return that.

        It may be called when nothing is there, and by any task. Cancelled, or when it raises, it
        is called no more.

        The descriptor stays open meanwhile.
        """
        reader = _Reader(step, trio.lowlevel.current_task())
        while reader.outcome is None:
            if descriptor != self._lone and self._enter(descriptor, reader):
                await self._wait_together(descriptor, reader)
            else:
                await trio.lowlevel.wait_readable(descriptor)
                reader.outcome = step()
        return reader.outcome

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have the sockets take their steps, for ever; return where the system cannot tell of all.

        It is to outlast those who wait for theirs.
        """
        if (opened := _open_poll()) is None:
            task_status.started()
            return
        with contextlib.closing(opened) as poll:
            self._poll = poll
            task_status.started()
            try:
                while True:
                    await trio.lowlevel.wait_readable(poll.fileno())
                    await self._step_ready(poll)
            finally:
                self._poll = None

    async def _step_ready(self, poll: select.epoll) -> None:
        """Have each socket that can be read take one step; after a turn, let others run."""
        turn_ends = time.perf_counter() + TURN_S
        ready = poll.poll(0, _AT_ONCE)
        for descriptor, _ in ready:
            reader = self._readers.get(descriptor)
            if reader is not None and reader.take_step():
                self._wake(descriptor)
            if time.perf_counter() > turn_ends:
                await trio.lowlevel.checkpoint()
                turn_ends = time.perf_counter() + TURN_S
        self._find_lone([descriptor for descriptor, _ in ready])

    def _find_lone(self, ready: list[int]) -> None:
        """Leave to itself a socket that was the only one for a while, until there is another."""
        self._lone = None
        if len(ready) != 1 or ready[0] != self._latest:
            self._latest = ready[0] if ready else None
            self._latest_passes = 0
            return
        self._latest_passes += 1
        if self._latest_passes >= _LONE_PASSES and self._latest in self._readers:
            self._lone = self._latest
            self._wake(self._lone)

    async def _wait_together(self, descriptor: int, reader: _Reader[T]) -> None:
        """Wait for the task of `run` to wake this one."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._leave(descriptor)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if reader.error is not None:
            raise reader.error

    def _wake(self, descriptor: int) -> None:
        trio.lowlevel.reschedule(self._leave(descriptor).task)

    def _enter(self, descriptor: int, reader: _Reader[T]) -> bool:
        """Wait for a socket together with the others; return False where that cannot be."""
        if self._poll is None:
            return False
        try:
            self._poll.register(descriptor, select.EPOLLIN)
        except OSError:
            return False
        self._readers[descriptor] = reader
        return True

    def _leave(self, descriptor: int) -> _Reader[Any]:
        if self._poll is not None:
            self._poll.unregister(descriptor)
        return self._readers.pop(descriptor)


def _open_poll() -> select.epoll | None:
    """Return a descriptor that tells of many; None where the system has none, or no room."""
    if not hasattr(select, "epoll"):
        return None
    try:
        return select.epoll()
    except OSError:
        return None
