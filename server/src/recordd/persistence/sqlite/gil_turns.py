"""Turns at the interpreter lock for database threads, while the event loop is busy.

A busy Trio loop releases the lock once a pass, around its `epoll_wait`, and takes it back
microseconds later. A thread that waits for the lock is woken by each release, finds it taken
again, and starts its wait anew (CPython 3.11, `Python/ceval_gil.h`). Only a thread that has
waited for a whole switch interval without a release demands the lock, and then gets it. With
the default of 5 ms one commit was measured to take over two seconds instead of 0.3 ms, with
the loop at 100 %.

So the interval is shorter than a long pass, in the middle of which a thread gets its turn
then. Passes that are shorter than a thread's wait give way with a sleep, while a database
call is in flight. A loop that stood in `epoll_wait` has given its turn there.

Measured with a call of some twenty turns: beside passes of 20, 100 and 500 µs it takes 630,
790 and 1,220 µs, and 350 beside an idle loop. With 500 µs of interval and a sleep at every
pass it took 640, 930, 2,490 and 490 µs, and the loop kept 52 % of its time instead of 84
between passes of 500 µs.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import trio

__all__ = ["GilTurns"]

_SHORTEST_SLEEP_S: Final = 1e-6
_SWITCH_INTERVAL_S: Final = 100e-6
"""Instead of 5 ms. With 5 µs, and timers without slack, a call takes half as long on a quiet
machine; on a busy one the threads take the processor from each other (p95 of 530 ms)."""
_TURN_S: Final = 150e-6
"""A wait for the switch interval, with the timer's slack: in a longer pass a thread demands."""


_LINGERING_PASSES: Final = 1000
"""To add and remove an instrument takes 19 µs, to be asked at a pass 0.3."""


class GilTurns(trio.abc.Instrument):
    """Gives way between short passes of the loop while `call` is held; costs nothing otherwise."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._calls = 0
        self._is_added = False
        self._unused_passes = 0
        self._resumed_at_s = 0.0
        sys.setswitchinterval(_SWITCH_INTERVAL_S)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Hold this around a call to a database thread."""
        if not self._is_added:
            trio.lowlevel.add_instrument(self)
            self._is_added = True
        self._unused_passes = 0
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    def after_io_wait(self, timeout: float) -> None:
        """Give way if the pass with its wait was short; called by Trio after each `epoll_wait`."""
        if not self._calls:
            self._linger()
            return
        now_s = self._clock()
        if now_s - self._resumed_at_s < _TURN_S:
            self._sleep(_SHORTEST_SLEEP_S)
            now_s = self._clock()
        self._resumed_at_s = now_s

    def _linger(self) -> None:
        """Stay for the next call, unless there are none."""
        self._unused_passes += 1
        if self._unused_passes >= _LINGERING_PASSES:
            trio.lowlevel.remove_instrument(self)
            self._is_added = False
