"""All topics: which of them a commit concerns.

Matching does not look at every subscription for every write. Subscriptions to the same
pattern share a topic; topics of exact names are looked up; which wildcard topics match a
record is kept with the record until the set of wildcard topics changes. Subscriptions
whose events would be the same bytes share those too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from recordd.outbox import Outbox
from recordd.records import RecordState
from recordd.topic import Topic
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Row

__all__ = ["Topics"]


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
