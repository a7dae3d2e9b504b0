"""Where a commit runs, and how long the WAL becomes."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from recordd.conformance.support import row
from recordd.extending.backend import BackendError, CleanupTarget, DiskFull, FatalBackendError
from recordd.persistence.sqlite import merge_pace, statements, writing
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.mark import read_mark
from recordd.persistence.sqlite.pace import Pace
from recordd.persistence.sqlite.worker import VFS
from recordd.persistence.sqlite.writing import WritingSide
from tests.server.backends import sqlite_options
from tests.server.commits import store

PAGE_BYTES = 4096


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The place of each transaction, from here on."""
    found: list[str] = []
    transact = WritingSide._transact
    loop = threading.get_ident()

    def note(side: WritingSide, *args: Any) -> Any:
        found.append("loop" if threading.get_ident() == loop else "thread")
        return transact(side, *args)

    monkeypatch.setattr(WritingSide, "_transact", note)
    return found


async def open_backend(path: Path, **options: int) -> SqliteBackend:
    backend = SqliteBackend(sqlite_options(path, **options))  # type: ignore[arg-type]
    await backend.initialize()
    return backend


def choose_pace(monkeypatch: pytest.MonkeyPatch, *, is_quick: bool) -> None:
    monkeypatch.setattr(Pace, "is_quick", is_quick)


