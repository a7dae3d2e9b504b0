"""All topics: which of them a commit concerns.

Matching does not look at every subscription for every write. Subscriptions to the same
pattern share a topic. Topics of exact names are looked up. Wildcard topics are matched
against a record once: which ones match is kept with the record, and when others are added
only those are matched. Of them a record is matched only against the topics that begin with
its own first segment, or with a wildcard. Subscriptions whose events would be the same
bytes share those too.

A commit of many rows may have much to match all the same. A `Delivery` does it in steps,
before the commit is published; to publish it is then quick.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from recordd.outbox import Outbox
from recordd.topic import Topic
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Row

__all__ = ["Delivery", "Named", "Topics"]

_TOPICS_A_STEP: Final = 32
"""Matched between two steps: each takes 10 µs at most."""


class Named(Protocol):
    """A record as topics see it, with what they keep there: see `Topics.topics_of`."""

    @property
    def name(self) -> str:
        """The record's name."""

    topics: tuple[Topic, ...]
    topics_version: int


class Topics:
    """All topics that have a follower."""

    def __init__(self) -> None:
        self.followers = 0
        """Subscriptions of all connections."""
        self.version = 0
        """Counts topics that came or went; a topic came with the version that it has."""
        self.newest = 0
        """The version of the topic that came last."""
        self._exact: Final[dict[str, Topic]] = {}
        # By their first segment, None where it has a wildcard; each in the order they came.
        self._wild: Final[dict[str | None, dict[str, Topic]]] = {}
        self._wild_version = 0

    def __len__(self) -> int:
        return len(self._exact) + sum(map(len, self._wild.values()))

    def follow(self, pattern: Pattern) -> Topic:
        """Return the pattern's topic, with one follower more."""
        topics = self._exact if pattern.is_exact else self._wild.setdefault(_first(pattern), {})
        topic = topics.get(pattern.text)
        if topic is None:
            self.version += 1
            self.newest = self.version
            topic = topics[pattern.text] = Topic(pattern, self.version)
            if not pattern.is_exact:
                self._wild_version = self.version
        topic.followers += 1
        self.followers += 1
        return topic

    def leave(self, topic: Topic) -> None:
        """Count one follower less; a topic without any is gone."""
        topic.followers -= 1
        self.followers -= 1
        if topic.followers:
            return
        self.version += 1
        pattern = topic.pattern
        if pattern.is_exact:
            del self._exact[pattern.text]
            return
        first = _first(pattern)
        del self._wild[first][pattern.text]
        if not self._wild[first]:
            del self._wild[first]
        self._wild_version = self.version

    def topics_of(self, record: Named) -> tuple[Topic, ...]:
        """Return the topics that match a record, in the order in which they came."""
        if record.topics_version != self._wild_version:
            for _ in self.match(record):
                pass
        exact = self._exact.get(record.name)
        return record.topics if exact is None else (*record.topics, exact)

    def match(self, record: Named) -> Iterator[None]:
        """Match the topics that came since a record was looked at, in short steps."""
        version, seen, name = self._wild_version, record.topics_version, record.name
        if seen == version:
            return
        known = [topic for topic in record.topics if topic.followers]
        others = []
        for number, topic in enumerate(self._find_newer(name, seen)):
            if topic.pattern.matches(name):
                others.append(topic)
            if number % _TOPICS_A_STEP == _TOPICS_A_STEP - 1:
                yield
        others.sort(key=lambda topic: topic.since)
        record.topics = (*known, *others)
        record.topics_version = version

    def follows(self, topic: Topic, record: Named) -> bool:
        """Tell whether a topic matches a record, without matching the others."""
        pattern = topic.pattern
        if pattern.is_exact or not topic.followers or record.topics_version < topic.since:
            return pattern.matches(record.name)
        return topic in record.topics

    def _find_newer(self, name: str, seen: int) -> list[Topic]:
        """Return the wildcard topics that came after `seen` and may match."""
        found = []
        for topics in (self._wild.get(None), self._wild.get(name.partition(".")[0])):
            for topic in reversed(topics.values()) if topics else ():
                if topic.since <= seen:
                    break
                found.append(topic)
        return found

    def publish(self, delivery: Delivery) -> None:
        """Tell every live follower of one commit, each connection in one send."""
        for _ in delivery.sort():
            pass  # what came since it was sorted in steps
        touched: dict[Outbox, None] = {}
        for topic, rows in delivery.by_topic.items():
            topic.publish(rows, touched)
        for outbox in touched:
            outbox.flush_nowait()


class Delivery:
    """The rows of one commit, by the topics that they concern."""

    def __init__(self, topics: Topics, rows: Sequence[Row], records: Sequence[Named]) -> None:
        """Take the rows, and the record of each."""
        self.by_topic: Final[dict[Topic, list[Row]]] = {}
        self._topics: Final = topics
        self._rows: Final = rows
        self._records: Final = records
        self._sorted = 0  # topics up to this version have all their rows

    def sort(self) -> Iterator[None]:
        """Sort the rows until no topic is missing; others may run between two steps.

        At the end none is missing, until others follow. It has to come to its end.
        """
        topics = self._topics
        while self._sorted < topics.newest:
            newest = topics.newest
            for row, record in zip(self._rows, self._records, strict=True):
                yield from topics.match(record)
                self._add(row, topics.topics_of(record), newest)
                yield
            self._sorted = newest

    def _add(self, row: Row, topics: tuple[Topic, ...], newest: int) -> None:
        for topic in topics:
            if self._sorted < topic.since <= newest:
                self.by_topic.setdefault(topic, []).append(row)


def _first(pattern: Pattern) -> str | None:
    """Return the first segment where it is plain text, which a name must begin with then."""
    first = pattern.text.partition(".")[0]
    return None if "*" in first or "#" in first else first
