"""A probe of the event loop: what each of its passes did, and which of them took long."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio


class LoopLag(trio.abc.Instrument):
    """Measures each pass of the loop, from the end of one wait for I/O to the next.

    `count` is read at the end of each pass: `most_counted` is its greatest growth in one.
    `slow` has the passes longer than `bound_s`: how long, and the tasks that ran in them.
    """

    def __init__(self, bound_s: float = 0.02, count: Callable[[], int] = lambda: 0) -> None:
        self.bound_s = bound_s
        self.slow: list[tuple[float, list[str]]] = []
        self.longest_s = 0.0
        self.passes = 0
        self.most_counted = 0
        self._count = count
        self._counted = count()
        self._ran: list[str] = []
        self._began = time.perf_counter()

    def after_io_wait(self, timeout: float) -> None:
        self._began = time.perf_counter()
        self._ran.clear()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        frames = [f"{f.f_code.co_qualname}:{line}" for f, line in task.iter_await_frames()]
        self._ran.append(" < ".join(reversed(frames[-4:])))

    def before_io_wait(self, timeout: float) -> None:
        took = time.perf_counter() - self._began
        self.passes += 1
        self.longest_s = max(self.longest_s, took)
        counted = self._count()
        self.most_counted = max(self.most_counted, counted - self._counted)
        self._counted = counted
        if took > self.bound_s:
            self.slow.append((took, list(self._ran)))
