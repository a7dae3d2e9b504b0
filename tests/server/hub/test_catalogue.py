"""The catalogue: what is latest, and what matches."""

from __future__ import annotations

import random
from collections.abc import Container

import pytest

from recordd.config.rules import Rule, read_rules
from recordd.extending.backend import DamagedStorage, Loaded, LoadedRecord
from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRecord, NewRows
from recordd.hub.catalogue import Catalogue
from recordd.hub.hub import Hub
from recordd.hub.records import RecordState, memory_of
from recordd.hub.topic_index import Delivery
from recordd_protocol.errors import RequestError
from recordd_protocol.patterns import compile_pattern, compile_patterns
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import commit_of, publish


def make_hub() -> Hub:
    return Hub(read_rules([], default_retention_ms=None, max_capacity=1), max_records=1000)


def latest(hub: Hub, *patterns: str) -> list[tuple[str, bytes]]:
    return [(row.name, row.value) for row in hub.catalogue.latest(compile_patterns(patterns))]


def test_a_late_row_never_moves_the_latest_back() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"1", 50, 1)])
    publish(hub, [Row("a", b"2", 40, 2, RowKind.LATE)])
    assert latest(hub, "a") == [("a", b"1")]
    publish(hub, [Row("a", b"3", 50, 3)])
    assert latest(hub, "a") == [("a", b"3")]
    assert hub.rev == 3


def test_latest_rows_come_by_time_whatever_was_asked_before() -> None:
    hub = make_hub()
    for rev, (name, ts) in enumerate([("x.a", 30), ("x.b", 10), ("y", 20), ("x.c", 20)], 1):
        publish(hub, [Row(name, b"1", ts, rev)])
    assert [name for name, _ in latest(hub, "#")] == ["x.b", "y", "x.c", "x.a"]
    publish(hub, [Row("x.b", b"2", 99, 5)])
    assert [name for name, _ in latest(hub, "#")] == ["y", "x.c", "x.a", "x.b"]
    assert [name for name, _ in latest(hub, "x.*")] == ["x.c", "x.a", "x.b"]
    assert [name for name, _ in latest(hub, "y", "x.a")] == ["y", "x.a"]


def test_a_list_given_out_does_not_change_afterwards() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"1", 1, 1)])
    rows = hub.catalogue.latest(compile_patterns("#"))
    publish(hub, [Row("a", b"2", 2, 2)])
    publish(hub, [Row("b", b"1", 3, 3)])
    assert [row.value for row in rows] == [b"1"]


def test_new_and_removed_records_are_noticed() -> None:
    hub = make_hub()
    assert latest(hub, "*") == []
    publish(hub, [Row("a", b"1", 1, 1)])
    assert latest(hub, "*") == [("a", b"1")]
    hub.remove(Row("a", b"null", 2, 2, RowKind.DELETED))
    assert latest(hub, "*") == []
    assert hub.catalogue.find("a") is None


def test_ids_of_records_that_are_gone_are_not_given_again() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"1", 1, 1), Row("b", b"1", 1, 2)])
    (first,) = hub.catalogue.match_after(compile_patterns("b"), -1)
    hub.remove(Row("b", b"null", 2, 3, RowKind.DELETED))
    publish(hub, [Row("b", b"1", 3, 4)])
    (second,) = hub.catalogue.match_after(compile_patterns("b"), -1)
    assert second.record_id > first.record_id


def test_memory_is_counted_until_the_last_record_is_gone() -> None:
    hub = make_hub()
    publish(hub, [Row("a", b"1" * 100, 1, 1), Row("t", b"2", 1, None)])
    taken = hub.catalogue.latest_bytes
    publish(hub, [Row("a", b"1" * 200, 2, 2)])
    assert hub.catalogue.latest_bytes == taken + 200  # in the value, and in the row as it is shown
    assert hub.catalogue.transients == 1
    hub.remove(Row("a", b"null", 3, 3, RowKind.DELETED))
    hub.remove(Row("t", b"null", 3, None, RowKind.DELETED))
    assert (hub.catalogue.latest_bytes, hub.catalogue.transients, hub.rows) == (0, 0, 0)


def test_a_record_that_a_commit_makes_knows_which_topics_were_found_for_it() -> None:
    hub = make_hub()
    topic = hub.topics.follow(compile_pattern("a.*"))
    commit = NewRows([Row("a.b", b"1", 1, 1)], [5], [NewRecord(5, "a.b", is_stored=True)])
    records = hub.catalogue.find_records(commit)
    delivery = Delivery(hub.topics, commit.rows, records)
    assert len(list(delivery.sort())) > 0
    hub.publish(commit.rows, records, delivery)
    state = hub.catalogue.find("a.b")
    assert state is not None
    assert (state.topics, state.record_id) == ((topic,), 5)


def test_a_value_that_cannot_be_read_is_refused_until_it_is_written_anew_or_gone() -> None:
    hub = make_hub()
    damage = DamagedStorage("page 7")
    records = [
        LoadedRecord(Row(name, b"", 1, 1), 1, n, damage=damage) for n, name in enumerate("ab")
    ]
    hub.restore(Loaded(epoch="e", rev=1, records=records))
    for name in "ab":
        with pytest.raises(RequestError, match="page 7"):
            hub.catalogue.check_readable(name.__eq__)
    publish(hub, [Row("a", b"1", 0, 2, RowKind.LATE)])
    with pytest.raises(RequestError, match="page 7"):
        hub.catalogue.check_readable("a".__eq__)
    publish(hub, [Row("a", b"1", 2, 3)])
    hub.remove(Row("b", b"null", 2, 4, RowKind.DELETED))
    hub.catalogue.check_readable(lambda name: True)


