"""Rows by columns: as a sequence they are the rows, each made once."""

from __future__ import annotations

import random

import pytest

from recordd.extending.columns import RowColumns
from recordd_protocol.rows import Row, RowKind


def fields_of(row: Row) -> tuple[object, ...]:
    return row.name, row.value, row.ts, row.rev, row.kind


def make_rows(chance: random.Random) -> list[Row]:
    kinds = [RowKind.LATEST, RowKind.LATE]
    return [
        Row(f"r{n}", b"%d" % n, chance.randrange(9), chance.choice([n, None]), chance.choice(kinds))
        for n in range(chance.randrange(1, 8))
    ]


def without_objects(rows: list[Row]) -> RowColumns:
    """Return the rows by columns, as a plan makes them."""
    known = RowColumns.of(rows)
    return RowColumns(known.names, known.values, known.times, known.revs, known.late)


@pytest.mark.parametrize("seed", range(20))
def test_columns_are_the_rows_that_they_are_of(seed: int) -> None:
    chance = random.Random(seed)
    rows = make_rows(chance)
    start = chance.randrange(len(rows))
    end = chance.randrange(start, len(rows) + 1)
    expected = list(map(fields_of, rows))
    for columns in (without_objects(rows), RowColumns.of(rows)):
        assert len(columns) == len(rows)
        assert [fields_of(columns.row(place)) for place in range(len(rows))] == expected
        assert [fields_of(row) for row in columns.part(start, end)] == expected[start:end]
        assert [fields_of(row) for row in columns] == expected
        assert fields_of(columns[-1]) == expected[-1]


def test_each_row_is_made_once_and_not_before_it_is_asked_for() -> None:
    columns = without_objects([Row("a", b"1", 1, 1), Row("b", b"1", 1, 2)])
    before = columns.made
    assert columns.part(0, 2) is columns
    rows = list(columns)
    assert (before, rows) == (None, list(columns))
    assert columns.made == rows
    assert columns.row(1) is rows[1]
    assert columns.part(1, 2)[0] is rows[1]


def test_rows_that_were_objects_stay_the_same_ones() -> None:
    rows = [Row("a", b"1", 1, 1)]
    columns = RowColumns.of(rows)
    assert RowColumns.of(columns) is columns
    assert columns.made is rows
