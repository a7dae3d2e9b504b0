"""What all connections have asked, counted by their sessions."""

from __future__ import annotations

import msgspec

__all__ = ["RequestCounts", "RequestStatistics"]


class RequestStatistics(msgspec.Struct, frozen=True):
    """Requests since the start, and those under way now."""

    requests: int
    request_errors: int
    unanswered_write_errors: int
    pending_queries: int


class RequestCounts:
    """The sum of all sessions, which count in it."""

    __slots__ = ("pending_queries", "received", "refused", "unanswered_writes_refused")

    def __init__(self) -> None:
        self.received = 0
        self.refused = 0
        """Requests, and messages that could not be read."""
        self.unanswered_writes_refused = 0
        """Those whose sender is not told."""
        self.pending_queries = 0
        """Queries of the history under way."""

    def statistics(self) -> RequestStatistics:
        """Return the counts of now."""
        return RequestStatistics(
            requests=self.received,
            request_errors=self.refused,
            unanswered_write_errors=self.unanswered_writes_refused,
            pending_queries=self.pending_queries,
        )
