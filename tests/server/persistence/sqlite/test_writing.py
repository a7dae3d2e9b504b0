"""Where a commit runs, and how long the WAL becomes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from recordd.conformance.support import row
from recordd.persistence.sqlite.backend import SqliteBackend
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


async def test_writes_alone_have_the_wal_folded_too(tmp_path: Path) -> None:
    backend = await open_backend(tmp_path / "a.db", reserve_bytes=2 * 60 * PAGE_BYTES)
    for rev in range(1, 101):  # no housekeeping: it rests after an error
        await store(backend, [row(rev, value=b'"' + b"x" * 3900 + b'"')])
    assert 60 <= wal_pages(backend) < 70
    await backend.close()
