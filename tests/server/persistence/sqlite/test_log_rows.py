"""Rows of the log by columns: what is strung together is what they are one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import apsw
import pytest

from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRows
from recordd.persistence.sqlite.log_rows import LogRow, LogRows
from recordd.persistence.sqlite.schema import FIRST_RECORD
from recordd.persistence.sqlite.statements import insert_rows
from recordd_protocol.rows import Row, RowKind


def log_rows_of(rows: list[Row]) -> list[LogRow]:
    """The rows of the log, one by one, each of record 5."""
    return [
        (row.rev, 5 + FIRST_RECORD, row.ts, row.value.decode(), row.kind is RowKind.LATE)
        for row in rows
        if row.rev is not None
    ]


def read_log(rows: LogRows) -> Sequence[object]:
    """Return what is in a log that rows were appended to."""
    db = apsw.Connection(":memory:")
    db.execute(
        "CREATE TABLE log (rev INTEGER PRIMARY KEY, record INTEGER NOT NULL, ts INTEGER NOT NULL,"
        " value TEXT NOT NULL, late INTEGER NOT NULL DEFAULT 0) STRICT"
    )
    insert_rows(db, [], rows)
    return db.execute("SELECT * FROM log").fetchall()


@pytest.mark.parametrize("late", [0.0, 0.1])
@pytest.mark.parametrize("transient", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, 2, 20, 64, 700])
def test_the_log_has_the_rows_of_a_commit_that_are_stored(
    count: int, late: float, transient: float
) -> None:
    chance = random.Random(count)
    rows = [
        Row(
            f"r{rev}",
            f'"{rev}é"'.encode(),
            chance.randrange(99),
            rev if rev == 1 or chance.random() >= transient else None,
            RowKind.LATE if chance.random() < late else RowKind.LATEST,
        )
        for rev in range(1, count + 1)
    ]
    columns = RowColumns.of(rows)
    if not transient:
        revs = range(1, count + 1)
        columns = RowColumns(columns.names, columns.values, columns.times, revs, columns.late)
    made = LogRows.of_commit(NewRows(columns, [5] * count))
    expected = log_rows_of(rows)
    assert len(made) == len(expected)
    assert read_log(made) == expected
    assert read_log(LogRows.of(expected)) == expected
    assert read_log(made.part(1, count)) == expected[1:]
