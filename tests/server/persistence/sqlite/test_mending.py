"""What a daemon mends by itself when it opens its file, and what it leaves alone."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import mending
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.copying import Progress
from recordd.persistence.sqlite.diagnosis import Diagnosis
from recordd.persistence.sqlite.files import FileError
from recordd.persistence.sqlite.mark import Mark, write_mark
from recordd.persistence.sqlite.mending import StartMender
from recordd.persistence.sqlite.repair import compact, repair
from recordd.persistence.sqlite.schema import SCHEMA_VERSION
from recordd.persistence.sqlite.wal import pages_in_wal
from tests.server.sqlite_files import (
    DAMAGE,
    PAGE_BYTES,
    epoch_of,
    fill,
    fill_and_kill,
    flip,
    log_of,
    make,
    overwrite,
    quiet,
    vacuum_by_stock_sqlite,
    verdict,
)


async def open_and_close(path: Path) -> str:
    """Start and stop on the file; return the epoch."""
    backend = make(path)
    try:
        return (await backend.initialize()).epoch
    finally:
        await backend.close()


async def test_reading_a_killed_daemons_file_with_stock_sqlite_does_no_harm(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    before, epoch = log_of(path), epoch_of(path)
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM log").fetchone() == (2000,)
    db.close()  # the last to close: it moves the WAL into the file
    assert verdict(path) is Verdict.STALE
    assert await open_and_close(path) == epoch
    assert verdict(path) is Verdict.SOUND
    assert log_of(path) == before


async def test_a_copy_by_stock_sqlite_in_the_files_place_starts(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    before = log_of(path)
    vacuum_by_stock_sqlite(path, tmp_path / "v.db")
    shutil.move(tmp_path / "v.db", path)
    await open_and_close(path)
    assert verdict(path) is Verdict.SOUND
    assert log_of(path) == before


async def test_no_start_reads_all_pages_without_a_reason(tmp_path: Path) -> None:
    await fill(tmp_path / "stopped.db", 200)
    await fill_and_kill(tmp_path / "killed.db", 200)
    for name in ("stopped.db", "killed.db"):
        assert StartMender(str(tmp_path / name)).is_due()  # it is small
        os.truncate(tmp_path / name, (64 << 20) + PAGE_BYTES)
        assert not StartMender(str(tmp_path / name)).is_due()
    assert not StartMender(str(tmp_path / "new.db")).is_due()


@pytest.mark.parametrize("make_file", [fill, fill_and_kill])
async def test_a_flipped_bit_of_a_small_file_is_put_right_wherever_it_lies(
    tmp_path: Path, make_file: Callable[[Path], Awaitable[None]]
) -> None:
    path = tmp_path / "a.db"
    await make_file(path)
    before = log_of(path)
    page = path.read_bytes().index(b'"n":3}') // PAGE_BYTES + 1  # no latest row is near
    assert page not in pages_in_wal(str(path))
    flip(path, 32 * 500 + 3, page=page)
    assert verdict(path) is not Verdict.SOUND
    await open_and_close(path)
    assert verdict(path) is Verdict.SOUND
    assert log_of(path) == before


async def test_a_small_file_that_cannot_be_read_to_its_end_is_opened_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 200)
    monkeypatch.setattr(mending, "diagnose_pages", _refuse_to_read)
    await open_and_close(path)
    assert "not every page could be looked at" in caplog.text
    (tmp_path / "a.db-mark").unlink()
    with pytest.raises(FileError):
        await open_and_close(path)


def _refuse_to_read(database: str, progress: Progress) -> Diagnosis:
    raise OSError(errno.EIO, "Input/output error", database)


async def test_a_flipped_bit_that_loading_meets_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    image = path.read_bytes()
    for page in range(1, len(image) // PAGE_BYTES + 1):
        path.write_bytes(image)
        flip(path, 32 * random.Random(page).randrange(1000) + 3, page=page)
        assert StartMender(str(path)).mend() or page in pages_in_wal(str(path))
        assert path.read_bytes() == image or page in pages_in_wal(str(path))
    path.write_bytes(image)
    flip(path, 32 * 20 + 2, page=1)
    assert await open_and_close(path) == epoch_of(path)
    assert verdict(path) is Verdict.SOUND


@pytest.mark.parametrize("bit", [16 * 8 + 4, 20 * 8 + 3, 0, 60 * 8, 68 * 8 + 1, 500 * 8])
async def test_a_flipped_bit_of_the_header_keeps_nobody_out(tmp_path: Path, bit: int) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    image = path.read_bytes()
    flip(path, bit, page=1)
    await open_and_close(path)
    assert len(log_of(path)) == 2000
    assert verdict(path) is Verdict.SOUND
    assert epoch_of(path).encode() in image


async def test_damage_is_never_taken_for_a_stale_checksum(tmp_path: Path) -> None:
    """A changed value still is JSON: with no sign of another SQLite it is not believed."""
    path = tmp_path / "a.db"
    await fill(path)
    content = path.read_bytes()
    where = content.rindex(b"xxxxxxxxxxxx")
    overwrite(path, page=1, offset=where, content=b"yyyy")
    assert not StartMender(str(path)).mend()
    assert verdict(path) is Verdict.STALE  # what a person may decide, a daemon does not


async def test_damage_of_the_first_page_is_no_sign_of_another_sqlite(tmp_path: Path) -> None:
    """It would make damage elsewhere a stale checksum, and a changed value a right one."""
    path = tmp_path / "a.db"
    await fill(path)
    where = path.read_bytes().rindex(b"xxxxxxxxxxxx")
    overwrite(path, page=1, offset=where, content=b"yyyy")
    overwrite(path, page=1, offset=40, content=b"\0\0\1\1")  # a number of the schema
    assert not StartMender(str(path)).mend()


async def test_a_schema_that_names_other_columns_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    page = path.read_bytes()[:PAGE_BYTES]
    overwrite(path, page=1, offset=page.rindex(b"deleted_at_rev"), content=b"deleted_at_ref")
    assert verdict(path) is Verdict.DAMAGED


async def test_a_database_without_its_epoch_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("DELETE FROM meta WHERE key = 'epoch'")
    db.close()
    with pytest.raises(BackendError, match="no epoch"):
        await open_and_close(path)


@pytest.mark.parametrize("is_read_by_stock", [False, True], ids=["compact", "repair"])
async def test_a_killed_daemons_file_that_a_command_folded_is_no_other_sqlites(
    tmp_path: Path, is_read_by_stock: bool
) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    if is_read_by_stock:
        db = sqlite3.connect(path)
        assert db.execute("SELECT count(*) FROM log").fetchone() == (2000,)
        db.close()
        repair(str(path), quiet, is_dry_run=False)
    else:
        compact(str(path), quiet)
    where = path.read_bytes().rindex(b"xxxxxxxxxxxx")
    overwrite(path, page=1, offset=where, content=b"yyyy")
    assert not StartMender(str(path)).mend()


@pytest.mark.parametrize("fault", ["damage", "flip", "behind", "contradiction"])
async def test_stale_checksums_are_left_where_anything_else_is_wrong(
    tmp_path: Path, fault: str
) -> None:
    path, stale = tmp_path / "a.db", tmp_path / "v.db"
    await fill(path)
    vacuum_by_stock_sqlite(path, stale)
    if fault == "damage":
        overwrite(stale, page=12, offset=500, content=DAMAGE)
    elif fault == "behind":
        write_mark(str(stale), Mark(epoch_of(path), 2001, is_clean=False))
    elif fault == "contradiction":
        db = sqlite3.connect(stale)
        db.execute("DELETE FROM history WHERE rev = 9")
        db.commit()
        db.close()
    else:
        good = tmp_path / "good.db"
        vacuum_by_stock_sqlite(path, good)
        backend = make(good)
        await backend.initialize()
        await backend.close()
        overwrite(stale, page=12, content=good.read_bytes()[11 * PAGE_BYTES : 12 * PAGE_BYTES])
        flip(stale, 32 * 700 + 4, page=12)
    assert StartMender(str(stale)).is_due()
    before = check_file(str(stale), quiet, is_full=False).stale_pages
    StartMender(str(stale)).mend()
    assert check_file(str(stale), quiet, is_full=False).stale_pages == before


async def test_a_torn_first_sector_counts_for_nothing_where_the_wal_has_the_page(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 100)
    backend = make(path)
    await backend.initialize()
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("PRAGMA user_version = 1")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")  # the first page is in the WAL now
    for suffix in ("", "-wal", "-mark"):
        shutil.copyfile(f"{path}{suffix}", tmp_path / f"torn.db{suffix}")
    db.close()
    await backend.close()
    torn = tmp_path / "torn.db"
    overwrite(torn, page=1, content=bytes(512))
    backend = make(torn)
    assert (await backend.initialize()).rev == 100
    await backend.close()
    assert verdict(torn) is Verdict.SOUND


async def test_a_newer_file_whose_wal_says_so_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, 100)
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("PRAGMA user_version = 999")
    copy = tmp_path / "newer.db"
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    db.close()
    before = copy.read_bytes(), Path(f"{copy}-wal").read_bytes()
    backend = make(copy)
    with pytest.raises(BackendError, match="newer recordd"):
        await backend.initialize()
    await backend.close()
    assert (copy.read_bytes(), Path(f"{copy}-wal").read_bytes()) == before
    overwrite(copy, page=1, content=bytes(512))
    before = copy.read_bytes(), Path(f"{copy}-wal").read_bytes()
    backend = make(copy)
    with pytest.raises(BackendError, match="newer recordd"):
        await backend.initialize()
    await backend.close()
    assert (copy.read_bytes(), Path(f"{copy}-wal").read_bytes()) == before


async def test_text_beside_some_wal_is_still_no_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"no database at all" * 500)
    Path(f"{path}-wal").write_bytes(b"nor a WAL" * 500)
    backend = make(path)
    with pytest.raises(BackendError, match="not an SQLite database"):
        await backend.initialize()
    await backend.close()
    assert path.read_bytes() == b"no database at all" * 500