async def test_the_loop_commits_what_is_small_while_the_disk_is_quick(
    tmp_path: Path, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_pace(monkeypatch, is_quick=True)
    backend = await open_backend(tmp_path / "a.db")
    await store(backend, [row(n) for n in range(1, 1001)])
    assert places == ["loop"]
    await store(backend, [row(n, value=b'"' + b"x" * 4000 + b'"') for n in range(1001, 2001)])
    assert places == ["loop", "thread"]
    await backend.remember_time(7)  # housekeeping is in no hurry
    assert places == ["loop", "thread", "thread"]
    await backend.close()


async def test_the_loop_commits_nothing_while_the_disk_is_slow(
    tmp_path: Path, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_pace(monkeypatch, is_quick=False)
    backend = await open_backend(tmp_path / "a.db")
    await store(backend, [row(1)])
    assert places == ["thread"]
    await backend.close()


async def test_a_slow_commit_on_the_loop_is_the_last_one_there(
    tmp_path: Path, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(Pace.__init__, "__defaults__", (lambda: now_s,))
    backend = await open_backend(tmp_path / "a.db")
    end = Pace.end

    def end_late(pace: Pace) -> None:
        nonlocal now_s
        now_s += 0.05
        end(pace)

    monkeypatch.setattr(Pace, "end", end_late)
    await store(backend, [row(1)])
    await store(backend, [row(2)])
    assert places == ["loop", "thread"]
    await backend.close()


async def test_a_write_waits_on_the_thread_for_a_program_that_holds_the_file(
    tmp_path: Path, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_pace(monkeypatch, is_quick=True)
    backend = await open_backend(tmp_path / "a.db")
    other = apsw.Connection(str(tmp_path / "a.db"), vfs=VFS)
    other.execute("BEGIN IMMEDIATE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, backend, [row(1)])
        await trio.testing.wait_all_tasks_blocked()
        other.execute("COMMIT")
    other.close()
    assert places == ["loop", "thread"]
    assert backend.statistics()["unmerged_rows"] == 1
    await backend.close()


async def fill(backend: SqliteBackend, first: int, commits: int) -> None:
    """Commit rows that take a page each, with housekeeping between two of them."""
    for rev in range(first, first + commits):
        await store(backend, [row(rev, value=b'"' + b"x" * 3900 + b'"')])
        await backend.maintain(0)


def wal_pages(backend: SqliteBackend) -> int:
    return int(backend.statistics()["wal_bytes"]) // PAGE_BYTES


async def test_the_wal_is_written_over_when_half_the_reserve_would_be_needed_to_fold_it(
    tmp_path: Path,
) -> None:
    backend = await open_backend(tmp_path / "a.db", reserve_bytes=2 * 60 * PAGE_BYTES)
    await fill(backend, 1, 100)
    assert 60 <= wal_pages(backend) < 70
    await backend.close()


async def test_a_wal_that_a_reader_held_is_written_over_behind_it(tmp_path: Path) -> None:
    backend = await open_backend(tmp_path / "a.db", reserve_bytes=2 * 60 * PAGE_BYTES)
    await fill(backend, 1, 2)
    reader = apsw.Connection(str(tmp_path / "a.db"), vfs=VFS)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM log").fetchall()
    await fill(backend, 3, 60)
    held = wal_pages(backend)
    assert held > 100
    reader.execute("COMMIT")
    reader.close()
    await fill(backend, 63, 120)
    assert wal_pages(backend) < held + 30
    await backend.close()


def is_checkpoint_due(backend: SqliteBackend) -> bool:
    assert backend._writing is not None
    return backend._writing._checkpoints.is_due


async def test_housekeeping_folds_a_long_wal_behind_the_answer(tmp_path: Path) -> None:
    backend = await open_backend(tmp_path / "a.db", reserve_bytes=2 * 60 * PAGE_BYTES)
    before_bytes = int(backend.statistics()["database_bytes"])
    rev = 0
    while not is_checkpoint_due(backend):
        rev += 1
        await store(backend, [row(rev, value=b'"' + b"x" * 3900 + b'"')])
    assert backend.statistics()["database_bytes"] == before_bytes
    await backend.maintain(0)
    await backend.check()  # waits for what goes on beside
    assert not is_checkpoint_due(backend)
    assert int(backend.statistics()["database_bytes"]) > before_bytes
    await backend.close()


async def test_writes_alone_have_the_wal_folded_too(tmp_path: Path) -> None:
    backend = await open_backend(tmp_path / "a.db", reserve_bytes=2 * 60 * PAGE_BYTES)
    for rev in range(1, 101):  # no housekeeping: it rests after an error
        await store(backend, [row(rev, value=b'"' + b"x" * 3900 + b'"')])
    assert 60 <= wal_pages(backend) < 70
    await backend.close()


async def test_a_commit_that_fails_counts_for_the_pace_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_pace(monkeypatch, is_quick=True)
    backend = await open_backend(tmp_path / "a.db")
    assert backend._writer is not None
    assert backend._writing is not None
    await backend._writer.run(lambda db: db.set_commit_hook(lambda: True))
    with pytest.raises(BackendError):
        await store(backend, [row(1)])
    assert backend._writing._pace._began_s is None
    await backend._writer.run(lambda db: db.set_commit_hook(None))
    await backend.close()


@pytest.mark.parametrize("is_quick", [True, False])
async def test_behind_a_fault_the_file_is_not_said_to_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_quick: bool
) -> None:
    def fail(*_: Any) -> None:
        raise FatalBackendError("storage lost a write")

    choose_pace(monkeypatch, is_quick=is_quick)
    backend = await open_backend(tmp_path / "a.db")
    monkeypatch.setattr(WritingSide, "_transact", fail)
    with pytest.raises(FatalBackendError):
        await store(backend, [row(1)])
    await backend.close()
    mark = read_mark(str(tmp_path / "a.db"))
    assert mark is not None
    assert not mark.is_clean


async def test_slices_are_as_large_as_asked_for_until_the_disk_is_full(tmp_path: Path) -> None:
    backend = await open_backend(tmp_path / "a.db")
    side, sizes = backend._writing_side, list[int]()

    async def do_slice(rows: int) -> None:
        sizes.append(rows)
        if len(sizes) == 2:
            raise DiskFull

    for _ in range(3):
        await side.in_slices(do_slice, 4)
    assert sizes == [8000, 8000, 500, 500]
    await side.check()
    await side.in_slices(do_slice, 4)
    assert sizes[-1] == 8000
    await backend.close()


async def test_quick_merges_are_done_in_larger_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SLICE_ROWS", 10)
    monkeypatch.setattr(merge_pace, "_QUICK_S", 60.0)
    backend = await open_backend(tmp_path / "a.db", tail_rows=100)
    await store(backend, [row(n) for n in range(1, 101)])
    merged = []
    while await backend.maintain(100) and backend.indexed_rev < 100:
        merged.append(backend._merger.pace.times)
    assert merged == [1, 2, 4, 8]  # the run is sorted first
    await backend.close()


async def open_with_due_merge(path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteBackend:
    """Open a backend with 100 rows that are to be merged, ten at a time."""
    monkeypatch.setattr(writing, "_SLICE_ROWS", 10)
    monkeypatch.setattr(merge_pace, "_QUICK_S", -1.0)
    backend = await open_backend(path, tail_rows=100)
    await store(backend, [row(n) for n in range(1, 100)])
    await store(backend, [row(100)])
    return backend


def count_indexed(path: Path) -> int:
    with contextlib.closing(apsw.Connection(str(path), vfs=VFS)) as db:
        return int(db.execute("SELECT count(*) FROM history").get)


async def test_a_slice_that_nobody_waits_for_goes_on_beside_and_behind_each_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    backend = await open_with_due_merge(path, monkeypatch)
    await backend.maintain(0)
    await backend.check()  # waits for it
    assert count_indexed(path) == 0  # the run is sorted first
    for rev in range(101, 111):
        assert not await backend.maintain(0)
        await store(backend, [row(rev)])
    await backend.check()
    assert count_indexed(path) == 100
    assert backend.statistics()["merged_rev"] == 100
    await backend.close()


async def test_the_merge_goes_on_beside_until_a_write_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    backend = await open_with_due_merge(path, monkeypatch)
    await backend.maintain(0)
    while backend._beside.is_busy:
        await trio.sleep(0)
    assert backend.statistics()["merged_rev"] == 100
    assert count_indexed(path) == 100
    await backend.close()


async def test_a_write_finds_a_slice_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    monkeypatch.setattr(statements, "_MERGED_AT_ONCE", 5)
    backend = await open_with_due_merge(path, monkeypatch)
    await backend.maintain(0)
    await store(backend, [row(101)])  # the run is sorted by then
    await store(backend, [row(102)])
    assert count_indexed(path) == 5
    await backend.close()


async def test_a_write_waits_for_no_checkpoint_that_is_due_and_for_one_that_is_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_CHECKPOINT_PAGES", 5)
    monkeypatch.setattr(writing, "_OVERDUE_PAGES", 30)
    backend = await open_backend(tmp_path / "a.db")
    lengths = []
    for rev in range(1, 61):  # no housekeeping: it rests after an error
        await store(backend, [row(rev, value=b'"' + b"x" * 3900 + b'"')])
        lengths.append(wal_pages(backend))
    assert 30 <= max(lengths) < 40
    await backend.close()


async def test_a_slice_that_fails_harms_no_commit_and_is_told_to_housekeeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(*_: Any) -> None:
        tries.append(1)
        raise BackendError("the index is damaged")

    backend = await open_with_due_merge(tmp_path / "a.db", monkeypatch)
    monkeypatch.setattr(statements, "merge_slice", fail)
    assert not await backend.maintain(0)
    for rev in (101, 102):
        await store(backend, [row(rev)])
    with pytest.raises(BackendError, match="the index is damaged"):
        await backend.maintain(0)
    await store(backend, [row(103)])  # housekeeping rests
    await backend.check()
    assert len(tries) == 1
    assert backend.statistics()["unmerged_rows"] == 103
    await backend.close()


async def test_an_end_waits_for_the_slice_that_goes_on_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await open_with_due_merge(tmp_path / "a.db", monkeypatch)
    await backend.maintain(0)  # to sort the run takes more than one transaction
    await backend.close()
    await backend._beside.join()  # none of them came too late


async def test_nothing_is_committed_behind_a_slice_that_met_a_lost_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise FatalBackendError("storage lost a write")

    backend = await open_with_due_merge(tmp_path / "a.db", monkeypatch)
    monkeypatch.setattr(statements, "merge_slice", fail)
    await backend.maintain(0)  # the run is sorted
    await store(backend, [row(101)])
    with pytest.raises(FatalBackendError):
        await store(backend, [row(102)])
    for use in (
        backend.check,
        lambda: backend.cleanup([CleanupTarget("a", 1 << 40, None, keep_latest=True)], 10),
        lambda: backend.remember_time(1),
    ):
        with pytest.raises(FatalBackendError):
            await use()
    assert backend.statistics()["unmerged_rows"] == 101
    await backend.close()
    mark = read_mark(str(tmp_path / "a.db"))
    assert mark is not None
    assert not mark.is_clean
