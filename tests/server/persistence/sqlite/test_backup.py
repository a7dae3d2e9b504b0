"""Backups: one moment, verified, or no name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recordd.cli import main
from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Verdict
from recordd.persistence.sqlite.files import FileError, Partial
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
    verdict,
)


async def test_a_backup_holds_one_moment_and_says_that_it_is_one(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill_and_kill(path)
    before = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    made = back_up(str(path), str(copy), quiet, replaces=False)
    assert (made.rows, made.rev, made.bytes) == (2000, 2000, copy.stat().st_size)
    assert log_of(copy) == log_of(path)
    assert verdict(copy) is Verdict.SOUND
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == before
    backend = make(copy)
    assert (await backend.initialize()).epoch != epoch_of(path)
    await backend.close()


async def test_a_backup_begins_an_epoch_also_beside_the_mark_of_the_same_file(
    tmp_path: Path,
) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path, 100)
    epoch = epoch_of(path)
    back_up(str(path), str(copy), quiet, replaces=False)
    copy.replace(path)
    backend = make(path)
    assert (await backend.initialize()).epoch != epoch
    await backend.close()
    backend = make(path)
    second = (await backend.initialize()).epoch
    await backend.close()
    assert second == epoch_of(path) != epoch


async def test_a_backup_goes_into_a_folder_under_its_date(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    (tmp_path / "kept").mkdir()
    made = back_up(str(tmp_path / "a.db"), f"{tmp_path}/kept/", quiet, replaces=False)
    assert [str(path) for path in (tmp_path / "kept").iterdir()] == [made.path]
    assert Path(made.path).match("recordd-????-??-??T??????Z.db")


async def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    there = tmp_path / "b.db"
    there.write_text("precious")
    with pytest.raises(FileError, match="--force"):
        back_up(str(tmp_path / "a.db"), str(there), quiet, replaces=False)
    assert there.read_text() == "precious"
    back_up(str(tmp_path / "a.db"), str(there), quiet, replaces=True)
    assert verdict(there) is Verdict.SOUND


async def test_no_backup_overwrites_the_database_or_goes_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "hard.db").hardlink_to(path)
    for name in ("a.db", "link.db", "hard.db", "a.db-wal", "a.db.lock"):
        with pytest.raises(FileError, match="is the database itself") as caught:
            back_up(str(path), str(tmp_path / name), quiet, replaces=True)
        assert caught.value.exit_code == 78
    with pytest.raises(FileError, match="no such folder"):
        back_up(str(path), str(tmp_path / "missing" / "b.db"), quiet, replaces=False)
    with pytest.raises(FileError, match="no such file"):
        back_up(str(tmp_path / "none.db"), str(tmp_path / "b.db"), quiet, replaces=False)
    assert verdict(path) is Verdict.SOUND


async def test_links_are_looked_through_but_not_written_through(tmp_path: Path) -> None:
    path, link = tmp_path / "a.db", tmp_path / "link.db"
    await fill_and_kill(path)
    link.symlink_to(path)
    made = back_up(str(link), str(tmp_path / "b.db"), quiet, replaces=False)
    assert made.rows == 2000  # the WAL is beside the file
    assert verdict(link) is Verdict.SOUND
    precious, dangling = tmp_path / "precious", tmp_path / "dangling"
    precious.write_text("precious")
    (tmp_path / "to").symlink_to(precious)
    dangling.symlink_to(tmp_path / "nowhere")
    for name in ("to", "dangling"):
        with pytest.raises(FileError, match="--force"):
            back_up(str(path), str(tmp_path / name), quiet, replaces=False)
        back_up(str(path), str(tmp_path / name), quiet, replaces=True)
        assert not (tmp_path / name).is_symlink()
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    before = names(tmp_path)
    overwrite(path, page=12, offset=500, content=DAMAGE)
    with pytest.raises(FileError, match="checksum"):
        back_up(str(path), str(tmp_path / "b.db"), quiet, replaces=False)
    await fill(tmp_path / "c.db")
    before = names(tmp_path)

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(str(tmp_path / "c.db"), str(tmp_path / "b.db"), interrupt, replaces=False)
    assert names(tmp_path) == before


async def test_a_copy_that_came_out_wrong_gets_no_name(tmp_path: Path) -> None:
    """A disk that stores something else than it was given."""
    await fill(tmp_path / "a.db")
    before = names(tmp_path)

    def damage(what: str, done: int, total: int) -> None:
        if what == "copied":
            overwrite(tmp_path / "b.db.partial", page=12, offset=500, content=DAMAGE)

    with pytest.raises(FileError, match="damaged"):
        back_up(str(tmp_path / "a.db"), str(tmp_path / "b.db"), damage, replaces=False)
    assert names(tmp_path) == before


async def test_one_process_at_a_time_makes_a_file(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    with Partial(str(tmp_path / "b.db")):
        with pytest.raises(FileError, match="another process") as caught:
            back_up(str(tmp_path / "a.db"), str(tmp_path / "b.db"), quiet, replaces=False)
        assert caught.value.exit_code == 75
    (tmp_path / "b.db.partial").write_text("left by a kill")
    (tmp_path / "b.db.partial-wal").write_text("and this")
    back_up(str(tmp_path / "a.db"), str(tmp_path / "b.db"), quiet, replaces=False)
    assert names(tmp_path) >= {"a.db", "b.db"}
    assert not any("partial" in name for name in names(tmp_path))


async def test_a_backup_of_a_file_that_lacks_commits_is_made_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.db"
    await fill_and_kill(path)
    whole = back_up(str(path), str(tmp_path / "whole.db"), quiet, replaces=False)
    assert whole.missing is None
    os.unlink(f"{path}-wal")
    made = back_up(str(path), str(tmp_path / "b.db"), quiet, replaces=False)
    assert made.missing == "the commits 1901 to 2000 are missing, which were answered"
    assert verdict(tmp_path / "b.db") is Verdict.SOUND
    code = main(["backup", "--database", str(path), str(tmp_path / "c.db")])
    said = capfd.readouterr()
    assert (code, (tmp_path / "c.db").exists()) == (1, True)
    assert said.out.startswith(f"{tmp_path}/c.db: 1900 rows")
    assert f"{path}: the commits 1901 to 2000 are missing" in said.err
