"""Plans: what a batch of writes will do, decided before anything is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from recordd.config.rules import read_rules
from recordd.hub.hub import Hub
from recordd.writing.plan import Plan
from recordd.writing.requests import Condition, NewRow, WriteRows
from recordd_protocol.errors import Reason
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish

NOW = 1_000_000


def make_hub(*rules: dict[str, Any], max_records: int = 100) -> Hub:
    table = read_rules(list(rules), default_retention_ms=None, max_capacity=100)
    return Hub(table, max_records=max_records)


def write(*items: tuple[str, bytes, int | None], if_rev: int | None = None) -> WriteRows:
    """A write; `if_rev` is for its first row."""
    conditions = [] if if_rev is None else [Condition(items[0][0], if_rev)]
    return WriteRows(unfound(items), lambda rows: rows, conditions=conditions)


def unfound(items: Iterable[tuple[str, bytes, int | None]]) -> list[NewRow]:
    """Rows whose records nobody has looked for yet."""
    return [(*item, None) for item in items]


def stored(plan: Plan) -> list[Row]:
    """The rows that storage gets, in order."""
    rows = [row for row in plan.commit().rows if row.rev is not None]
    assert len(rows) == plan.stored_rows
    return rows


def plan(hub: Hub, *writes: WriteRows, storing: bool = True) -> Plan:
    made = Plan(writes, hub.catalogue, now_ms=NOW, storing=storing)
    for _ in made.make():
        pass
    return made


def test_rows_get_consecutive_revs_across_the_batch() -> None:
    made = plan(make_hub(), write(("a", b"1", 5)), write(("b", b"1", 6), ("a", b"2", 7)))
    assert [row.rev for row in stored(made)] == [1, 2, 3]


def test_a_row_older_than_the_latest_is_late_within_the_batch_too() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"0", 50, 1)])
    made = plan(hub, write(("a", b"1", 60)), write(("a", b"2", 55)), write(("a", b"3", 60)))
    assert [row.kind for row in stored(made)] == [
        RowKind.LATEST,
        RowKind.LATE,
        RowKind.LATEST,
    ]


@pytest.mark.parametrize(("latest_ts", "ts"), [(NOW - 5, NOW), (NOW + 500, NOW + 500)])
def test_a_write_without_ts_always_becomes_the_latest(latest_ts: int, ts: int) -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"0", latest_ts, 1)])
    (row,) = plan(hub, write(("a", b"1", None))).rows
    assert (row.ts, row.kind) == (ts, RowKind.LATEST)


def test_a_condition_sees_the_batch_before_it_and_fails_alone() -> None:
    made = plan(
        make_hub(),
        write(("a", b"1", 5), if_rev=0),
        write(("a", b"2", 6), if_rev=0),
        write(("a", b"3", 7), if_rev=1),
        write(("b", b"1", 7)),
    )
    assert [row.value for row in stored(made)] == [b"1", b"3", b"1"]
    ((_, refusal),) = made.refused
    assert refusal.reason is Reason.CONFLICT


def test_conditions_of_several_rows_hold_before_the_first_or_nothing_is_written() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"0", 1, 1), Row("b", b"0", 1, 2)])
    items: list[tuple[str, bytes, int | None]] = [("a", b"1", 5), ("c", b"1", 5), ("a", b"2", 6)]
    fine = [Condition("a", 1), Condition("c", 0), Condition("a", 1)]
    stale = [Condition("a", 3, "records[0]."), Condition("b", 1, "records[2].")]
    made = plan(
        hub,
        WriteRows(unfound(items), lambda rows: rows, conditions=fine),
        WriteRows(unfound(items), lambda rows: rows, conditions=stale),
    )
    assert [row.rev for row in stored(made)] == [3, 4, 5]
    ((_, refusal),) = made.refused
    assert refusal.message == "records[0].if_rev: record 'a' is at rev 5, not 3"


@pytest.mark.parametrize("storing", [True, False])
def test_without_revs_only_absence_can_be_a_condition(storing: bool) -> None:
    hub = make_hub({"name": "a", "persist": False})
    first = plan(hub, write(("a", b"1", 5), if_rev=0), storing=storing)
    assert [row.rev for row in first.rows] == [None]
    publish(hub, first.rows)
    again = plan(hub, write(("a", b"2", 5), if_rev=0), write(("a", b"2", 5), if_rev=1))
    reasons = [(refusal.reason, refusal.message) for _, refusal in again.refused]
    assert reasons == [
        (Reason.CONFLICT, "if_rev: record 'a' exists, not 0"),
        (
            Reason.INVALID_PARAMS,
            "if_rev: record 'a' is not persisted and has no rev: 0 is all that can be asked",
        ),
    ]


def test_a_record_too_many_is_refused_and_takes_no_rev() -> None:
    made = plan(
        make_hub(max_records=2),
        write(("a", b"1", 5)),
        write(("b", b"1", 5), ("c", b"1", 5)),
        write(("b", b"1", 5)),
        write(("a", b"2", 6)),
    )
    assert [(row.name, row.rev) for row in stored(made)] == [("a", 1), ("b", 2), ("a", 3)]
    assert [refusal.reason for _, refusal in made.refused] == [Reason.OVERLOADED]


def test_rows_of_records_that_there_are_need_no_room_and_those_of_deleted_ones_do() -> None:
    hub = make_hub(max_records=1)
    publish(hub, [Row("a", b"0", 5, 1)])
    deleted = hub.catalogue.get("a")
    hub.catalogue.remove(deleted, 2)
    publish(hub, [Row("b", b"0", 5, 3)])
    known = hub.catalogue.get("b")
    made = plan(
        hub,
        WriteRows([("b", b"1", 6, known), ("b", b"2", 7, known)], lambda rows: rows),
        WriteRows([("b", b"3", 8, known), ("a", b"1", 8, deleted)], lambda rows: rows),
        WriteRows([("b", b"4", 9, known)], lambda rows: rows),
    )
    assert [(row.name, row.rev) for row in stored(made)] == [("b", 4), ("b", 5), ("b", 6)]
    assert [refusal.reason for _, refusal in made.refused] == [Reason.OVERLOADED]


def test_what_is_not_persisted_has_no_rev() -> None:
    hub = make_hub({"name": "tmp.*", "persist": False})
    made = plan(hub, write(("tmp.x", b"1", 5), ("a", b"1", 5)))
    assert [row.rev for row in made.rows] == [None, 1]
    assert stored(plan(hub, write(("a", b"1", 5)), storing=False)) == []


def test_planning_changes_nothing() -> None:
    hub = make_hub()
    plan(hub, write(("a", b"1", 5)))
    assert (len(hub.catalogue), hub.rev) == (0, 0)
