"""The task of one connection that feeds its subscriptions which are behind the live stream.

Theory of operation. A subscription without room is live no longer; it is added here and fed
in turn with the others, a roomful at a time, until it is live again. The task exists only
while somebody is behind: a connection that keeps up costs none.

An opening burst goes on to its end before another subscription has its turn, so that no
more than one list of captured values is held at a time (`wait_opened` keeps a connection
from opening the next). Storage is read for one subscription at a time and beside the
feeding of others: those that memory can feed do not wait for a disk.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable
from typing import Final

import trio

from recordd.connections.outbox import Outbox
from recordd.extending.points import QueryHandler
from recordd.following.phases import FollowedHub
from recordd.following.subscription import Subscription
from recordd.system.parking import SpareLot
from recordd.system.turns import Turns
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Replay

__all__ = ["Feeder"]

logger: Final = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0
"""How long to leave storage alone that could not be read."""


class Feeder:
    """The subscriptions of a connection that are behind, and their task."""

    def __init__(
        self,
        nursery: trio.Nursery,
        outbox: Outbox,
        hub: FollowedHub,
        turns: Turns,
        *,
        history: QueryHandler | None,
        page_rows: int,
    ) -> None:
        """Feed nobody yet; the task runs in `nursery`.

        `history` gives what memory has no longer, at most `page_rows` of it at a time;
        without it, who is that far behind starts afresh.
        """
        self._nursery: Final = nursery
        self._outbox: Final = outbox
        self._hub: Final = hub
        self._turns: Final = turns
        self._history: Final = history
        self._page_rows: Final = page_rows
        self._behind: Final[dict[Subscription, float]] = {}
        """Those to be fed, each not before a time."""
        self._more: Final = SpareLot()
        self._one_reads: trio.CapacityLimiter | None = None
        self._is_storage_failing = False
        self._feeding: trio.CancelScope | None = None
        self._opened: Final = SpareLot()

    @property
    def is_opening(self) -> bool:
        """Whether an opening burst waits for room."""
        return any(subscription.is_opening for subscription in self._behind)

    async def wait_opened(self) -> None:
        """Wait until no opening burst waits for room."""
        while self.is_opening and not self._outbox.is_closed:
            await self._opened.park()

    def add(self, subscription: Subscription) -> None:
        """Feed a subscription until it is live or closed."""
        self._behind[subscription] = 0.0
        self._more.unpark_all()
        if self._feeding is None:
            self._feeding = trio.CancelScope()
            self._nursery.start_soon(self._feed_all, self._feeding)

    def drop(self, subscription: Subscription) -> None:
        """Feed a subscription no more, which is closed."""
        self._behind.pop(subscription, None)
        self._opened.unpark_all()

    def stop(self) -> None:
        """Feed nobody any more; all are closed."""
        self._behind.clear()
        self._opened.unpark_all()
        if self._feeding is not None:
            self._feeding.cancel()

    async def _feed_all(self, scope: trio.CancelScope) -> None:
        """Feed those that are behind, in turn, while there is room and a peer; then end."""
        with scope:
            while self._behind and not self._outbox.is_closed:
                async with trio.open_nursery() as readers:
                    await self._feed_in_turn(readers)
                    readers.cancel_scope.cancel()
        self._feeding = None
        self._opened.unpark_all()

    async def _feed_in_turn(self, readers: trio.Nursery) -> None:
        while self._behind and not self._outbox.is_closed:
            await self._outbox.wait_room()
            if (subscription := self._choose()) is not None:
                await self._feed(subscription, readers)
            else:
                await self._wait_for_turn()
            # A step puts as much as there is room for, up to some ms: one of all connections'.
            await self._turns.next()

    def _choose(self) -> Subscription | None:
        """Return whose turn it is; None where all that are behind wait for storage.

        One that is opening goes on to its end, so that no more than one is under way.
        """
        now = trio.current_time()
        chosen = None
        for subscription, not_before in self._behind.items():
            if subscription.is_opening:
                return subscription
            if chosen is None and not_before <= now:
                chosen = subscription
        return chosen

    async def _wait_for_turn(self) -> None:
        with trio.move_on_at(min(self._behind.values(), default=-math.inf)):
            await self._more.park()

    async def _feed(self, subscription: Subscription, readers: trio.Nursery) -> None:
        if subscription.is_looking:
            await self._prepare(subscription)
        if subscription.is_long:
            await self._turns.next()
        has_come_further = subscription.feed_nowait()
        if subscription.is_reading:
            self._behind[subscription] = math.inf  # until it has been read for
            readers.start_soon(self._read, subscription)
            return
        if not has_come_further:
            await self._outbox.wait_empty()
        self._requeue(subscription, 0.0)

    async def _read(self, subscription: Subscription) -> None:
        """Read a page from storage, one subscription at a time; others are fed meanwhile."""
        if self._one_reads is None:  # 0.5 KiB that most connections do without
            self._one_reads = trio.CapacityLimiter(1)
        async with self._one_reads:
            await self._outbox.wait_room()
            not_before = await self._try_to_read_storage(subscription)
        self._requeue(subscription, not_before)
        self._more.unpark_all()

    def _requeue(self, subscription: Subscription, not_before: float) -> None:
        """Let the others have their turn."""
        self._behind.pop(subscription, None)
        if subscription.is_behind:
            self._behind[subscription] = not_before
        self._opened.unpark_all()

    async def _try_to_read_storage(self, subscription: Subscription) -> float:
        """Read a page; return when to try it next."""
        try:
            await self._read_storage(subscription)
        except RequestError as error:
            if error.reason is Reason.EXPIRED:  # rows went while it waited: now it sees that
                return 0.0
            if not self._is_storage_failing:
                logger.error("subscriptions wait for storage: %s", error)
            self._is_storage_failing = True
            return trio.current_time() + _RETRY_AFTER_S
        self._is_storage_failing = False
        return 0.0

    async def _read_storage(self, subscription: Subscription) -> None:
        if self._history is None:
            await self._prepare(subscription)
            return subscription.start_afresh()
        if (page_cursor := subscription.page_cursor) is None:
            return None  # closed while others read
        page = self._history.replay(
            Replay(
                after=page_cursor,
                name=subscription.topic.pattern.text,
                limit=min(self._page_rows, subscription.page_rows),
            )
        )
        found = await page if isinstance(page, Awaitable) else page
        # A row that was deleted while the page was read: the hub knows of it then.
        await self._hub.gaps.wait_purged()
        if subscription.has_gap:
            await self._prepare(subscription)
        return subscription.take_page(found)

    async def _prepare(self, subscription: Subscription) -> None:
        """Match in turns what is followed, so that to look at all of it is quick."""
        await self._turns.run(self._hub.catalogue.prepare_snapshot(subscription.topic.pattern))
