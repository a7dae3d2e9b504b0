"""What the records in memory tell of themselves, for `server.stats`."""

from __future__ import annotations

import msgspec

__all__ = ["HubStatistics", "SnapshotStatistics"]


class HubStatistics(msgspec.Struct, frozen=True):
    """The records, their rows and who follows them, now; and what those did not get."""

    records: int
    rows: int
    rev: int
    epoch: str
    latest_bytes: int
    backlog_bytes: int
    subscriptions: int
    topics: int
    updates_skipped: int
    resyncs: int


class SnapshotStatistics(msgspec.Struct, frozen=True):
    """The moments kept for further pages, and what they hold back at most."""

    snapshots: int
    bytes: int
