"""What only the SQLite backend has: a file, its versions, its lock, its checksums."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import apsw
import pytest
import trio

from recordd.conformance.support import ask, revs, row, settle
from recordd.extending.backend import (
    BackendError,
    CleanupTarget,
    FatalBackendError,
    Purged,
)
from recordd.persistence.sqlite import merging, statements, structure
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from recordd.persistence.sqlite.worker import VFS
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import compile_patterns
from tests.server.backends import sqlite_options
from tests.server.commits import delete, store

EVERYTHING = compile_patterns("#")


def make(path: Path, **options: int | float) -> SqliteBackend:
    return SqliteBackend(sqlite_options(path, **options))  # type: ignore[arg-type]


async def fill(path: Path, rows: int = 10) -> None:
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(n) for n in range(1, rows + 1)])
    await backend.close()


async def test_the_file_says_whose_it_is_and_is_readable_by_plain_sqlite(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    db = sqlite3.connect(tmp_path / "a.db")
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert db.execute("SELECT value ->> '$' FROM log WHERE rev = 7").fetchone() == (7,)
    tables = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert all("STRICT" in sql for (sql,) in tables)
    db.close()


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 1000])
async def test_a_newer_file_is_refused_and_left_as_it_was(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(BackendError, match="newer recordd"):
        await make(path).initialize()
    assert path.read_bytes() == before


async def test_what_was_deleted_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, rows=10)
    backend = make(path)
    await backend.initialize()
    while await backend.maintain(1 << 40):
        pass
    await backend.cleanup([CleanupTarget("a", None, 4, True)], 100)
    await store(backend, [row(11, "b")])
    await delete(backend, "b", 12)
    await backend.close()
    backend = make(path)
    loaded = await backend.initialize()
    assert (loaded.rev, loaded.deleted_rev, loaded.deletions) == (12, 0, [("b", 12)])
    assert [record.purged_rev for record in loaded.records] == [6]
    await backend.close()


async def test_the_names_of_the_newest_deletions_are_kept_and_of_older_ones_the_rev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "recordd.persistence.sqlite.backend"
    monkeypatch.setattr(f"{module}.MAX_DELETIONS", 3)
    monkeypatch.setattr("recordd.persistence.sqlite.writing._SLICE_ROWS", 2)
    backend = make(tmp_path / "a.db")
    await backend.initialize()
    for n, name in enumerate("abcdefaa"):
        await store(backend, [row(2 * n + 1, name)])
        await delete(backend, name, 2 * n + 2)
        while await backend.maintain(1 << 40):
            pass
    await backend.close()
    backend = make(tmp_path / "a.db")
    loaded = await backend.initialize()
    assert len(loaded.deletions) <= 5
    assert loaded.deletions[-3:] == [("e", 10), ("f", 12), ("a", 16)]
    oldest_known = loaded.deletions[0][1]
    assert 0 < loaded.deleted_rev < oldest_known
    await backend.close()


async def test_a_record_deleted_by_retention_is_known_after_a_crash(tmp_path: Path) -> None:
    """A crash between the rows that went and the deletion leaves a record with a row, due still."""
    path = tmp_path / "a.db"
    await fill(path, rows=3)
    backend = make(path)
    await backend.initialize()
    while await backend.maintain(1 << 40):
        pass
    target = CleanupTarget("a", 1000, None, False)
    purged, _ = await backend.cleanup([target], 100)
    assert purged == {"a": Purged(2, 2, is_spent=True)}
    await backend.close()
    backend = make(path)
    (left,) = (await backend.initialize()).records
    assert (left.latest.rev, left.rows) == (3, 1)
    assert await backend.cleanup([target], 100) == ({"a": Purged(0, 0, is_spent=True)}, 1)
    await delete(backend, "a", 4)
    await backend.close()
    backend = make(path)
    loaded = await backend.initialize()
    assert (loaded.rev, loaded.deletions, loaded.records) == (4, [("a", 4)], [])
    await backend.close()


async def test_a_file_of_another_program_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()
    before = path.read_bytes()
    backend = make(path)
    with pytest.raises(BackendError, match="another program"):
        await backend.initialize()
    await backend.close()
    assert path.read_bytes() == before
    path.write_text("not a database at all, but long enough to be mistaken for one" * 3)
    with pytest.raises(BackendError, match="not an SQLite database"):
        await make(path).initialize()


async def test_a_second_daemon_is_kept_off_the_file(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a.db"), make(tmp_path / "a.db")
    await first.initialize()
    with pytest.raises(BackendError, match="another process"):
        await second.initialize()
    await first.close()
    await second.initialize()
    await second.close()


async def test_a_damaged_page_is_an_error_or_mended_and_never_a_wrong_row(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(n, value=b'"' + b"x" * 3000 + b'"') for n in range(1, 50)])
    await backend.close()
    image = bytearray(path.read_bytes())
    where = image.index(b"xxxxxxxx", len(image) // 2)
    image[where] ^= 1
    path.write_bytes(image)
    backend = make(path)
    await backend.initialize()  # reads what is not yet indexed, and puts the bit right
    page = await backend.query(EVERYTHING, ask(backend))
    assert {row.value for row in page.rows} == {b'"' + b"x" * 3000 + b'"'}
    await backend.close()
    image[where] ^= 1
    image[where : where + 8] = b"yyyyyyyy"
    path.write_bytes(image)
    backend = make(path)
    with pytest.raises(BackendError, match="checksum"):
        await backend.initialize()
    await backend.close()


async def test_a_crash_in_the_middle_of_a_merge_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The first slice of a run is on disk, `merged_rev` has not moved: as after kill -9."""
    path = tmp_path / "a.db"
    await fill(path, rows=100)
    db = apsw.Connection(str(path), vfs=VFS)
    statements.begin_run(db)
    assert statements.sort_rows(db, 0, 100) == 100
    with db:
        assert statements.merge_slice(db, 100, (-1, -1, -1), 60)
    db.close()
    backend = make(path)
    loaded = await backend.initialize()
    assert [(record.rows, record.latest.rev) for record in loaded.records] == [(100, 100)]
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == list(range(1, 101))
    while await backend.maintain(1 << 40):
        pass
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == list(range(1, 101))
    await backend.close()
    loaded = await make(path).initialize()
    assert loaded.records[0].rows == 100


