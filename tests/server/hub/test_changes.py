"""The log of changes: what has changed since a tick."""

from __future__ import annotations

import random

import pytest

from recordd.config.rules import read_rules
from recordd.extending.backend import Loaded, LoadedRecord
from recordd.hub import changes
from recordd.hub.hub import Hub
from recordd.hub.topic import Topic
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish


def make_hub() -> Hub:
    return Hub(read_rules([], default_retention_ms=None, max_capacity=1), max_records=1000)


def told(hub: Hub, tick: int, topic: Topic) -> list[tuple[str, RowKind]] | None:
    found = hub.changes.changes_after(tick, topic)
    if found is None:
        return None
    rows = [hub.changes.row_of(change, hub.catalogue.tick) for change in found]
    return [(row.name, row.kind) for row in rows if row is not None]


def test_records_and_deletions_come_in_the_order_of_their_latest_change() -> None:
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("#"))
    for rev, name in enumerate("abca", 1):
        publish(hub, [Row(name, b"1", rev, rev)])
    hub.remove(Row("b", b"null", 5, 5, RowKind.DELETED))
    publish(hub, [Row("c", b"1", 6, 6)])
    assert told(hub, 0, topic) == [
        ("a", RowKind.LATEST),
        ("b", RowKind.DELETED),
        ("c", RowKind.LATEST),
    ]
    assert told(hub, 5, topic) == [("c", RowKind.LATEST)]


def test_a_record_that_came_again_is_told_of_and_its_deletion_is_not() -> None:
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("a"))
    publish(hub, [Row("a", b"1", 1, 1)])
    hub.remove(Row("a", b"null", 2, 2, RowKind.DELETED))
    publish(hub, [Row("a", b"2", 3, 3)])
    assert told(hub, 0, topic) == [("a", RowKind.LATEST)]


def test_a_change_that_was_captured_and_has_become_another_has_no_row() -> None:
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("#"))
    publish(hub, [Row("a", b"1", 1, 1), Row("b", b"1", 1, 2), Row("c", b"1", 1, 3)])
    hub.remove(Row("c", b"null", 2, 4, RowKind.DELETED))
    captured, as_of = hub.changes.changes_after(0, topic) or (), hub.catalogue.tick
    assert all(hub.changes.row_of(change, as_of) for change in captured)
    publish(hub, [Row("a", b"2", 3, 5)])
    hub.remove(Row("b", b"null", 4, 6, RowKind.DELETED))
    publish(hub, [Row("c", b"1", 5, 7)])
    assert [hub.changes.row_of(change, as_of) for change in captured] == [None] * 3


def test_of_transient_records_those_alone_come() -> None:
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("#"))
    publish(hub, [Row("a", b"1", 1, 1), Row("t", b"1", 1, None), Row("u", b"1", 1, None)])
    hub.remove(Row("a", b"null", 2, 2, RowKind.DELETED))
    hub.remove(Row("t", b"null", 2, None, RowKind.DELETED))
    names = [change.name for change in hub.changes.transients_after(-1, topic) or ()]
    assert names == ["u", "t"]
    assert hub.changes.transients_after(hub.catalogue.tick, topic) == []


def test_what_has_changed_is_the_same_whichever_way_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance, hub = random.Random(5), make_hub()
    topics = [hub.topics.follow(compile_pattern(text)) for text in ("#", "r.*1", "r.7", "x.#")]
    for rev in range(1, 400):
        name = f"r.{chance.randrange(40)}"
        if hub.catalogue.find(name) is not None and chance.random() < 0.1:
            hub.remove(Row(name, b"null", rev, rev, RowKind.DELETED))
        else:
            publish(hub, [Row(name, b"1", rev, rev)])
        if rev % 7:
            continue
        for topic in topics:
            tick = chance.randrange(hub.catalogue.tick + 1)
            ways = []
            for many in (1 << 30, -1):
                monkeypatch.setattr(changes, "_MANY_CHANGES", many)
                ways.append(hub.changes.changes_after(tick, topic))
            assert ways[0] == ways[1]


def test_further_back_than_deletions_are_remembered_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recordd.hub.hub.MAX_DELETIONS", 1)
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("a"))
    for name in ("x", "y"):
        publish(hub, [Row(name, b"1", 1, None)])
        hub.remove(Row(name, b"null", 2, None, RowKind.DELETED))
    assert hub.changes.changes_after(1, topic) is None
    assert hub.changes.transients_after(1, topic) is None
    assert hub.changes.changes_after(2, topic) == []
    assert hub.changes.transients_after(2, topic) == []
    assert hub.changes.transients_after(-1, topic) == []


def test_loaded_records_have_changed_in_the_order_of_their_revs() -> None:
    hub = make_hub()
    revs = {"a": 8, "b": 3, "c": 5}
    records = [
        LoadedRecord(Row(name, b"1", 1, rev), 1, n) for n, (name, rev) in enumerate(revs.items())
    ]
    hub.restore(Loaded(epoch="e", rev=9, records=records))
    topic = hub.topics.follow(compile_pattern("#"))
    assert [state.name for state in hub.catalogue.snapshot(topic)] == ["b", "c", "a"]


def test_what_was_changed_before_the_start_is_not_known() -> None:
    hub = make_hub()
    records = [LoadedRecord(Row("a", b"1", 1, 8), 3, 0)]
    hub.restore(Loaded(epoch="e", rev=9, records=records))
    topic = hub.topics.follow(compile_pattern("#"))
    assert hub.changes.changes_after(0, topic) is None
    assert hub.changes.changes_after(hub.catalogue.tick, topic) == []
