"""What waits to be sent on all connections together.

Each outbox is bounded by itself, but a thousand of them are a thousand times that. Past the
common bound a peer that has yet to take something gets no further answers and updates. Past
twice as much no peer does, and peers that take nothing are closed within a second.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Waiting", "WaitingStatistics"]


class WaitingStatistics(msgspec.Struct, frozen=True):
    """What waits to be sent on all connections now."""

    bytes: int


class Waiting:
    """The sum of all outboxes, which report to it what they hold."""

    __slots__ = ("max_bytes", "size")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes: Final = max_bytes
        self.size = 0

    def statistics(self) -> WaitingStatistics:
        """Return how much waits now."""
        return WaitingStatistics(bytes=self.size)

    @property
    def is_over(self) -> bool:
        """Whether more than the bound waits."""
        return self.size > self.max_bytes

    def refuses(self, *, is_behind: bool) -> bool:
        """Tell whether a peer gets no answer now; `is_behind`: it has yet to take one."""
        return self.size > (self.max_bytes if is_behind else 2 * self.max_bytes)
