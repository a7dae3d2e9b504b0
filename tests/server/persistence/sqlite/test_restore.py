"""Restoring: a new epoch, and nothing destroyed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Verdict
from recordd.persistence.sqlite.files import FileError
from recordd.persistence.sqlite.restore import restore
from tests.server.commits import delete
from tests.server.sqlite_files import (
    DAMAGE,
    epoch_of,
    fill,
    fill_and_kill,
    log_of,
    make,
    names,
    overwrite,
    quiet,
    vacuum_by_stock_sqlite,
    verdict,
)


async def test_a_restore_takes_a_new_epoch_and_keeps_what_was_there(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path)
    back_up(str(path), str(copy), quiet, replaces=False)
    backend = make(path)
    epoch = (await backend.initialize()).epoch
    await delete(backend, "r.1", 2001)
    await backend.close()
    made = restore(str(path), str(copy), quiet)
    assert made.set_aside is not None
    assert epoch_of(Path(made.set_aside)) == epoch
    assert (made.rows, made.rev) == (2000, 2000)
    backend = make(path)
    loaded = await backend.initialize()
    assert (loaded.rev, loaded.epoch, len(loaded.records)) == (2000, made.epoch, 7)
    assert loaded.epoch != epoch
    await backend.close()


async def test_a_restore_over_a_killed_daemons_file_mixes_nothing(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(copy, 500)
    await fill_and_kill(path)
    before = log_of(path)
    made = restore(str(path), str(copy), quiet)
    assert made.set_aside is not None
    assert log_of(Path(made.set_aside)) == before
    assert log_of(path) == log_of(copy)
    assert not Path(f"{path}-wal").exists()


async def test_a_restore_mends_what_a_stock_sqlite_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    vacuum_by_stock_sqlite(path, tmp_path / "v.db")
    assert verdict(tmp_path / "v.db") is Verdict.STALE
    made = restore(str(tmp_path / "new.db"), str(tmp_path / "v.db"), quiet)
    assert made.set_aside is None
    assert verdict(tmp_path / "new.db") is Verdict.SOUND
    assert log_of(tmp_path / "new.db") == log_of(path)
    assert verdict(tmp_path / "v.db") is Verdict.STALE


async def test_a_restore_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    path, bad = tmp_path / "a.db", tmp_path / "bad.db"
    await fill(path)
    await fill(bad)
    overwrite(bad, page=12, offset=500, content=DAMAGE)
    (tmp_path / "text").write_text("no database, but as long as a header of one would be" * 9)
    (tmp_path / "empty").write_text("")
    sqlite3.connect(tmp_path / "foreign").execute("CREATE TABLE x (y)").connection.close()
    newer = tmp_path / "newer"
    await fill(newer)
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = path.read_bytes()
    for name, why in (
        ("bad.db", "run recordd repair"),
        ("text", "not an SQLite database"),
        ("empty", "not an SQLite database"),
        ("foreign", "another program"),
        ("newer", "newer recordd"),
        ("none", "no such file"),
        ("a.db", "the database itself"),
    ):
        with pytest.raises(FileError, match=why) as caught:
            restore(str(path), str(tmp_path / name), quiet)
        assert caught.value.exit_code == 78
    assert path.read_bytes() == before
    assert not any("restore" in name or "partial" in name for name in names(tmp_path))
