"""Planned rows: decided together, they are what they are one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from recordd.config.rules import read_rules
from recordd.extending.commit import NewRows
from recordd.hub.hub import Hub
from recordd.writing import planned_rows
from recordd.writing.plan import Plan
from recordd.writing.planned_rows import PlannedRows
from recordd.writing.requests import NewRow, WriteRows
from recordd_protocol.rows import Row, RowKind
from tests.server.commits import publish

NOW = 1000
ROWS_A_STEP = 4
NAMES = list("abcdef")


@pytest.fixture(autouse=True)
def _few_rows_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have most plans take several steps, each of which builds on those before."""
    monkeypatch.setattr("recordd.writing.plan._ROWS_A_STEP", ROWS_A_STEP)


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a few rows decided together too, which shows more of that way."""
    monkeypatch.setattr(planned_rows, "_FEW", 0)


def make_hub(chance: random.Random, *, decides_together: bool) -> Hub:
    """A hub with some records; where one rule might make a record transient, each row is looked at.

    Of seeds alike the records are alike.
    """
    rules = [] if decides_together else [{"name": "nobody", "persist": False}]
    hub = Hub(read_rules(rules, default_retention_ms=None, max_capacity=1), max_records=100)
    known = chance.sample(NAMES, chance.randrange(len(NAMES)))
    times = [chance.choice([5, 20, NOW, NOW + 7]) for _ in known]
    rows = zip(known, times, strict=True)
    publish(hub, [Row(name, b"0", ts, rev) for rev, (name, ts) in enumerate(rows, 1)])
    if known and chance.random() < 0.3:
        hub.remove(Row(known[0], b"null", 9, len(known) + 1, RowKind.DELETED))
        publish(hub, [Row(known[0], b"0", 30, len(known) + 2)])
    return hub


def make_writes(chance: random.Random, hub: Hub) -> list[WriteRows]:
    """Some writes, of every kind that there is room for."""
    times: Callable[[int], int | None] = chance.choice([
        lambda n: None,
        lambda n: 10 * n,
        lambda n: chance.randrange(40),
        lambda n: chance.choice([None, 10 * n]),
    ])  # fmt: skip
    writes = []
    for number in range(chance.randrange(1, 4)):
        names = chance.choices(NAMES, k=chance.randrange(1, 6))
        if chance.random() < 0.5:
            names = list(dict.fromkeys(names))
        items = [(name, b"%d" % n, times(number + n)) for n, name in enumerate(names)]
        writes.append(WriteRows([_find(chance, hub, *item) for item in items], lambda rows: rows))
    return writes


def _find(chance: random.Random, hub: Hub, name: str, value: bytes, ts: int | None) -> NewRow:
    return name, value, ts, hub.catalogue.find(name) if chance.random() < 0.9 else None


def plan(seed: int, *, decides_together: bool) -> tuple[Plan, NewRows]:
    chance = random.Random(seed)
    hub = make_hub(chance, decides_together=decides_together)
    made = Plan(make_writes(chance, hub), hub.catalogue, now_ms=NOW, storing=True)
    for _ in made.make():
        pass
    return made, made.commit()


def describe(seed: int, *, decides_together: bool) -> list[object]:
    made, commit = plan(seed, decides_together=decides_together)
    rows = [(row.name, row.value, row.ts, row.rev, row.kind) for row in commit.rows]
    results = [[row.rev for row in cast("Sequence[Row]", rows)] for _, rows in made.results()]
    return [rows, list(commit.record_ids), list(commit.created), made.stored_rows, results]


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_rows_decided_together_are_what_they_are_one_by_one(first: int) -> None:
    for seed in range(first, first + 100):
        together = describe(seed, decides_together=True)
        assert together == describe(seed, decides_together=False), seed


def test_what_is_alike_is_decided_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test before would compare one way with itself."""
    each: list[int] = []
    add_each = PlannedRows._add_each

    def count(self: PlannedRows, names: list[str], *of: object) -> None:
        each.append(len(names))
        add_each(self, names, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(PlannedRows, "_add_each", count)
    rows = sum([len(plan(seed, decides_together=True)[0].rows) for seed in range(100)])
    assert 0.2 < sum(each) / rows < 0.8
