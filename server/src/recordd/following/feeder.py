"""One connection's subscriptions, and the task that feeds those which are behind."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Awaitable
from typing import Final

import trio

from recordd.core import Core
from recordd.extending.points import QueryHandler
from recordd.following.subscription import Opening, Subscription
from recordd.outgoing.outbox import Outbox
from recordd_protocol.dialect import Call
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Replay, Subscribed

__all__ = ["Subscriptions"]

logger: Final = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0
"""How long to leave storage alone that could not be read."""


class Subscriptions:
    """The subscriptions of a connection, by id."""

    def __init__(self, core: Core, nursery: trio.Nursery, outbox: Outbox) -> None:
        self._core: Final = core
        self._nursery: Final = nursery
        self._outbox: Final = outbox
        self._by_id: Final[dict[str, Subscription]] = {}
        self._ids: Final = itertools.count(1)
        self._behind: Final[dict[Subscription, float]] = {}
        """Those to be fed, each not before a time."""
        self._more = trio.Event()
        self._one_reads: Final = trio.CapacityLimiter(1)
        self._is_storage_failing = False
        self._feeding: trio.CancelScope | None = None
        self._opened: Final = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def is_opening(self) -> bool:
        """Whether an opening burst waits for room: they come one at a time."""
        return any(subscription.is_opening for subscription in self._behind)

    async def wait_opened(self) -> None:
        """Wait until no opening burst waits for room."""
        while self.is_opening and not self._outbox.is_closed:
            await self._opened.park()

    def open(self, opening: Opening, call: Call) -> tuple[Subscribed, Subscription]:
        """Take up a subscription; `start` it when its answer is on the way.

        Raises:
            RequestError: `overloaded` past the limit, `denied` for an id that is in use.
        """
        limit = self._core.settings.max_subscriptions
        if len(self._by_id) >= limit:
            text = f"{limit} subscriptions are open on this connection, which is the limit"
            raise RequestError(Reason.OVERLOADED, text)
        # Not decimal, as the ids are which AimX clients choose: theirs are never taken.
        subscription_id = call.subscription_id or f"s{next(self._ids)}"
        if subscription_id in self._by_id:
            raise RequestError(Reason.DENIED, f"subscription {subscription_id!r} is in use")
        encoder = call.encode_events(subscription_id, opening.pattern)
        subscription = Subscription(
            self._core.hub,
            self._outbox,
            encoder,
            opening,
            counters=self._core.counters,
            on_behind=self._feed_later,
        )
        self._by_id[subscription_id] = subscription
        return subscription.describe(subscription_id), subscription

    def start(self, subscription: Subscription) -> None:
        """Let its events come; those that memory holds go at once, as far as there is room."""
        subscription.feed_nowait()
        if subscription.is_behind:
            self._feed_later(subscription)

    def close(self, subscription_id: str) -> bool:
        """End a subscription at once; False where there is none of that id."""
        subscription = self._by_id.pop(subscription_id, None)
        if subscription is None:
            return False
        self._behind.pop(subscription, None)
        self._leave(subscription)
        return True

    def close_all(self) -> None:
        """End every subscription at once."""
        for subscription in self._by_id.values():
            self._leave(subscription)
        self._by_id.clear()
        self._behind.clear()
        if self._feeding is not None:
            self._feeding.cancel()

    def _leave(self, subscription: Subscription) -> None:
        subscription.close()
        self._opened.unpark_all()

    def _feed_later(self, subscription: Subscription) -> None:
        self._behind[subscription] = 0.0
        self._more.set()
        if self._feeding is None:
            self._feeding = trio.CancelScope()
            self._nursery.start_soon(self._feed_all, self._feeding)

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
            await self._core.turns.next()

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
        self._more = trio.Event()
        with trio.move_on_at(min(self._behind.values(), default=-math.inf)):
            await self._more.wait()

    async def _feed(self, subscription: Subscription, readers: trio.Nursery) -> None:
        if subscription.is_looking:
            await self._prepare(subscription)
        if subscription.is_long:
            await self._core.turns.next()
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
        async with self._one_reads:
            await self._outbox.wait_room()
            not_before = await self._try_to_read_storage(subscription)
        self._requeue(subscription, not_before)
        self._more.set()

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
        handler = self._core.extensions.get(QueryHandler)
        if handler is None:
            await self._prepare(subscription)
            return subscription.start_afresh()
        page = handler.replay(
            Replay(
                after=subscription.after,
                name=subscription.topic.pattern.text,
                limit=min(self._core.settings.subscriber_updates, subscription.page_rows),
            )
        )
        found = await page if isinstance(page, Awaitable) else page
        # A row that was deleted while the page was read: the hub knows of it then.
        await self._core.hub.wait_purged()
        if subscription.has_gap:
            await self._prepare(subscription)
        return subscription.take_page(found)

    async def _prepare(self, subscription: Subscription) -> None:
        """Match in turns what is followed, so that to look at all of it is quick."""
        hub = self._core.hub
        await self._core.turns.run(hub.prepare_snapshot(subscription.topic.pattern))
