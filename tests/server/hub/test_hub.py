"""The hub: one commit goes through all its parts."""

from __future__ import annotations

from recordd.config.rules import read_rules
from recordd.extending.backend import Loaded, LoadedRecord
from recordd.hub.hub import Hub
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish


def make_hub() -> Hub:
    rules = read_rules(
        [{"name": "t.*", "persist": False}], default_retention_ms=None, max_capacity=1
    )
    return Hub(rules, max_records=100)


def test_each_commit_is_one_step_of_rev_and_a_tick_a_row() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"1", 1, 1), Row("t.a", b"1", 1, None), Row("b", b"1", 1, 2)])
    assert (hub.rev, hub.catalogue.tick, hub.rows) == (2, 3, 2)
    assert hub.changes.before_commit == (0, 0)
    hub.remove(Row("a", b"null", 2, 3, RowKind.DELETED))
    assert (hub.rev, hub.catalogue.tick, hub.rows) == (3, 4, 1)
    assert hub.changes.before_commit == (3, 2)
    rows = list(hub.changes.backlog.rows_after(2) or ())
    assert [(row.name, row.kind) for row in rows] == [
        ("b", RowKind.LATEST),
        ("a", RowKind.DELETED),
    ]


def test_a_restart_takes_current_records_and_archived_rows_apart() -> None:
    hub = make_hub()
    records = [LoadedRecord(Row("a", b"1", 1, 8), 3, 0), LoadedRecord(Row("t.a", b"1", 1, 7), 2, 1)]
    hub.restore(Loaded(epoch="e", rev=9, records=records, deletions=[("x", 9)]))
    assert (hub.rev, hub.epoch, hub.rows) == (9, "e", 5)
    assert (list(hub.catalogue.names()), list(hub.archive)) == (["a"], ["t.a"])
    assert hub.changes.before_commit == (hub.catalogue.tick, 9)


def test_the_deletion_of_a_transient_value_leaves_the_archived_rows() -> None:
    hub = make_hub()
    hub.restore(Loaded(epoch="e", rev=7, records=[LoadedRecord(Row("t.a", b"1", 1, 7), 2, 0)]))
    publish(hub, [Row("t.a", b"2", 2, None)])
    hub.remove(Row("t.a", b"null", 3, None, RowKind.DELETED))
    assert (hub.rev, hub.rows, hub.catalogue.find("t.a")) == (7, 2, None)
