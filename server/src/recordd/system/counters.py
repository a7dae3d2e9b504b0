"""What `server.stats` counts."""

from __future__ import annotations

__all__ = ["Counters"]


class Counters:
    """Counts since start, or of now."""

    def __init__(self) -> None:
        self.connections = 0
        self.connections_total = 0
        self.connections_refused = 0
        self.accept_errors = 0
        self.idle_closed = 0
        self.dead_peers_closed = 0
        self.requests = 0
        self.request_errors = 0
        self.unanswered_write_errors = 0
        self.updates_skipped = 0
        self.resyncs = 0
        self.slow_peers_closed = 0
