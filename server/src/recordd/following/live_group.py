"""Live subscriptions whose events are the same bytes: a commit goes to all of them at once.

Theory of operation. What a thousand subscribers of a pattern are told of a commit mostly is the
same, and stays so. JSON-RPC's events have no number; AimX's have one, which goes up alike for
all who are live: each gets every update. So they are one group from the moment in which they go
live until they leave, and while they are in it nothing of a subscription is touched: the encoder
of the group counts for them, and what a subscription has had since it came is the difference of
two counts of its topic. Of a connection only its lane is looked at. Who has none at the moment
is pushed to by the long way.

A look at each subscription, and a list of the outboxes to send to, took 1.1 of the 4.2 µs that
a subscriber cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from recordd.connections.lane import Lane, write_to_all
from recordd.connections.outbox import Outbox, OutboxLimits
from recordd.hub.topic import Burst, Topic, Touched
from recordd_protocol.dialect import EventEncoder
from recordd_protocol.rows import Row

__all__ = ["LiveGroup", "Member", "join_group"]

_FEW_ROWS: Final = 16
"""Up to so many rows are encoded before the outboxes are asked for room. There mostly is room,
and to ask first would be a call more for each subscription and commit."""


class Member(Protocol):
    """A subscription as its group sees it."""

    def has_room(self, updates: int) -> bool:
        """Tell whether so many updates may find room; where not, it has left the group."""

    def push(self, burst: Burst, touched: Touched, sent: int = 0) -> bool:
        """Take the events of a commit, and note the outbox they are to leave by.

        `sent` bytes of them are out. Returns whether there was room; without, it has left the
        group.
        """


class LiveGroup:
    """The members with their lanes, and the encoder of all; a topic has those with members."""

    __slots__ = ("_encoder", "_key", "_lanes", "_limits", "_topic")

    def __init__(
        self, topic: Topic, key: object, encoder: EventEncoder, limits: OutboxLimits
    ) -> None:
        """Begin with nobody; `encoder` is the group's own, the limits are those of all."""
        self._topic: Final = topic
        self._key: Final = key
        self._encoder: Final = encoder
        self._limits: Final = limits
        self._lanes: Final[dict[Member, Lane]] = {}

    def add(self, member: Member, lane: Lane) -> None:
        """Tell a subscription of the commits from the next one on."""
        self._lanes[member] = lane

    def drop(self, member: Member) -> None:
        """Tell a subscription of no more."""
        del self._lanes[member]
        if not self._lanes:
            del self._topic.groups[self._key]

    def publish(self, rows: Sequence[Row], touched: Touched) -> None:
        """Give the rows of one commit to all; note the outboxes that are yet to send."""
        updates = len(rows)
        if updates <= _FEW_ROWS or self._has_room(updates):
            burst = Burst(self._encoder.encode(rows), updates)
            if left := self._pass_on(burst):
                for member, lane in list(self._lanes.items()):
                    if (sent := left.get(lane)) is not None:
                        member.push(burst, touched, sent)
        self._encoder.advance(updates)

    def _has_room(self, updates: int) -> bool:
        """Tell whether anybody has, before so many rows are encoded for nothing."""
        for member in list(self._lanes):
            member.has_room(updates)
        return bool(self._lanes)

    def _pass_on(self, burst: Burst) -> dict[Lane, int]:
        """Write a commit's events to all lanes; return those that took less, and how many bytes."""
        lanes = self._lanes.values()
        if not self._limits.lets_pass(burst):
            return dict.fromkeys(lanes, 0)
        return write_to_all(lanes, next(iter(lanes)).encode(burst.messages))


def join_group(topic: Topic, member: Member, outbox: Outbox, encoder: EventEncoder) -> LiveGroup:
    """Put a subscription into the group whose events are its own from now on."""
    key = encoder.share_key(topic.published), outbox.limits
    group = topic.groups.get(key)
    if not isinstance(group, LiveGroup):
        group = topic.groups[key] = LiveGroup(topic, key, encoder.fork(), outbox.limits)
    group.add(member, outbox.lane)
    return group