async def test_a_rev_is_never_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(1), row(2, "b"), row(3, "b")])
    await delete(backend, "b", 4)
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    backend = make(path)
    loaded = await backend.initialize()
    assert (loaded.rev, loaded.deletions) == (4, [("b", 4)])
    await backend.close()
    db = apsw.Connection(str(path), vfs=VFS)
    assert structure.summarize(db).rev == 4  # what a restore or a repair goes on from
    db.close()


async def test_a_reader_waits_until_what_it_saw_go_is_known(tmp_path: Path) -> None:
    """The file is ahead of the loop for a moment: rows are gone, and nobody was told yet."""
    backend = make(tmp_path / "a.db")
    await backend.initialize()
    await store(backend, [row(n) for n in range(1, 9)])
    await settle(backend)
    params = ask(backend, as_of=8)
    assert backend._writer is not None
    target = CleanupTarget("a", 40, None, True)

    def clean_up(db: apsw.Connection) -> statements.CleanedUp:
        with db:
            cleaned = statements.clean_up(db, [(1, target)], merged_rev=8, unmerged=set(), limit=10)
        return cleaned  # noqa: RET504 - mypy takes a transaction for one that swallows

    cleaned = await backend._writer.run(clean_up)
    outcomes: list[Reason | None] = []

    async def read() -> None:
        try:
            await backend.query(EVERYTHING, params)
        except RequestError as error:
            outcomes.append(error.reason)
        else:
            outcomes.append(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        while not outcomes and not backend._moments._noted.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()
        assert outcomes == []
        backend._moments.note_purge(cleaned.gone, cleaned.tick)
    assert outcomes == [Reason.EXPIRED]
    await backend.close()


async def test_deleted_rows_are_purged_also_when_the_daemon_stopped_before(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, rows=50)
    backend = make(path)
    await backend.initialize()
    await delete(backend, "a", 51)
    await backend.close()
    backend = make(path)
    await backend.initialize()
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    db = sqlite3.connect(path)
    for table in ("log", "history", "record"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    db.close()


async def test_deleted_rows_are_purged_although_no_row_follows_them(tmp_path: Path) -> None:
    """After a start the newest commit is a deletion, and the index ends before it."""
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(1), row(2, "b")])
    while await backend.maintain(1 << 40):
        pass
    await delete(backend, "b", 3)
    await backend.close()
    backend = make(path)
    await backend.initialize()
    await delete(backend, "a", 4)
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM log").fetchone() == (0,)
    db.close()


async def test_the_epoch_is_the_same_at_every_start(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    first = make(tmp_path / "a.db")
    epoch = (await first.initialize()).epoch
    await first.close()
    second = make(tmp_path / "a.db")
    assert (await second.initialize()).epoch == epoch
    await second.close()


async def test_a_file_that_is_gone_takes_no_more_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(1)])
    path.rename(tmp_path / "moved.db")
    with pytest.raises(FatalBackendError):
        await store(backend, [row(2)])
    await backend.close()


