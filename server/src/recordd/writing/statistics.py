"""What the writing side tells of itself, for `server.stats`."""

from __future__ import annotations

import msgspec

__all__ = ["QueueStatistics", "WriterStatistics"]


class QueueStatistics(msgspec.Struct, frozen=True):
    """How much waits to be written now."""

    requests: int
    bytes: int


class WriterStatistics(msgspec.Struct, frozen=True):
    """What the writer has done since the start; of one that does not run yet, nothing."""

    commits: int = 0
    rows_committed: int = 0
    housekeeping_errors: int = 0
