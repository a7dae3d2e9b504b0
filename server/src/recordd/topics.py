"""Topics: the patterns that somebody follows, and who is told of a commit.

Matching does not look at every subscription for every write. Subscriptions to the same
pattern share a topic; topics of exact names are looked up; which wildcard topics match a
record is kept with the record until the set of wildcard topics changes. Subscriptions
whose events would be the same bytes share those too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from recordd.outbox import Outbox
from recordd.records import RecordState
from recordd_protocol.dialect import EventEncoder
from recordd_protocol.patterns import Pattern, PatternSet
from recordd_protocol.rows import Row

__all__ = ["Burst", "Follower", "Topic", "Topics"]


class Burst:
    """The events of one commit, as messages, for everybody whose bytes they are."""

    __slots__ = ("messages", "size", "updates")

    def __init__(self, messages: list[bytes], updates: int) -> None:
        self.messages: Final = messages
        self.updates: Final = updates
        self.size: Final = sum(map(len, messages))


class Follower(Protocol):
    """A subscription as a topic sees it while it is live."""

    @property
    def encoder(self) -> EventEncoder:
        """Puts its events into bytes."""

    @property
    def unreported(self) -> int:
        """Updates that it did not get and was not told of yet."""

    def push(self, rows: Sequence[Row], burst: Burst) -> Outbox | None:
        """Take the events of a commit; return the outbox they are in, None where there is no room.

        Without room it is not live any more.
        """


class Topic:
    """One pattern. `published` counts the updates that matched it since it was made."""

    __slots__ = ("followers", "live", "pattern", "patterns", "published")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern: Final = pattern
        self.patterns: Final = PatternSet([pattern])
        self.followers = 0
        self.live: Final[dict[Follower, None]] = {}
        self.published = 0

    def publish(self, rows: Sequence[Row], touched: dict[Outbox, None]) -> None:
        """Give the rows of one commit to all that are live; note the outboxes they went to."""
        self.published += len(rows)
        shared: dict[object, Burst] = {}
        for follower in list(self.live):
            encoder = follower.encoder
            if follower.unreported:
                burst = Burst(encoder.encode(rows, follower.unreported), len(rows))
            else:
                key = encoder.share_key
                found = shared.get(key)
                if found is None:
                    found = shared[key] = Burst(encoder.encode(rows), len(rows))
                burst = found
            if (outbox := follower.push(rows, burst)) is not None:
                touched[outbox] = None


class Topics:
    """All topics that have a follower."""

    def __init__(self) -> None:
        self._exact: Final[dict[str, Topic]] = {}
        self._wild: Final[dict[str, Topic]] = {}
        self._version = 0  # counts changes to the set of wildcard topics

    def __len__(self) -> int:
        return len(self._exact) + len(self._wild)

    @property
    def followers(self) -> int:
        """Subscriptions of all connections."""
        return sum(t.followers for topics in (self._exact, self._wild) for t in topics.values())

    def follow(self, pattern: Pattern) -> Topic:
        """Return the pattern's topic, with one follower more."""
        topics = self._exact if pattern.is_exact else self._wild
        topic = topics.get(pattern.text)
        if topic is None:
            topic = topics[pattern.text] = Topic(pattern)
            self._version += not pattern.is_exact
        topic.followers += 1
        return topic

    def leave(self, topic: Topic) -> None:
        """Count one follower less; a topic without any is gone."""
        topic.followers -= 1
        if not topic.followers:
            pattern = topic.pattern
            del (self._exact if pattern.is_exact else self._wild)[pattern.text]
            self._version += not pattern.is_exact

    def topics_of(self, state: RecordState) -> Iterable[Topic]:
        """Return the topics that match a record."""
        if state.topics_version != self._version:
            name = state.name
            state.topics = tuple(t for t in self._wild.values() if t.pattern.matches(name))
            state.topics_version = self._version
        exact = self._exact.get(state.name)
        return state.topics if exact is None else (*state.topics, exact)

    def publish(self, rows: Sequence[Row], states: Mapping[str, RecordState]) -> None:
        """Tell every live follower of one commit, each connection in one send."""
        by_topic: dict[Topic, list[Row]] = {}
        for row in rows:
            for topic in self.topics_of(states[row.name]):
                by_topic.setdefault(topic, []).append(row)
        touched: dict[Outbox, None] = {}
        for topic, matched in by_topic.items():
            topic.publish(matched, touched)
        for outbox in touched:
            outbox.flush_nowait()