async def test_a_full_disk_refuses_writes_serves_reads_and_recovers(tmp_path: Path) -> None:
    backend = make(tmp_path / "a.db")
    await backend.initialize()
    await store(backend, [row(1)])
    assert backend._writer is not None
    await backend._writer.run(lambda db: db.pragma("max_page_count", 12))
    large = [row(n, value=b'"' + b"x" * 3000 + b'"') for n in range(2, 60)]
    with pytest.raises(BackendError, match="disk is full"):
        await store(backend, large)
    assert revs((await backend.query(EVERYTHING, ask(backend))).rows) == [1]
    await backend._writer.run(lambda db: db.pragma("max_page_count", 1 << 20))
    await store(backend, large)
    assert len((await backend.query(EVERYTHING, ask(backend))).rows) == 59
    await backend.close()


async def test_a_query_past_its_deadline_is_stopped_and_the_reader_serves_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    await fill(path, rows=30_000)
    backend = make(path, query_timeout_s=0.002)
    await backend.initialize()
    with pytest.raises(RequestError) as caught:
        await backend.query(EVERYTHING, ask(backend))
    assert caught.value.reason is Reason.TIMEOUT
    await backend.close()


async def test_an_unreadable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError):
        await make(tmp_path / "file" / "a.db").initialize()


async def test_many_deleted_records_are_purged_in_few_slices(tmp_path: Path) -> None:
    backend = make(tmp_path / "a.db")
    await backend.initialize()
    await store(backend, [row(n, f"r.{n}") for n in range(1, 501)])
    for n in range(1, 501):
        await delete(backend, f"r.{n}", 500 + n)
    slices = 0
    while await backend.maintain(1 << 40):
        slices += 1
    assert slices < 5
    await backend.close()
    with sqlite3.connect(tmp_path / "a.db") as db:
        assert db.execute("SELECT count(*) FROM record").fetchone() == (0,)
    db.close()


async def test_a_query_from_before_a_deletion_still_shows_every_row(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, rows=3000)
    backend = make(path)
    await backend.initialize()
    waiting = backend.query(EVERYTHING, ask(backend))
    given_up = backend.query(EVERYTHING, ask(backend))
    await delete(backend, "a", 3001)
    while await backend.maintain(1 << 40):
        pass
    assert len((await waiting).rows) == 3000
    given_up.close()
    del waiting, given_up
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM log").fetchone() == (0,)
    db.close()


async def test_all_is_indexed_when_the_last_commits_are_deletions(tmp_path: Path) -> None:
    backend = SqliteBackend(sqlite_options(tmp_path / "d.db"))
    await backend.initialize()
    await store(backend, [row(1, "a"), row(2, "b")])
    await delete(backend, "a", 3)
    assert backend.indexed_rev == 0
    while backend.indexed_rev < 3:
        assert await backend.maintain(3)
    assert backend.statistics()["unmerged_rows"] == 0
    await backend.close()


@pytest.mark.parametrize("at_once", [1, 7, 33, 100, 1000])
async def test_a_run_is_sorted_a_part_at_a_time_also_over_revs_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the log has every row")

    monkeypatch.setattr(statements, "sort_run_of_memory", refuse)
    monkeypatch.setattr(merging, "_SORTED_AT_ONCE", at_once)
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db"))
    await backend.initialize()
    taken = [*range(40, 60), *range(90, 101)]
    await store(backend, [row(rev, ts=1000 - rev) for rev in taken])
    for rev in (140, 150):
        while await backend.maintain(1 << 40):
            pass
        assert backend.statistics()["unmerged_rows"] == 0
        page = await backend.query(EVERYTHING, ask(backend))
        assert revs(page.rows) == sorted(taken, reverse=True)
        await store(backend, [row(rev, ts=1000 - rev)])
        taken.append(rev)
    await backend.close()


async def test_a_run_whose_rows_the_log_lacks_is_sorted_from_memory(tmp_path: Path) -> None:
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db"))
    await backend.initialize()
    await store(backend, [row(rev) for rev in range(1, 31)])
    assert backend._writer is not None
    await backend._writer.run(lambda db: db.execute("DELETE FROM log WHERE rev = 7").fetchall())
    while await backend.maintain(1 << 40):
        pass
    assert (
        await backend._writer.run(lambda db: db.execute("SELECT count(*) FROM history").get) == 30
    )
    await backend.close()


async def test_two_that_keep_house_at_once_merge_every_row_once(tmp_path: Path) -> None:
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db"))
    await backend.initialize()
    await store(backend, [row(rev) for rev in range(1, 31)])

    async def keep_house() -> None:
        while await backend.maintain(1 << 40):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(keep_house)
    assert backend.statistics()["unmerged_rows"] == 0
    assert backend.statistics()["merges"] == 1
    await backend.close()
