"""The hub: what is latest, and what matches."""

from __future__ import annotations

import pytest

from recordd.config.rules import read_rules
from recordd.extending.backend import Loaded, LoadedRecord, Purged
from recordd.hub.hub import Hub
from recordd_protocol.patterns import compile_pattern, compile_patterns
from recordd_protocol.rows import Row, RowKind


def make_hub() -> Hub:
    return Hub(read_rules([], default_retention_ms=None, max_capacity=1), max_records=100)


def latest(hub: Hub, *patterns: str) -> list[tuple[str, bytes]]:
    return [(row.name, row.value) for row in hub.catalogue.latest(compile_patterns(patterns))]


def test_a_late_row_never_moves_the_latest_back() -> None:
    hub = make_hub()
    hub.publish([Row("a", b"1", 50, 1)])
    hub.publish([Row("a", b"2", 40, 2, RowKind.LATE)])
    assert latest(hub, "a") == [("a", b"1")]
    hub.publish([Row("a", b"3", 50, 3)])
    assert latest(hub, "a") == [("a", b"3")]
    assert hub.rev == 3


def test_latest_rows_come_by_time_whatever_was_asked_before() -> None:
    hub = make_hub()
    for rev, (name, ts) in enumerate([("x.a", 30), ("x.b", 10), ("y", 20), ("x.c", 20)], 1):
        hub.publish([Row(name, b"1", ts, rev)])
    assert [name for name, _ in latest(hub, "#")] == ["x.b", "y", "x.c", "x.a"]
    hub.publish([Row("x.b", b"2", 99, 5)])
    assert [name for name, _ in latest(hub, "#")] == ["y", "x.c", "x.a", "x.b"]
    assert [name for name, _ in latest(hub, "x.*")] == ["x.c", "x.a", "x.b"]
    assert [name for name, _ in latest(hub, "y", "x.a")] == ["y", "x.a"]


def test_a_list_given_out_does_not_change_afterwards() -> None:
    hub = make_hub()
    hub.publish([Row("a", b"1", 1, 1)])
    rows = hub.catalogue.latest(compile_patterns("#"))
    hub.publish([Row("a", b"2", 2, 2)])
    hub.publish([Row("b", b"1", 3, 3)])
    assert [row.value for row in rows] == [b"1"]


def test_new_and_removed_records_are_noticed() -> None:
    hub = make_hub()
    assert latest(hub, "*") == []
    hub.publish([Row("a", b"1", 1, 1)])
    assert latest(hub, "*") == [("a", b"1")]
    hub.remove(Row("a", b"null", 2, 2, RowKind.DELETED))
    assert latest(hub, "*") == []
    assert hub.catalogue.find("a") is None


def test_rows_that_retention_took_are_counted_and_leave_a_gap() -> None:
    hub = make_hub()
    for rev in range(1, 4):
        hub.publish([Row("a", b"1", rev, rev)])
    hub.publish([Row("b", b"1", 4, 4)])
    with hub.purge() as purge:
        purge.note({"a": Purged(2, 2)}, now_ms=0)
    assert hub.rows == 2
    assert hub.gaps.newest_gap(compile_pattern("*"), 0) == 2
    assert hub.gaps.newest_gap(compile_pattern("*"), 2) == 0
    assert hub.gaps.newest_gap(compile_pattern("b"), 0) == 0


def test_after_a_restart_only_followers_of_what_was_deleted_lack_rows() -> None:
    hub = make_hub()
    latest_rows = [LoadedRecord(Row("a", b"1", 1, 3), 2), LoadedRecord(Row("x.b", b"1", 1, 7), 1)]
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


def test_who_missed_more_deletions_than_can_be_matched_starts_afresh_but_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recordd.hub.tombstones._MAX_MATCHES", 3)
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("x.*"))
    tick = hub.catalogue.tick
    for n in range(4):
        hub.publish([Row(f"gone.{n}", b"1", 1, 2 * n + 1)])
        hub.remove(Row(f"gone.{n}", b"null", 2, 2 * n + 2, RowKind.DELETED))
        assert (hub.changes.changes_after(tick, topic) is None) == (n == 3)
    assert [hub.gaps.newest_gap(compile_pattern(p), 0) for p in ("x.*", "x.a", "gone.1")] == [
        2,
        0,
        4,
    ]
    assert hub.gaps.newest_gap(compile_pattern("x.*"), 2) == 0


def test_deletions_past_the_limit_may_have_been_of_any_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recordd.hub.hub.MAX_DELETIONS", 2)
    hub = make_hub()
    for n, name in enumerate("abc"):
        hub.publish([Row(name, b"1", 1, 2 * n + 1)])
        hub.remove(Row(name, b"null", 2, 2 * n + 2, RowKind.DELETED))
    gaps = [hub.gaps.newest_gap(compile_pattern("x"), after) for after in (1, 2)]
    assert gaps == [2, 0]
    assert hub.gaps.newest_gap(compile_pattern("b"), 3) == 4