def test_ids_go_on_behind_those_of_records_that_are_gone() -> None:
    hub = make_hub()
    records = [LoadedRecord(Row("a", b"1", 1, 1), 1, 3)]
    hub.restore(Loaded(epoch="e", rev=1, records=records, next_record_id=9))
    publish(hub, [Row("b", b"1", 1, 2)])
    assert [state.record_id for state in hub.catalogue.states_after(-1)] == [3, 9]
    assert hub.catalogue.next_record_id == 10


class RecordModel:
    """A record as the rows that came, looked at anew each time."""

    def __init__(self, rule: Rule) -> None:
        self.capacity = rule.capacity
        self.is_ring = rule.buffer == "spmc_ring"
        self.came: list[Row] = []
        self.kept: list[Row] = []
        self.buffered = 0

    def take(self, row: Row) -> None:
        self.came.append(row)
        if self.is_ring or row.kind is RowKind.LATEST:
            self.kept = [*self.kept, row][-self.capacity :]
            self.buffered += 1

    def forget_buffered(self) -> None:
        self.kept, self.buffered = [], 0

    @property
    def were_latest(self) -> list[Row]:
        return [row for row in self.came if row.kind is RowKind.LATEST]

    def describe(self) -> tuple[object, ...]:
        stored = len([row for row in self.came if row.rev is not None])
        memory = sum(map(memory_of, self.kept))
        latest, kept = fields_of(self.were_latest[-1]), list(map(fields_of, self.kept))
        return latest, kept, memory, self.buffered, stored, len(self.came), len(self.kept)


@pytest.mark.parametrize("seed", range(8))
def test_rows_take_their_places_as_in_lists(seed: int) -> None:
    """Whether they come as objects or as columns, and whatever the buffer."""
    chance = random.Random(seed)
    rules = [
        {"name": "ring", "buffer": "spmc_ring", "capacity": 3},
        {"name": "ringlet", "buffer": "spmc_ring", "capacity": 1},
        {"name": "transient", "persist": False},
    ]
    hub = Hub(read_rules(rules, default_retention_ms=None, max_capacity=3), max_records=9)
    catalogue, models = hub.catalogue, dict[str, RecordModel]()
    for number in range(60):
        rows = [_make_row(chance, 4 * number + n, models) for n in range(chance.randrange(5))]
        for row in rows:
            rule = hub.rules.rule_for(row.name)
            models.setdefault(row.name, RecordModel(rule)).take(row)
        (publish if chance.random() < 0.5 else publish_columns)(hub, rows)
        assert {name: _describe(catalogue.get(name)) for name in models} == {
            name: model.describe() for name, model in models.items()
        }
        _check_counts(catalogue, models, 4 * number)
        if models and chance.random() < 0.1:  # as where a value is damaged
            name = chance.choice(list(models))
            catalogue.latest_bytes -= catalogue.get(name).memory
            catalogue.get(name).forget_buffered()
            models[name].forget_buffered()


def _make_row(chance: random.Random, rev: int, known: Container[str]) -> Row:
    name = chance.choice(["a", "bb", "ring", "ringlet", "transient"])
    kind = RowKind.LATE if name in known and chance.random() < 0.3 else RowKind.LATEST
    return Row(name, b"1" * chance.randrange(99), rev, rev if name != "transient" else None, kind)


def publish_columns(hub: Hub, rows: list[Row]) -> None:
    """Publish rows of which there are no objects."""
    columns, records = RowColumns.of(rows), hub.catalogue.find_records(commit_of(hub, rows))
    hub.publish(
        RowColumns(columns.names, columns.values, columns.times, columns.revs, columns.late),
        records,
    )


def fields_of(row: Row) -> tuple[object, ...]:
    return row.name, row.value, row.ts, row.rev, row.kind


def _describe(state: RecordState) -> tuple[object, ...]:
    latest, kept = fields_of(state.latest), list(map(fields_of, state.buffer))
    counts = (state.memory, state.buffered, state.rows, state.produced, state.occupancy)
    assert latest == (state.name, state.value, state.ts, state.rev, RowKind.LATEST)
    return latest, kept, *counts


def _check_counts(catalogue: Catalogue, models: dict[str, RecordModel], newest: int) -> None:
    replaced = [row for model in models.values() for row in model.were_latest[:-1]]
    stored = [row.rev for model in models.values() for row in model.came if row.rev is not None]
    assert catalogue.replaced_bytes == sum(map(memory_of, replaced))
    assert catalogue.latest_bytes == sum(state.memory for state in catalogue.states_after(-1))
    assert (catalogue.rows, catalogue.rev) == (len(stored), max(stored, default=0))
    assert catalogue.transients == len(models.keys() & {"transient"})
    changed = [state.changed for state in catalogue.by_change.values()]
    assert changed == sorted(changed)


def test_rows_that_came_as_objects_are_those_objects_and_shared() -> None:
    hub, rows = make_hub(), [Row("a", b"1", 1, 1), Row("b", b"1", 1, 2)]
    publish(hub, rows)
    assert hub.catalogue.latest(compile_patterns("#")) == rows
    publish_columns(hub, [Row("a", b"2", 2, 3)])
    state = hub.catalogue.get("a")
    assert state.row is None
    assert hub.catalogue.latest(compile_patterns("a")) == [state.latest]
    assert state.latest is state.row
