"""Tombstones: deletions are told by name, within bounds."""

from __future__ import annotations

import pytest

from recordd.config.rules import read_rules
from recordd.hub.hub import Hub
from recordd.hub.tombstones import Tombstone, Tombstones
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish


def make_hub() -> Hub:
    return Hub(read_rules([], default_retention_ms=None, max_capacity=1), max_records=1000)


def test_who_missed_more_deletions_than_can_be_matched_starts_afresh_but_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recordd.hub.tombstones._MAX_MATCHES", 3)
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("x.*"))
    tick = hub.catalogue.tick
    for n in range(4):
        publish(hub, [Row(f"gone.{n}", b"1", 1, 2 * n + 1)])
        hub.remove(Row(f"gone.{n}", b"null", 2, 2 * n + 2, RowKind.DELETED))
        assert (hub.changes.changes_after(tick, topic) is None) == (n == 3)
    assert [hub.gaps.newest_gap(compile_pattern(p), 0) for p in ("x.*", "x.a", "gone.1")] == [
        2,
        0,
        4,
    ]
    assert hub.gaps.newest_gap(compile_pattern("x.*"), 2) == 0


def test_the_oldest_is_forgotten_and_up_to_it_nothing_is_known() -> None:
    tombstones = Tombstones(max_names=2)
    for number, name in enumerate("abac", 1):
        tombstones.bury(Tombstone(name, 0, 10 * number, number))
    assert (tombstones.forgotten_tick, tombstones.forgotten_rev) == (2, 20)
    found = tombstones.deleted_after(0, compile_pattern("*"), living=()) or ()
    assert [(tombstone.name, tombstone.rev) for tombstone in found] == [("c", 40), ("a", 30)]


def test_a_name_that_is_living_again_is_not_told_as_deleted() -> None:
    tombstones = Tombstones(max_names=2)
    tombstones.bury(Tombstone("a", 0, 1, 1))
    assert tombstones.deleted_after(0, compile_pattern("a"), living={"a"}) == []
