"""How many queries may be pending: of one caller, and of all together."""

from __future__ import annotations

from typing import Final

from recordd.config.settings import Settings
from recordd.connections.request_counts import RequestCounts
from recordd_protocol.errors import Reason, RequestError

__all__ = ["PendingQueries"]


class PendingQueries:
    """The queries of one caller that are under way; `counts` has those of all."""

    __slots__ = ("_counts", "_max_own", "_max_total", "_own")

    def __init__(self, settings: Settings, counts: RequestCounts) -> None:
        self._max_own: Final = settings.max_pending_queries
        self._max_total: Final = settings.max_pending_queries_total
        self._counts: Final = counts
        self._own = 0

    def __len__(self) -> int:
        return self._own

    def check_room(self) -> None:
        """Refuse one more where there is no room for it, before any work is done for it.

        Raises:
            RequestError: `overloaded`.
        """
        if self._own >= self._max_own:
            limit = self._max_own
            text = f"max_pending_queries: {limit} are pending on this connection: wait for one"
            raise RequestError(Reason.OVERLOADED, text)
        if self._counts.pending_queries >= self._max_total:
            text = f"max_pending_queries_total: {self._counts.pending_queries} are pending"
            raise RequestError(Reason.OVERLOADED, text)

    def begin(self) -> None:
        """Count one in."""
        self._own += 1
        self._counts.pending_queries += 1

    def end(self) -> None:
        """Count it out, whatever came of it."""
        self._own -= 1
        self._counts.pending_queries -= 1
