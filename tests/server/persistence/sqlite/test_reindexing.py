"""Damage to what can be made anew: a start does it, also where only a query met the damage.

Two bits of a page are changed, so that no one bit explains it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from recordd.conformance.support import row, settle
from recordd.extending.backend import (
    DamagedStorage,
    LoadedRecord,
    PageLimits,
    PassingBackendError,
    ReplayParams,
    RestartNeeded,
)
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.mark import read_mark
from recordd.persistence.sqlite.reindexing import IndexMender
from recordd_protocol.patterns import compile_patterns
from tests.server.backends import sqlite_options
from tests.server.commits import delete, store
from tests.server.sqlite_files import (
    FLAGGED,
    PAGE_BYTES,
    ask,
    closing_all,
    epoch_of,
    leaves_of,
    log_of,
    quiet,
    spoil,
)

ROWS = 1000
RECORDS = 400
PAGE = PageLimits(rows=10_000, bytes=1 << 24)
LARGE_BYTES = (64 << 20) + PAGE_BYTES
"""Past it a start does not look at every page without a reason."""

TREES = {
    "history": "index",
    "timeline": "index",
    "sqlite_autoindex_record_1": "list of names of the table record",
    "sqlite_autoindex_deletion_1": "list of names of the table deletion",
}


def make(path: Path) -> SqliteBackend:
    return SqliteBackend(sqlite_options(path, tail_rows=8, readers=1))


def name_of(number: int) -> str:
    return f"record.{number:03}" + "x" * 40


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A stopped database, its index merged, all trees of more than a page; 100 are deleted."""
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await store(
        backend,
        [row(n, name_of(n % RECORDS), value=b'"%s"' % (b"%d" % n * 9)) for n in range(1, ROWS + 1)],
    )
    for number in range(100):
        await delete(backend, name_of(number), ROWS + 1 + number)
    await settle(backend)
    await backend.close()
    return path


def rows_left() -> list[int]:
    return [n for n in range(1, ROWS + 1) if n % RECORDS >= 100]


