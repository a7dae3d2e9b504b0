"""A topic: one pattern that somebody follows, and who is to be told of a commit now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from recordd_protocol.patterns import Pattern, PatternSet
from recordd_protocol.rows import Row

__all__ = ["Burst", "Outlet", "Told", "Topic", "Touched"]


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


class Told(Protocol):
    """Whoever is told of commits when they are published."""

    def publish(self, rows: Sequence[Row], touched: Touched) -> None:
        """Take the rows of one commit, and note the outlets that are yet to send."""


class Topic:
    """One pattern, and what was published of it since the topic was made.

    `published` counts the updates that matched. Without `late`, of late rows only those of
    rings count: see `TopicIndex.takes`. `transients` counts the transient updates among
    them; `transients_before` is the same count before the latest commit, for a subscription
    that finds no room in it. `since` is the version of the index that the topic came with.
    """

    __slots__ = (
        "groups",
        "late",
        "live",
        "pattern",
        "patterns",
        "published",
        "since",
        "subscriptions",
        "transients",
        "transients_before",
        "untold",
    )

    def __init__(self, pattern: Pattern, since: int, *, late: bool) -> None:
        self.pattern: Final = pattern
        self.late: Final = late
        self.since: Final = since
        self.patterns: Final = PatternSet([pattern])
        self.subscriptions = 0
        self.live = 0
        """How many subscriptions are live; each is in one of these two."""
        self.groups: Final[dict[object, Told]] = {}
        """By what those have in common who are told the same."""
        self.untold: Final[dict[Told, None]] = {}
        """Those that have yet to be told what they did not get: each for itself."""
        self.published = 0
        self.transients = 0
        self.transients_before = 0

    def publish(self, rows: Sequence[Row], touched: Touched) -> None:
        """Give the rows of one commit to all that are live; note the outlets that have to send."""
        self.published += len(rows)
        self.transients_before = self.transients
        self.transients += sum([row.rev is None for row in rows])
        untold = list(self.untold)  # behind this commit each may join one of the groups
        for group in list(self.groups.values()):
            group.publish(rows, touched)
        for subscription in untold:
            subscription.publish(rows, touched)
