"""What `server.stats` counts."""

from __future__ import annotations

__all__ = ["Counters"]


class Counters:
    """Counts since start, or of now."""

    def __init__(self) -> None:
        self.updates_skipped = 0
        self.resyncs = 0