@pytest.mark.parametrize("tree", TREES)
async def test_a_start_makes_a_damaged_index_anew_and_leaves_a_sound_file(
    path: Path, tree: str, caplog: pytest.LogCaptureFixture
) -> None:
    leaves, epoch = leaves_of(path, tree), epoch_of(path)
    assert len(leaves) > 1
    spoil(path, leaves[len(leaves) // 2])
    backend = make(path)
    loaded = await backend.initialize()
    assert f"the {TREES[tree]} was damaged and is made anew; no row is lost" in caplog.text
    assert (loaded.epoch, loaded.rev) == (epoch, ROWS + 100)
    assert await ask(backend, "record.*") == rows_left()
    new = ROWS + 101
    await store(backend, [row(new, name_of(5)), row(new + 1, "new")])
    await delete(backend, name_of(200), new + 2)
    await settle(backend)
    await backend.close()
    assert check_file(str(path), quiet, is_full=True).verdict is Verdict.SOUND


async def test_the_suite_flags_a_start_that_never_looks_at_the_index(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Negative control: queries are refused for ever."""
    monkeypatch.setattr(IndexMender, "mend", lambda *_: False)
    async with closing_all(monkeypatch):
        with pytest.raises((DamagedStorage, *FLAGGED)):
            await test_damage_that_a_query_meets_is_mended_by_the_next_start_of_a_large_file(
                path, "closed"
            )


def show(record: LoadedRecord) -> tuple[object, ...]:
    latest = record.latest
    return latest.name, latest.value, latest.ts, latest.rev, record.rows


@pytest.mark.parametrize("table", ["record", "deletion"])
async def test_a_damaged_table_of_names_is_made_anew_and_followers_start_afresh(
    path: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = make(path)
    before = await backend.initialize()
    rev = before.rev + 1
    await delete(backend, name_of(399), rev)  # its rows are there still
    await backend.close()
    leaves, epoch = leaves_of(path, table), epoch_of(path)
    spoil(path, leaves[len(leaves) // 2])
    backend = make(path)
    loaded = await backend.initialize()
    assert f"the table {table} was damaged and is made anew; no row is lost, but" in caplog.text
    assert (loaded.epoch, loaded.rev) == (epoch, rev)
    if table == "deletion":
        assert (loaded.deleted_rev, loaded.deletions) == (rev, [])
    else:
        assert {record.purged_rev for record in loaded.records} == {rev}
    left = [record for record in before.records if record.latest.name != name_of(399)]
    assert list(map(show, loaded.records)) == list(map(show, left))
    assert await ask(backend, "record.*") == [n for n in rows_left() if n % RECORDS != 399]
    await store(backend, [row(rev + 1, name_of(5)), row(rev + 2, "new")])
    await settle(backend)
    await backend.close()
    assert check_file(str(path), quiet, is_full=True).verdict is Verdict.SOUND
    assert len(log_of(path)) == len(rows_left()) - ROWS // RECORDS + 2


@pytest.mark.parametrize("how", ["noted", "closed"])
async def test_damage_that_a_query_meets_is_mended_by_the_next_start_of_a_large_file(
    path: Path, how: str
) -> None:
    spoil(path, leaves_of(path, "timeline")[1])
    os.truncate(path, LARGE_BYTES)
    backend = make(path)
    await backend.initialize()
    with pytest.raises(DamagedStorage, match="fails its checksum"):
        await ask(backend, "record.*")
    if how == "noted":
        await backend.check()
        mark = read_mark(str(path))
        assert mark is not None
        assert mark.is_suspect
    await backend.close()
    for _ in range(2):
        backend = make(path)
        await backend.initialize()
        assert await ask(backend, "record.*") == rows_left()
        await backend.check()
        await backend.close()
        mark = read_mark(str(path))
        assert mark is not None
        assert not mark.is_suspect


async def fill_tail(backend: SqliteBackend, taken: list[int]) -> None:
    """Write until it is refused, housekeeping as the writer does."""
    for first in range(ROWS + 101, ROWS + 400, 5):
        with contextlib.suppress(DamagedStorage):
            await backend.maintain(0)
        revs = range(first, first + 5)
        await store(backend, [row(rev, name_of(100 + rev % 300)) for rev in revs])
        taken += revs
    raise AssertionError("the tail grows without bound")


async def test_a_tail_that_cannot_be_merged_ends_the_daemon_for_a_start_that_mends(
    path: Path,
) -> None:
    for page in leaves_of(path, "timeline")[-2:]:
        spoil(path, page)
    os.truncate(path, LARGE_BYTES)
    backend, taken = make(path), list[int]()
    await backend.initialize()
    with pytest.raises(RestartNeeded, match="the next start makes the index anew"):
        await fill_tail(backend, taken)
    await backend.close()
    backend = make(path)
    loaded = await backend.initialize()
    assert await ask(backend, "record.*") == rows_left() + taken
    assert loaded.rev == backend.statistics()["merged_rev"] == taken[-1]
    await settle(backend)
    await backend.close()


async def test_where_a_restart_would_not_help_writes_are_refused_and_reads_go_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for page in leaves_of(path, "timeline")[-2:]:
        spoil(path, page)
    spoil(path, leaves_of(path, "log")[3])
    backend = make(path)
    await backend.initialize()
    assert "the index cannot be made anew" in caplog.text
    with pytest.raises(PassingBackendError, match="writes wait"):
        await fill_tail(backend, [])
    with pytest.raises(PassingBackendError, match="writes wait"):
        await store(backend, [row(ROWS + 400)])
    replay = ReplayParams(moment=backend.take_moment(1 << 40), after_rev=ROWS - 9, page=PAGE)
    assert len((await backend.replay(compile_patterns("#"), replay)).rows) > 9
    await backend.close()
