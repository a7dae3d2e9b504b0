"""Topics: nothing is matched twice, and a commit is sorted in short steps."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from recordd.config.rules import read_rules
from recordd.hub.records import Unborn
from recordd.hub.topic import Topic
from recordd.hub.topic_index import Delivery, TopicIndex
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Row

RULES = read_rules([], default_retention_ms=None, max_capacity=1)


def unborn(name: str) -> Unborn:
    return Unborn(0, name, RULES.rule_for(name))


class CountedPattern(Pattern):
    """Counts how many names were matched, by all together."""

    __slots__ = ()
    matched = 0

    def matches(self, name: str) -> bool:
        CountedPattern.matched += 1
        return super().matches(name)


def count_matches(action: Callable[[], object]) -> int:
    before = CountedPattern.matched
    action()
    return CountedPattern.matched - before


def texts_of(topics: tuple[Topic, ...]) -> list[str]:
    return [topic.pattern.text for topic in topics]


def test_a_topic_that_comes_is_the_only_one_matched() -> None:
    topics, record = TopicIndex(lambda name: False), unborn("r.x")
    for n in range(100):
        topics.follow(CountedPattern(f"*.x{'*' * n}"))
    assert count_matches(lambda: topics.topics_of(record)) == 100
    topics.follow(CountedPattern("#.x"))
    assert count_matches(lambda: topics.topics_of(record)) == 1
    assert count_matches(lambda: topics.topics_of(record)) == 0
    assert len(topics.topics_of(record)) == 101


def test_a_topic_that_goes_has_nothing_matched_and_is_dropped() -> None:
    topics, record = TopicIndex(lambda name: False), unborn("r.x")
    gone, stays = topics.follow(CountedPattern("r.*")), topics.follow(CountedPattern("*.x"))
    assert topics.topics_of(record) == (gone, stays)
    topics.leave(gone)
    assert count_matches(lambda: topics.topics_of(record)) == 0
    assert topics.topics_of(record) == (stays,)
    assert (len(topics), topics.subscriptions) == (1, 1)


def test_topics_with_another_first_segment_are_not_matched() -> None:
    topics, record = TopicIndex(lambda name: False), unborn("device7.temp")
    for n in range(100):
        topics.follow(CountedPattern(f"device{n}.#"))
    topics.follow(CountedPattern("d*.temp"))
    assert count_matches(lambda: topics.topics_of(record)) == 2
    assert texts_of(topics.topics_of(record)) == ["device7.#", "d*.temp"]
    assert texts_of(topics.topics_of(unborn("device8"))) == ["device8.#"]


def test_whether_one_topic_matches_is_told_without_matching_the_others() -> None:
    topics, record = TopicIndex(lambda name: False), unborn("r.x")
    for n in range(100):
        topics.follow(CountedPattern(f"*.x{'*' * n}"))
    wanted, exact = topics.follow(CountedPattern("r.*")), topics.follow(CountedPattern("r.x"))
    assert count_matches(lambda: topics.follows(wanted, record)) == 1
    topics.topics_of(record)
    assert count_matches(lambda: topics.follows(wanted, record)) == 0
    assert topics.follows(wanted, record)
    assert topics.follows(exact, record)
    assert not topics.follows(topics.follow(Pattern("r.y")), record)


def test_a_commit_is_sorted_in_short_steps() -> None:
    topics = TopicIndex(lambda name: False)
    for n in range(200):
        topics.follow(CountedPattern(f"*.x{'*' * n}"))
    rows = [Row(f"r{n}.x", b"1", 1, n) for n in range(20)]
    delivery = Delivery(topics, rows, [unborn(row.name) for row in rows])
    most, before = 0, CountedPattern.matched
    for _ in delivery.sort():
        most = max(most, CountedPattern.matched - before)
        before = CountedPattern.matched
    assert 0 < most <= 64
    assert [len(found) for found in delivery.by_topic.values()] == [20] * 200


names = st.sampled_from(["a", "a.b", "b.b", "b", "a.b.c"])
patterns = st.sampled_from(["#", "a.#", "*", "*.b", "a.b", "#.b", "b.*", "a.*.c", "b"])
doings = st.lists(st.tuples(st.sampled_from(["follow", "leave", "step"]), patterns), max_size=40)


@given(st.lists(names, max_size=6), doings, st.lists(patterns, max_size=3))
def test_whoever_comes_and_goes_meanwhile_each_topic_has_its_rows(
    named: list[str], doings: list[tuple[str, str]], at_last: list[str]
) -> None:
    topics = TopicIndex(lambda name: False)
    open_topics: dict[str, Topic] = {}
    records = {name: unborn(name) for name in named}
    rows = [Row(name, b"1", 1, n) for n, name in enumerate(named)]
    delivery = Delivery(topics, rows, [records[name] for name in named])
    steps = delivery.sort()
    for doing, text in doings:
        if doing == "step":
            next(steps, None)
        elif doing == "follow" and text not in open_topics:
            open_topics[text] = topics.follow(Pattern(text))
        elif doing == "leave" and text in open_topics:
            topics.leave(open_topics.pop(text))
    for _ in steps:
        pass
    for text in at_last:
        if text not in open_topics:
            open_topics[text] = topics.follow(Pattern(text))
    topics.publish(delivery)
    for text, topic in open_topics.items():
        expected = [row for row in rows if Pattern(text).matches(row.name)]
        assert delivery.by_topic.get(topic, []) == expected
        assert topic.published == len(expected)
    assert len(topics) == len(open_topics)
