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

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from recordd.hub.topic import Topic, Touched
from recordd.system.turns import Steps
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Row, RowKind

__all__ = ["Delivery", "Named", "TopicIndex"]

_TOPICS_A_STEP: Final = 32
"""Matched between two steps: each takes 10 µs at most."""


class Named(Protocol):
    """A record as topics see it, with what they keep there: see `TopicIndex.topics_of`."""

    @property
    def name(self) -> str:
        """The record's name."""

    topics: tuple[Topic, ...]
    topics_version: int


class TopicIndex:
    """All topics that have a subscription."""

    def __init__(self, is_ring: Callable[[str], bool]) -> None:
        """Make the empty set; `is_ring` tells of a name whether its record is a ring."""
        self.subscriptions = 0
        """Subscriptions of all connections."""
        self.version = 0
        """Counts topics that came or went; a topic came with the version that it has."""
        self.newest = 0
        """The version of the topic that came last."""
        self._is_ring: Final = is_ring
        self._exact: Final[dict[str, Topic]] = {}
        self._exact_without_late: Final[dict[str, Topic]] = {}
        # By their first segment, None where it has a wildcard; each in the order they came.
        self._wild: Final[dict[str | None, dict[str, Topic]]] = {}
        self._wild_version = 0

    def __len__(self) -> int:
        exact = len(self._exact) + len(self._exact_without_late)
        return exact + sum(map(len, self._wild.values()))

    def follow(self, pattern: Pattern, *, late: bool = True) -> Topic:
        """Return the pattern's topic, with one subscription more; `late` as for `takes`."""
        topics = self._exact_by(late) if pattern.is_exact else self._wild_by(pattern)
        topic = topics.get(_key_of(pattern, late))
        if topic is None:
            self.version += 1
            self.newest = self.version
            topic = topics[_key_of(pattern, late)] = Topic(pattern, self.version, late=late)
            if not pattern.is_exact:
                self._wild_version = self.version
        topic.subscriptions += 1
        self.subscriptions += 1
        return topic

    def leave(self, topic: Topic) -> None:
        """Count one subscription less; a topic without any is gone."""
        topic.subscriptions -= 1
        self.subscriptions -= 1
        if topic.subscriptions:
            return
        self.version += 1
        pattern = topic.pattern
        if pattern.is_exact:
            del self._exact_by(topic.late)[_key_of(pattern, topic.late)]
            return
        first = _first(pattern)
        del self._wild[first][_key_of(pattern, topic.late)]
        if not self._wild[first]:
            del self._wild[first]
        self._wild_version = self.version

    def topics_of(self, record: Named) -> tuple[Topic, ...]:
        """Return the topics that match a record, in the order in which they came."""
        if record.topics_version != self._wild_version:
            for _ in self.match(record):
                pass
        exact = self._exact.get(record.name)
        topics = record.topics if exact is None else (*record.topics, exact)
        if self._exact_without_late:
            found = self._exact_without_late.get(_key_of_name(record.name))
            return topics if found is None else (*topics, found)
        return topics

    def takes(self, topic: Topic, row: Row) -> bool:
        """Tell whether a topic shows a row whose name matches.

        Without `late` it leaves late rows out, but of rings, which show all that came: to
        who keeps one value a record a late row would be the newest (AimDB's mirrors do).
        """
        return topic.late or row.kind is not RowKind.LATE or self._is_ring(row.name)

    def match(self, record: Named) -> Iterator[None]:
        """Match the topics that came since a record was looked at, in short steps."""
        version, seen, name = self._wild_version, record.topics_version, record.name
        if seen == version:
            return
        known = [topic for topic in record.topics if topic.subscriptions]
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
        if pattern.is_exact or not topic.subscriptions or record.topics_version < topic.since:
            return pattern.matches(record.name)
        return topic in record.topics

    def _exact_by(self, late: bool) -> dict[str, Topic]:
        return self._exact if late else self._exact_without_late

    def _wild_by(self, pattern: Pattern) -> dict[str, Topic]:
        return self._wild.setdefault(_first(pattern), {})

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
        """Tell every live subscription of one commit, each connection in one send."""
        for _ in delivery.sort():
            pass  # what came since it was sorted in steps
        touched: Touched = {}
        for topic, rows in delivery.by_topic.items():
            topic.publish(rows, touched)
        for outlet, burst in touched.items():
            if burst is None:
                outlet.flush_nowait()
            else:
                outlet.pass_on(burst)


class Delivery:
    """The rows of one commit, by the topics that they concern."""

    def __init__(self, topics: TopicIndex, rows: Sequence[Row], records: Sequence[Named]) -> None:
        """Take the rows, and the record of each."""
        self.by_topic: Final[dict[Topic, list[Row]]] = {}
        self._topics: Final = topics
        self._rows: Final = rows
        self._records: Final = records
        self._sorted = 0  # topics up to this version have all their rows

    def sort(self) -> Steps[None]:
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
            if self._sorted < topic.since <= newest and self._topics.takes(topic, row):
                self.by_topic.setdefault(topic, []).append(row)


def _key_of(pattern: Pattern, late: bool) -> str:
    return pattern.text if late else _key_of_name(pattern.text)


def _key_of_name(text: str) -> str:
    return text + "\0"  # which no pattern holds


def _first(pattern: Pattern) -> str | None:
    """Return the first segment where it is plain text, which a name must begin with then."""
    first = pattern.text.partition(".")[0]
    return None if "*" in first or "#" in first else first
