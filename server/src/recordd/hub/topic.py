"""A topic: one pattern that somebody follows, and who is to be told of a commit now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from recordd_protocol.dialect import EventEncoder
from recordd_protocol.patterns import Pattern, PatternSet
from recordd_protocol.rows import Row

__all__ = ["Burst", "LiveSubscription", "Outlet", "Topic", "Touched"]


_FEW_ROWS: Final = 16
"""Up to so many rows are encoded before the outbox is asked for room. There mostly is room, and
to ask first would be a call more for each subscription and event."""


class Burst:
    """The events of one commit, as messages, for everybody whose bytes they are.

    `encoded` is the same as the transport sends it, made by the first connection that needs it.
    """

    __slots__ = ("encoded", "messages", "size", "updates")

    def __init__(self, messages: list[bytes], updates: int) -> None:
        self.messages: Final = messages
        self.updates: Final = updates
        self.size: Final = sum(map(len, messages))
        self.encoded: bytes | None = None


class Outlet(Protocol):
    """The way out of a connection, as a topic needs it: several subscriptions share one."""

    def flush_nowait(self) -> None:
        """Send what was put; called once for a commit."""

    def pass_on(self, burst: Burst) -> None:
        """Send a burst instead, which is all there is for it of a commit."""


Touched = dict[Outlet, Burst | None]
"""The outlets that a commit went to: with the one burst to pass on, or None for a flush."""


class LiveSubscription(Protocol):
    """A subscription as a topic sees it while it is live."""

    @property
    def encoder(self) -> EventEncoder:
        """Puts its events into bytes."""

    @property
    def unreported(self) -> int:
        """Updates that it did not get and was not told of yet."""

    def has_room(self, updates: int) -> bool:
        """Tell whether so many updates may find room; where not, it is not live any more."""

    def push(self, rows: Sequence[Row], burst: Burst, touched: Touched) -> None:
        """Take the events of a commit, and note the outbox they are to leave by.

        Without room it is not live any more.
        """


class Topic:
    """One pattern, and what was published of it since the topic was made.

    `published` counts the updates that matched. Without `late`, of late rows only those of
    rings count: see `TopicIndex.takes`. `transients` counts the transient updates among
    them; `transients_before` is the same count before the latest commit, for a subscription
    that finds no room in it. `since` is the version of the index that the topic came with.
    """

    __slots__ = (
        "late",
        "live",
        "pattern",
        "patterns",
        "published",
        "since",
        "subscriptions",
        "transients",
        "transients_before",
    )

    def __init__(self, pattern: Pattern, since: int, *, late: bool) -> None:
        self.pattern: Final = pattern
        self.late: Final = late
        self.since: Final = since
        self.patterns: Final = PatternSet([pattern])
        self.subscriptions = 0
        self.live: Final[dict[LiveSubscription, None]] = {}
        self.published = 0
        self.transients = 0
        self.transients_before = 0

    def publish(self, rows: Sequence[Row], touched: Touched) -> None:
        """Give the rows of one commit to all that are live; note the outboxes they went to."""
        self.published += len(rows)
        self.transients_before = self.transients
        self.transients += sum([row.rev is None for row in rows])
        shared: dict[object, Burst] = {}
        are_many = len(rows) > _FEW_ROWS
        for subscription in list(self.live):
            encoder = subscription.encoder
            burst = None if subscription.unreported else shared.get(encoder.share_key)
            if burst is None:
                if are_many and not subscription.has_room(len(rows)):
                    continue  # before they are encoded for nothing
                burst = Burst(encoder.encode(rows, subscription.unreported), len(rows))
                if not subscription.unreported:
                    shared[encoder.share_key] = burst
            subscription.push(rows, burst, touched)
