"""One connection's open subscriptions, by id."""

from __future__ import annotations

import itertools
from typing import Final

from recordd.connections.outbox import Outbox
from recordd.following.feeder import Feeder
from recordd.following.opening import Opening
from recordd.following.phases import FollowedHub
from recordd.following.subscription import Subscription
from recordd_protocol.dialect import Call
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Subscribed

__all__ = ["OpenSubscriptions"]


class OpenSubscriptions:
    """The subscriptions of a connection, which end with it."""

    def __init__(
        self,
        hub: FollowedHub,
        outbox: Outbox,
        feeder: Feeder,
        *,
        max_subscriptions: int,
    ) -> None:
        """Begin with none; their events go into `outbox`, and `feeder` brings on those behind."""
        self._hub: Final = hub
        self._outbox: Final = outbox
        self._feeder: Final = feeder
        self._max_subscriptions: Final = max_subscriptions
        self._by_id: Final[dict[str, Subscription]] = {}
        self._ids: Final = itertools.count(1)

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def is_opening(self) -> bool:
        """Whether an opening burst waits for room: they come one at a time."""
        return self._feeder.is_opening

    async def wait_opened(self) -> None:
        """Wait until no opening burst waits for room."""
        await self._feeder.wait_opened()

    def open(self, opening: Opening, call: Call) -> tuple[Subscribed, Subscription]:
        """Take up a subscription; `start` it when its answer is on the way.

        Raises:
            RequestError: `overloaded` past the limit, `denied` for an id that is in use.
        """
        limit = self._max_subscriptions
        if len(self._by_id) >= limit:
            text = f"{limit} subscriptions are open on this connection, which is the limit"
            raise RequestError(Reason.OVERLOADED, text)
        # Not decimal, as the ids are which AimX clients choose: theirs are never taken.
        subscription_id = call.subscription_id or f"s{next(self._ids)}"
        if subscription_id in self._by_id:
            raise RequestError(Reason.DENIED, f"subscription {subscription_id!r} is in use")
        encoder = call.encode_events(subscription_id, opening.pattern)
        subscription = Subscription(
            self._hub,
            self._outbox,
            encoder,
            opening,
            on_behind=self._feeder.add,
        )
        self._by_id[subscription_id] = subscription
        return subscription.describe(subscription_id), subscription

    def start(self, subscription: Subscription) -> None:
        """Let its events come; those that memory holds go at once, as far as there is room."""
        subscription.feed_nowait()
        if subscription.is_behind:
            self._feeder.add(subscription)

    def close(self, subscription_id: str) -> bool:
        """End a subscription at once; False where there is none of that id."""
        subscription = self._by_id.pop(subscription_id, None)
        if subscription is None:
            return False
        subscription.close()
        self._feeder.drop(subscription)
        return True

    def close_all(self) -> None:
        """End every subscription at once."""
        for subscription in self._by_id.values():
            subscription.close()
        self._by_id.clear()
        self._feeder.stop()
