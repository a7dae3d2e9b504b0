"""The merge of a run: its rows are sorted, and go to the index in slices."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from recordd.persistence.sqlite import schema, statements
from recordd.persistence.sqlite.log_rows import LogRow, LogRows
from recordd.persistence.sqlite.tail import Key, Run
from recordd.persistence.sqlite.worker import VFS, open_vfs

START = (-1, -1, -1)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[apsw.Connection]:
    open_vfs()
    path = str(tmp_path / "a.db")
    with contextlib.closing(apsw.Connection(path, vfs=VFS)) as db:
        schema.prepare(db, path, "normal")
        yield db


def fill(db: apsw.Connection, seed: int, rows: int = 200) -> list[LogRow]:
    chance = random.Random(seed)
    made = [
        (rev, chance.randrange(1, 9), chance.randrange(50), "1", False)
        for rev in range(1, rows + 1)
    ]
    statements.insert_rows(db, [(number, f"r{number}") for number in range(1, 9)], LogRows.of(made))
    return made


def run_of(rows: list[LogRow], after_rev: int) -> Run:
    entries: dict[int, list[tuple[int, int]]] = {}
    for rev, record, ts, _, _ in rows[after_rev:]:
        entries.setdefault(record, []).append((ts, rev))
    for found in entries.values():
        found.sort()
    return Run(after_rev, len(rows), len(rows) - after_rev, entries)


def merge(db: apsw.Connection, run: Run, limit: int) -> list[int]:
    """Merge a run; return how many rows were in the index behind each slice."""
    sizes, behind = list[int](), START
    while True:
        found = statements.merge_slice(db, run.last_rev, behind, limit)
        sizes.append(int(db.execute("SELECT count(*) FROM history").get))
        if found is None:
            return sizes
        assert db.execute("SELECT max(row_count) FROM record").get == 0
        behind = found


@pytest.mark.parametrize("limit", [1, 7, 50, 119, 120, 121])
@pytest.mark.parametrize("source", ["log", "memory"])
def test_slices_bring_every_row_of_the_run_and_the_last_one_its_counts(
    db: apsw.Connection, limit: int, source: str
) -> None:
    rows = fill(db, limit)
    run = run_of(rows, 80)
    if source == "log":
        statements.begin_run(db)
        assert [statements.sort_rows(db, 80, 119), statements.sort_rows(db, 119, 200)] == [39, 81]
    else:
        statements.sort_run_of_memory(db, run)
    sizes = merge(db, run, limit)
    assert sizes == [min(limit * (n + 1), 120) for n in range(-(-120 // limit))]
    wanted = sorted((record, ts, rev) for rev, record, ts, _, _ in rows[80:])
    indexed = db.execute("SELECT record, ts, rev FROM history ORDER BY record, ts, rev")
    assert indexed.fetchall() == wanted
    counts = db.execute("SELECT id, row_count FROM record WHERE row_count").fetchall()
    assert counts == [(record, len(found)) for record, found in sorted(run.entries.items())]
    assert db.execute("SELECT value FROM meta WHERE key = 'merged_rev'").get == 200


def test_a_slice_ends_where_somebody_waits_and_the_next_one_goes_on(
    db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "_MERGED_AT_ONCE", 20)
    run = run_of(fill(db, 9), 80)
    statements.sort_run_of_memory(db, run)
    answers = iter([False, True, True, False, False, False])
    ends, behind = list[int](), START
    while found := statements.merge_slice(db, 200, behind, 110, lambda: next(answers)):
        ends.append(int(db.execute("SELECT count(*) FROM history").get))
        behind = found
    assert ends == [40, 60]
    indexed = db.execute("SELECT record, ts, rev FROM history ORDER BY record, ts, rev")
    wanted = [(record, *entry) for record, found in run.entries.items() for entry in found]
    assert indexed.fetchall() == sorted(wanted)
    assert db.execute("SELECT sum(row_count) FROM record").get == 120


@pytest.mark.parametrize("limit", [1, 20, 45])
def test_a_slice_of_many_parts_has_as_many_rows_as_it_may(
    db: apsw.Connection, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(statements, "_MERGED_AT_ONCE", 20)
    run = run_of(fill(db, 9), 80)
    statements.sort_run_of_memory(db, run)
    assert merge(db, run, limit) == [min(limit * (n + 1), 120) for n in range(-(-120 // limit))]


def test_a_run_follows_another_and_one_that_is_there_in_part(db: apsw.Connection) -> None:
    rows = fill(db, 3)
    second = run_of(rows, 120)
    for _ in range(2):  # as after a crash in its middle: its first slice is there
        statements.begin_run(db)
        assert statements.sort_rows(db, 0, 120) == 120
        behind: Key | None = statements.merge_slice(db, 120, START, 50)
    while behind is not None:
        behind = statements.merge_slice(db, 120, behind, 50)
    statements.begin_run(db)
    assert statements.sort_rows(db, 120, 200) == second.size
    merge_all: Key | None = START
    while merge_all is not None:
        merge_all = statements.merge_slice(db, 200, merge_all, 1000)
    assert db.execute("SELECT count(*) FROM history").get == 200
    assert db.execute("SELECT sum(row_count) FROM record").get == 200


def test_a_run_of_memory_takes_the_place_of_what_the_log_gave(db: apsw.Connection) -> None:
    run = run_of(fill(db, 5), 0)
    db.execute("DELETE FROM log WHERE rev = 7")
    statements.begin_run(db)
    assert statements.sort_rows(db, 0, 200) == 199
    statements.sort_run_of_memory(db, run)
    assert db.execute("SELECT count(*) FROM temp.run").get == 200
