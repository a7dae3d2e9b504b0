"""Turns at the interpreter lock for database threads, while the event loop is busy.

A busy Trio loop releases the lock once a pass, around its `epoll_wait`, and takes it back
microseconds later. A thread that waits for the lock is woken by each release, finds it
taken again, and starts its wait anew without ever demanding it: one commit was measured
to take over two seconds that way, instead of 0.3 ms, with the loop at 100 % (CPython 3.11,
`Python/ceval_gil.h`). So while a database call is in flight the loop sleeps for the
shortest time the system knows, once a pass: long enough for the thread to get its turn.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import trio

__all__ = ["GilTurns"]

_SHORTEST_SLEEP_S: Final = 1e-6
_SWITCH_INTERVAL_S: Final = 0.0005
"""Instead of 5 ms: bounds what one long pass of the loop costs a thread."""


class GilTurns(trio.abc.Instrument):
    """Install one per run; database calls count themselves in `calls_in_flight`."""

    def __init__(self) -> None:
        self.calls_in_flight = 0

    def install(self) -> None:
        """Watch the running loop from now on, until it ends."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        trio.lowlevel.add_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        """Give way once a pass of the loop; called by Trio."""
        if self.calls_in_flight:
            time.sleep(_SHORTEST_SLEEP_S)
