"""Turns at the interpreter lock for database threads, while the event loop is busy.

A busy Trio loop releases the lock once a pass, around its `epoll_wait`, and takes it back
microseconds later. A thread that waits for the lock is woken by each release, finds it
taken again, and starts its wait anew without ever demanding it: one commit was measured
to take over two seconds that way, instead of 0.3 ms, with the loop at 100 % (CPython 3.11,
`Python/ceval_gil.h`). So while a database call is in flight the loop sleeps for the
shortest time the system knows, once a pass: long enough for the thread to get its turn.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final

import trio

__all__ = ["GilTurns"]

_SHORTEST_SLEEP_S: Final = 1e-6
_SWITCH_INTERVAL_S: Final = 0.0005
"""Instead of 5 ms: bounds the cost of one long pass of the loop to a thread."""


class GilTurns(trio.abc.Instrument):
    """Gives way once a pass of the loop while `call` is held; costs nothing otherwise."""

    def __init__(self) -> None:
        self._calls = 0
        sys.setswitchinterval(_SWITCH_INTERVAL_S)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Hold this around a call to a database thread."""
        if not self._calls:
            trio.lowlevel.add_instrument(self)
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        """Give way; called by Trio after each `epoll_wait`."""
        time.sleep(_SHORTEST_SLEEP_S)
