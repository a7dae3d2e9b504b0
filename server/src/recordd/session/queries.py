"""What takes long on one connection: each in a task, beside which the next requests go on."""

from __future__ import annotations

from typing import Final

import trio

from recordd.connections.outbox import Outbox
from recordd.methods.outcome import Later
from recordd.methods.pending_queries import PendingQueries
from recordd.session.replies import Replies
from recordd.system.parking import SpareLot
from recordd_protocol.dialect import Call

__all__ = ["Queries"]


class Queries:
    """The tasks of queries under way; `settled` is unparked when one ends."""

    def __init__(
        self,
        nursery: trio.Nursery,
        outbox: Outbox,
        replies: Replies,
        pending: PendingQueries,
        *,
        parallel: int,
        settled: SpareLot,
    ) -> None:
        """Take where tasks run, and how many of them `parallel` at a time."""
        self._nursery: Final = nursery
        self._outbox: Final = outbox
        self._replies: Final = replies
        self._pending: Final = pending
        self._parallel: Final = parallel
        self._few: trio.CapacityLimiter | None = None
        self._settled: Final = settled

    def begin(self, call: Call, query: Later) -> None:
        """Answer a call when its query has come to an end."""
        self._pending.begin()
        if self._few is None:  # 0.5 KiB that most connections do without
            self._few = trio.CapacityLimiter(self._parallel)
        self._nursery.start_soon(self._run, call, query, self._few)

    async def _run(self, call: Call, query: Later, few: trio.CapacityLimiter) -> None:
        try:
            # So few at a time, and with room for the answer: bounds what a peer that
            # does not read can make us hold.
            async with few:
                await self._outbox.wait_under()
                await self._replies.answer(call, await query.result)
        except Exception as error:
            self._replies.refuse(call, error)
        finally:
            query.close()  # cancelled before its turn it would never have been awaited
            self._pending.end()
            self._settled.unpark_all()
