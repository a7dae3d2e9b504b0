"""The system's two clocks: one that may be set, and one that only runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Protocol

__all__ = ["SYSTEM_CLOCK", "Clock"]

_UPTIME: Final = Path("/proc/uptime")
# Linux's monotonic clock stands still while the machine sleeps; this one goes on.
_ELAPSED: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where times come from; tests bring one of their own."""

    def wall_ms(self) -> int:
        """Return Unix time, as somebody or something has set it."""

    def elapsed_ms(self) -> int:
        """Return a time that nobody sets; only differences mean anything."""


class _SystemClock:
    def __init__(self) -> None:
        self._has_uptime: Final = _UPTIME.exists()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Return how long the machine is up, its sleep included.

        The file is the kernel's own word; a library that makes a process believe in another
        date also sets the clocks that a call can read.
        """
        if self._has_uptime:
            return int(float(_UPTIME.read_text().split()[0]) * 1000)
        return time.clock_gettime_ns(_ELAPSED) // 1_000_000


SYSTEM_CLOCK: Final[Clock] = _SystemClock()
