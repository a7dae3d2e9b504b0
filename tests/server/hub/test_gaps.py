"""Gaps: up to which rev a history may lack what matches."""

from __future__ import annotations

import pytest

from recordd.config.rules import read_rules
from recordd.extending.backend import Loaded, LoadedRecord, Purged
from recordd.hub.hub import Hub
from recordd_protocol.patterns import PatternSet, compile_pattern
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish


def make_hub() -> Hub:
    return Hub(read_rules([], default_retention_ms=None, max_capacity=1), max_records=1000)


def test_rows_that_retention_took_are_counted_and_leave_a_gap() -> None:
    hub = make_hub()
    for rev in range(1, 4):
        publish(hub, [Row("a", b"1", rev, rev)])
    publish(hub, [Row("b", b"1", 4, 4)])
    with hub.purge() as purge:
        purge.note({"a": Purged(2, 2)})
    assert hub.rows == 2
    assert hub.gaps.newest_gap(compile_pattern("*"), 0) == 2
    assert hub.gaps.newest_gap(compile_pattern("*"), 2) == 0
    assert hub.gaps.newest_gap(compile_pattern("b"), 0) == 0


def test_after_a_restart_only_followers_of_what_was_deleted_lack_rows() -> None:
    hub = make_hub()
    latest_rows = [
        LoadedRecord(Row("a", b"1", 1, 3), 2, 0),
        LoadedRecord(Row("x.b", b"1", 1, 7), 1, 1),
    ]
    deletions = [("x.a", 4), ("x.b", 6), ("c", 9)]
    hub.restore(Loaded(epoch="e", rev=9, records=latest_rows, deleted_rev=2, deletions=deletions))
    gaps = {
        (pattern, after): hub.gaps.newest_gap(compile_pattern(pattern), after)
        for pattern, after in [
            ("a", 2), ("a", 1), ("x.b", 5), ("x.b", 6), ("x.*", 3), ("x.*", 6), ("#", 8), ("c", 3),
            ("new", 2), ("x.a", 4), ("#.a", 3),
        ]
    }  # fmt: skip
    assert gaps == {
        ("a", 2): 0, ("a", 1): 2, ("x.b", 5): 6, ("x.b", 6): 0, ("x.*", 3): 6, ("x.*", 6): 0,
        ("#", 8): 9, ("c", 3): 9, ("new", 2): 0, ("x.a", 4): 0, ("#.a", 3): 4,
    }  # fmt: skip


def test_the_gap_of_a_pattern_that_matches_all_is_that_of_the_record_with_the_newest() -> None:
    hub = make_hub()
    publish(hub, [Row(f"r.{n}", b"1", n, n) for n in range(1, 21)])
    with hub.purge() as purge:
        purge.note({f"r.{rev}": Purged(1, rev) for rev in (5, 11, 7)})
    assert (
        hub.gaps.newest_gap(compile_pattern("#"), 0)
        == hub.gaps.newest_gap(compile_pattern("r.#"), 0)
        == 11
    )
    assert hub.gaps.newest_gap(compile_pattern("#"), 11) == 0


def test_deletions_past_the_limit_may_have_been_of_any_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recordd.hub.hub.MAX_DELETIONS", 2)
    hub = make_hub()
    for n, name in enumerate("abc"):
        publish(hub, [Row(name, b"1", 1, 2 * n + 1)])
        hub.remove(Row(name, b"null", 2, 2 * n + 2, RowKind.DELETED))
    gaps = [hub.gaps.newest_gap(compile_pattern("x"), after) for after in (1, 2)]
    assert gaps == [2, 0]
    assert hub.gaps.newest_gap(compile_pattern("b"), 3) == 4


def test_to_tell_whether_a_pattern_has_a_gap_names_are_matched_in_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matches, matched = PatternSet.matches, [0]

    def count(self: PatternSet, name: str) -> bool:
        matched[0] += 1
        return matches(self, name)

    monkeypatch.setattr(PatternSet, "matches", count)
    hub = make_hub()
    publish(hub, [Row(f"r.{n}", b"1", n, n) for n in range(1, 1001)])
    with hub.purge() as purge:
        purge.note({"r.5": Purged(1, 5)})
    pattern = compile_pattern("r*.#")
    assert len(list(hub.gaps.prepare_gap(pattern, 5))) == 0  # what is gone is not asked for
    assert len(list(hub.gaps.prepare_gap(pattern, 0))) > 20
    assert matched == [1000]
    assert hub.gaps.newest_gap(pattern, 0) == 5
    assert matched == [1000]


def test_what_retention_took_of_archived_rows_is_a_gap_too() -> None:
    rules = read_rules(
        [{"name": "t.*", "persist": False}], default_retention_ms=None, max_capacity=1
    )
    hub = Hub(rules, max_records=100)
    archived = LoadedRecord(Row("t.a", b"1", 1, 9), 5, 0)
    hub.restore(Loaded(epoch="e", rev=9, records=[archived]))
    with hub.purge() as purge:
        purge.note({"t.a": Purged(2, 4)})
    gaps = [hub.gaps.newest_gap(compile_pattern("t.*"), after_rev) for after_rev in (0, 3, 4)]
    assert gaps == [4, 4, 0]
    assert (hub.rows, hub.archive.rows_of("t.a")) == (3, 3)


def test_what_retention_took_before_the_start_is_a_gap() -> None:
    hub = make_hub()
    records = [LoadedRecord(Row("a", b"1", 1, 8), 3, 0, purged_rev=5)]
    hub.restore(Loaded(epoch="e", rev=9, records=records))
    gaps = [hub.gaps.newest_gap(compile_pattern(text), 0) for text in ("a", "#", "b")]
    assert gaps == [5, 5, 0]
