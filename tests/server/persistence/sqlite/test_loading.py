"""What a start reads of the file, and how much of it."""

import random
from pathlib import Path

import apsw
import pytest

from recordd.persistence.sqlite import loading, schema
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.worker import VFS, open_vfs
from recordd_protocol.rows import order_of


def open_new(path: Path) -> apsw.Connection:
    open_vfs()
    schema.create_private(str(path))
    db = apsw.Connection(str(path), vfs=VFS)
    schema.prepare(db, str(path), "off")
    return db


def fill(db: apsw.Connection, records: int, rows: int, *, merged: int, seed: int = 1) -> None:
    """Write rows of random records at random times; the index has those up to rev `merged`.

    Every fifth record is deleted, every seventh lacks its rows.
    """
    chance = random.Random(seed)
    with db:
        for record in range(1, records + 1):
            name = None if record % 5 == 0 else f"r.{record}"
            db.execute("INSERT INTO record VALUES (?, ?, 3, NULL, ?)", (record, name, record % 4))
        for rev in range(1, rows + 1):
            record, ts = chance.randint(1, records), chance.randint(1, 50)
            if record % 7 == 0:
                continue
            db.execute("INSERT INTO log VALUES (?, ?, ?, ?, 0)", (rev, record, ts, f'"v{rev}"'))
            if rev <= merged:
                db.execute("INSERT INTO history VALUES (?, ?, ?)", (record, ts, rev))
        db.execute("INSERT INTO meta VALUES (?, ?)", (Meta.MERGED_REV, merged))


@pytest.mark.parametrize("merged", [0, 150, 400])
@pytest.mark.parametrize("records", [3, 40, 90])
def test_the_latest_rows_are_those_that_the_log_tells_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int, merged: int
) -> None:
    monkeypatch.setattr(loading, "_RECORDS_AT_ONCE", 16)
    db = open_new(tmp_path / "a.db")
    fill(db, records, 400, merged=merged)
    found = loading.load(db)
    rows = db.execute("SELECT name, value, ts, rev, r.id FROM log l JOIN record r ON r.id = record")
    newest: dict[str, tuple[int, int, str, int]] = {}
    for name, value, ts, rev, record in rows:
        if name is not None:
            newest[name] = max(newest.get(name, (-1, -1, "", 0)), (ts, rev, value, record))
    assert {
        r.latest.name: (r.latest.ts, r.latest.rev, r.latest.value.decode(), r.record_id + 1)
        for r in found.loaded.records
    } == newest
    assert [r.record_id for r in found.loaded.records] == sorted(r[3] - 1 for r in newest.values())
    orders = {name: order_of(ts, rev) for name, (ts, rev, _, _) in newest.items()}
    assert found.orders == [orders.get(name) for name in found.ids]
    behind = "SELECT record, count(*) FROM log WHERE rev > ? GROUP BY record"
    unmerged: dict[int, int] = dict(db.execute(behind, (merged,)).fetchall())  # type: ignore[arg-type]
    for r in found.loaded.records:
        assert r.rows == 3 + unmerged.get(r.record_id + 1, 0)
    rowless = {name for name in found.ids if name not in newest}
    assert {name for name, _ in found.loaded.deletions} == rowless
    assert {name: f"r.{record}" for name, record in found.ids.items()} == {n: n for n in found.ids}


def test_values_are_read_together_as_they_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_new(tmp_path / "a.db")
    fill(db, 60, 400, merged=300)

    def told(found: loading.FoundState) -> list[tuple[object, ...]]:
        return [
            (r.latest.body, r.latest.order, r.rows, r.record_id, r.purged_rev, r.damage)
            for r in found.loaded.records
        ]

    together = told(loading.load(db))

    def refuse(*_: object) -> None:
        raise apsw.IOError("the disk")

    monkeypatch.setattr(loading._Records, "_load_together", refuse)
    assert told(loading.load(db)) == together


def count_steps(path: Path, records: int, rows_each: int) -> int:
    """Return the instructions that SQLite takes to load a file all of whose rows are merged."""
    db = open_new(path)
    rows = records * rows_each
    with db:
        for record in range(1, records + 1):
            db.execute(
                "INSERT INTO record VALUES (?, ?, ?, NULL, 0)", (record, f"r.{record}", rows_each)
            )
        db.execute(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?)"
            " INSERT INTO log SELECT n, n % ? + 1, n, 'null', 0 FROM c", (rows, records),
        )  # fmt: skip
        db.execute("INSERT INTO history SELECT record, ts, rev FROM log")
        db.execute("INSERT INTO meta VALUES (?, ?)", (Meta.MERGED_REV, rows))
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    db.set_progress_handler(count, 1)
    found = loading.load(db)
    db.set_progress_handler(None)
    assert sum(record.rows for record in found.loaded.records) == rows
    return steps


def test_a_start_costs_the_same_however_many_rows_there_are(tmp_path: Path) -> None:
    few, many = (count_steps(tmp_path / f"{n}.db", 20, n) for n in (5, 500))
    assert few == many


def test_a_start_costs_as_much_as_there_are_records(tmp_path: Path) -> None:
    """Negative control: what is counted is the reading."""
    few, many = (count_steps(tmp_path / f"{n}.db", n, 5) for n in (20, 200))
    assert many > 5 * few
