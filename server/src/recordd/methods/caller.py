"""What a handler may know of the connection that asks."""

from __future__ import annotations

from typing import Final

from recordd.core import Core
from recordd.following.open_subscriptions import OpenSubscriptions
from recordd.methods.gate import Grants

__all__ = ["Caller"]


class Caller:
    """The core, and what belongs to one connection alone."""

    def __init__(self, core: Core, subscriptions: OpenSubscriptions, grants: Grants) -> None:
        self.core: Final = core
        self.subscriptions: Final = subscriptions
        self.grants: Final = grants
        self.max_reply_bytes = core.settings.max_reply_bytes
        """How long the answer to the query may be whose turn it is."""
        self.drained: Final[dict[int, int]] = {}
        """How many values of each record (by id) this connection's drains have seen."""
