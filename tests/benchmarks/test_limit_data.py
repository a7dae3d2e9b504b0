"""The least storage holds what it was given, in both its ways to load."""

from __future__ import annotations

from pathlib import Path

from benchmarks.wire.data import made_up_rows, make_ts
from benchmarks.wire.limit_data import (
    DATABASE,
    LATEST,
    append_rows,
    count_rows,
    fill,
    load_indexed,
    open_database,
)

ROWS = 70_000


def test_a_database_is_filled_and_indexed(tmp_path: Path) -> None:
    fill(tmp_path / "a", made_up_rows(3, 8))
    db = open_database(tmp_path / "a" / DATABASE)
    assert db.execute("SELECT record, ts, rev FROM history WHERE record = 2").fetchall() == [
        (2, make_ts(0), 2),
        (2, make_ts(1), 5),
        (2, make_ts(2), 8),
    ]
    assert [name for name, _ in db.execute(LATEST)] == [f"accuracy::city-000{n}" for n in (2, 0, 1)]
    db.close()


def test_appended_rows_are_counted_one_and_many(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    db = open_database(tmp_path / "a" / DATABASE)
    append_rows(db, [(1, 1, 5, "1"), (2, 1, 5, "2")], [(1, "a")])
    append_rows(db, [(3, 1, 5, "3")])
    db.close()
    assert count_rows(tmp_path / "a") == 3


def test_a_load_commits_all_and_indexes_whole_runs(tmp_path: Path) -> None:
    assert load_indexed(tmp_path / "a", made_up_rows(100, ROWS)) > 0
    assert count_rows(tmp_path / "a") == ROWS
    db = open_database(tmp_path / "a" / DATABASE)
    indexed, last = db.execute("SELECT count(*), max(rev) FROM history").get
    assert indexed == last == 68_000
    assert db.execute("SELECT count(*) FROM history INDEXED BY timeline WHERE ts > 0").get == last
    assert db.execute("SELECT name FROM record WHERE id = 100").get == "accuracy::city-0099"
    db.close()
