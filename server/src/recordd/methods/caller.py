"""Who calls a method, and what its handler may use: no connection is needed for that."""

from __future__ import annotations

from typing import Final, Protocol

from recordd.core import Core
from recordd.methods.gate import Grants
from recordd.methods.peer import Peer
from recordd.methods.pending_queries import PendingQueries
from recordd_protocol.errors import Reason, RequestError

__all__ = ["Caller", "Subscriptions"]


class Subscriptions(Protocol):
    """What is open for a caller whom events can be sent to."""

    def close(self, subscription_id: str) -> bool:
        """End one at once; False where there is none of that id."""


class Caller:
    """A peer, its grants, the core, and what belongs to this caller alone.

    A connection's caller lives as long as the connection. Who calls without one makes a
    caller for as long as it likes: drains go on where the caller's previous one ended.
    """

    def __init__(
        self,
        core: Core,
        peer: Peer,
        grants: Grants,
        subscriptions: Subscriptions | None = None,
    ) -> None:
        self.core: Final = core
        self.peer: Final = peer
        self.grants: Final = grants
        self.queries: Final = PendingQueries(core.settings, core.request_counts)
        self.max_reply_bytes = core.settings.max_reply_bytes
        """How long the answer to the query may be whose turn it is."""
        self.drained: Final[dict[int, int]] = {}
        """How many values of each record (by id) this caller's drains have seen."""
        self._subscriptions: Final = subscriptions

    def need_subscriptions(self) -> Subscriptions:
        """Return the caller's subscriptions.

        Raises:
            RequestError: `invalid_request` where there is nobody to send events to.
        """
        if self._subscriptions is None:
            text = "subscriptions need a connection that events can be sent on"
            raise RequestError(Reason.INVALID_REQUEST, text)
        return self._subscriptions

    def close(self) -> None:
        """Let go what is kept for this caller: it will ask for no further pages."""
        self.core.snapshots.drop_of(self)
