"""Checking: sound, stale, damaged, and commits that are missing."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.repair import repair
from tests.server.sqlite_files import (
    DAMAGE,
    epoch_of,
    fill,
    fill_and_kill,
    flip,
    overwrite,
    quiet,
    vacuum_by_stock_sqlite,
    verdict,
)


async def test_a_check_tells_sound_from_stale_from_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    assert verdict(path) is verdict(path, is_full=False) is Verdict.SOUND
    vacuum_by_stock_sqlite(path, tmp_path / "stale.db")
    assert verdict(tmp_path / "stale.db", is_full=False) is Verdict.STALE
    flip(path, 32 * 200 + 1, page=12)
    report = check_file(str(path), quiet, is_full=False)
    assert (report.verdict, report.flipped_pages) == (Verdict.DAMAGED, [12])
    overwrite(path, page=12, offset=500, content=DAMAGE)
    report = check_file(str(path), quiet, is_full=False)
    assert (report.verdict, report.stale_pages) == (Verdict.DAMAGED, [12])
    assert any("rows with the revs" in line for line in report.problems)


async def test_a_full_check_compares_log_index_and_counts(tmp_path: Path) -> None:
    for change, finding in (
        ("DELETE FROM history WHERE rev = 7", "missing from the index"),
        ("DELETE FROM log WHERE rev = 8", "have no row in the log"),
        ("UPDATE record SET row_count = 3 WHERE id = 1", "another number of rows"),
        ("UPDATE log SET value = '{' WHERE rev = 9", "no JSON"),
        ("UPDATE log SET record = 99 WHERE rev = 9", "belong to no record"),
        ("DELETE FROM meta WHERE key = 'epoch'", "epoch"),
    ):
        path = tmp_path / "a.db"
        path.unlink(missing_ok=True)
        Path(f"{path}-mark").unlink(missing_ok=True)
        await fill(path, 100)
        db = apsw.Connection(str(path), vfs="cksmvfs")
        db.execute(change)
        db.close()
        report = check_file(str(path), quiet, is_full=True)
        assert report.verdict is Verdict.DAMAGED, change
        assert any(finding in line for line in report.problems), (change, report.problems)


async def test_commits_that_the_mark_knows_of_and_the_file_lacks_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    epoch = epoch_of(path)
    os.unlink(f"{path}-wal")
    report = check_file(str(path), quiet, is_full=False)
    assert (report.verdict, report.marked_rev) == (Verdict.DAMAGED, 2000)
    assert any("1901 to 2000 are missing" in line for line in report.problems)
    made = repair(str(path), quiet, is_dry_run=False)
    assert any("1901 to 2000" in line for line in made.losses)
    assert epoch_of(path) != epoch
