"""Backup, restore, check, repair and compact, on files as people and disks leave them."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from recordd.cli import main
from recordd.extending.backend import BackendError
from recordd.persistence.sqlite import files
from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.files import FileError, Partial
from recordd.persistence.sqlite.repair import compact, repair
from recordd.persistence.sqlite.restore import restore
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


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


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


async def test_a_restore_takes_a_new_epoch_and_keeps_what_was_there(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path)
    back_up(str(path), str(copy), quiet, replaces=False)
    backend = make(path)
    epoch = (await backend.initialize()).epoch
    await backend.delete("r.1", 2001)
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


async def test_what_changes_the_file_waits_for_the_daemon_to_stop(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path)
    back_up(str(path), str(copy), quiet, replaces=False)
    backend = make(path)
    await backend.initialize()
    try:
        for change in (
            lambda: restore(str(path), str(copy), quiet),
            lambda: repair(str(path), quiet, is_dry_run=False),
            lambda: compact(str(path), quiet),
        ):
            with pytest.raises(FileError, match="another process") as caught:
                change()
            assert caught.value.exit_code == 75
    finally:
        await backend.close()


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


async def test_a_repair_of_stale_checksums_loses_nothing_and_keeps_the_epoch(
    tmp_path: Path,
) -> None:
    path, stale = tmp_path / "a.db", tmp_path / "v.db"
    await fill(path)
    vacuum_by_stock_sqlite(path, stale)
    rehearsed = repair(str(stale), quiet, is_dry_run=True)
    assert verdict(stale) is Verdict.STALE
    assert repair(str(stale), quiet, is_dry_run=False) == rehearsed
    assert (rehearsed.losses, rehearsed.set_aside) == ([], None)
    assert verdict(stale) is Verdict.SOUND
    assert (epoch_of(stale), log_of(stale)) == (epoch_of(path), log_of(path))
    assert repair(str(stale), quiet, is_dry_run=False).done == []


async def test_flipped_bits_are_put_right_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    image = path.read_bytes()
    generator = random.Random(3)
    for page in generator.sample(range(1, len(image) // PAGE_BYTES), 10):
        word = generator.randrange(1021)
        flip(path, word * 32 + generator.randrange(20), page=page)
    made = repair(str(path), quiet, is_dry_run=False)
    assert (len(made.done), made.losses) == (10, [])
    assert path.read_bytes() == image


async def test_a_salvage_gives_out_all_but_the_damaged_pages_and_says_which(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    everything = dict(log_of(path))
    epoch = epoch_of(path)
    leaves = _leaves_of_log(path)
    damaged = [leaves[3], leaves[7], leaves[8], leaves[-1]]
    for page in damaged:
        overwrite(path, page=page, offset=2000, content=DAMAGE)
    with pytest.raises(FileError):
        back_up(str(path), str(tmp_path / "b.db"), quiet, replaces=False)
    made = repair(str(path), quiet, is_dry_run=False)
    saved = dict(log_of(path))
    assert saved.items() < everything.items()
    lost = sorted(everything.keys() - saved.keys())
    assert len(lost) < len(everything) / len(leaves) * 8
    told = [line for line in made.losses if "revs" in line]
    assert len(told) == 4
    assert f"revs {lost[0]} to" in told[0]
    assert "on" in told[-1].split()
    assert verdict(path) is Verdict.SOUND
    assert epoch_of(path) != epoch
    assert made.set_aside is not None
    assert Path(made.set_aside).exists()
    backend = make(path)
    assert len((await backend.initialize()).records) == 7
    await backend.close()


async def test_a_salvage_believes_no_value_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, 100)
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("UPDATE log SET value = '{' WHERE rev = 9")
    db.close()
    made = repair(str(path), quiet, is_dry_run=False)
    assert made.losses == ["the row with the rev 9: its value is no JSON"]
    assert {rev for rev, _ in log_of(path)} == set(range(1, 101)) - {9}


async def test_a_flip_that_could_be_several_is_damage_and_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    everything = dict(log_of(path))
    image = path.read_bytes()
    [page, *_] = _pages_of(path, "log")
    for word in range(600, 1000):  # the sums of bit 24 repeat every 384 words
        path.write_bytes(image)
        flip(path, word * 32 + 24, page=page)
        report = check_file(str(path), quiet, is_full=True)
        fits = all("pages with" in line or "log: rows" in line for line in report.problems)
        if report.damaged_pages == [page] and fits:
            break
    else:
        raise AssertionError("no flip of the page is ambiguous")
    made = repair(str(path), quiet, is_dry_run=False)
    assert any("revs" in line for line in made.losses)
    assert dict(log_of(path)).items() < everything.items()


async def test_a_record_whose_name_is_lost_gets_one_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    [page] = _pages_of(path, "record")
    overwrite(path, page=page, offset=3970, content=DAMAGE)
    made = repair(str(path), quiet, is_dry_run=False)
    assert any("recovered.record.3" in line for line in made.losses)
    backend = make(path)
    loaded = await backend.initialize()
    assert {record.latest.name for record in loaded.records} == {
        f"recovered.record.{number}" for number in range(1, 8)
    }
    assert (sum(record.rows for record in loaded.records), loaded.rev) == (2000, 2000)
    await backend.close()


async def test_an_index_that_contradicts_the_log_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    for page in _pages_of(path, "history"):
        overwrite(path, page=page, offset=3970, content=DAMAGE)
    before = log_of(path)
    made = repair(str(path), quiet, is_dry_run=False)
    assert made.losses == []
    assert log_of(path) == before
    assert verdict(path) is Verdict.SOUND


async def test_compacting_gives_free_space_back_and_keeps_all_else(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    backend = make(path)
    await backend.initialize()
    await backend.delete("r.1", 2001)
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    before, epoch = log_of(path), epoch_of(path)
    sizes = compact(str(path), quiet)
    assert sizes[1] == path.stat().st_size < sizes[0]
    assert verdict(path) is Verdict.SOUND
    assert (log_of(path), epoch_of(path)) == (before, epoch)


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


async def test_a_rehearsal_speaks_of_the_database_and_not_of_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    path.write_text("no database, but as long as a header of one would be" * 9)
    with pytest.raises(FileError) as caught:
        repair(str(path), quiet, is_dry_run=True)
    with pytest.raises(FileError) as expected:
        repair(str(path), quiet, is_dry_run=False)
    assert str(caught.value) == str(expected.value)
    await fill(tmp_path / "b.db", 10)

    def find_no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", find_no_room)
    with pytest.raises(FileError, match=r"b\.db: No space.* \(of its copy in ") as caught:
        repair(str(tmp_path / "b.db"), quiet, is_dry_run=True)
    assert caught.value.exit_code == 75


@pytest.mark.parametrize("make_odd", [os.mkdir, os.mkfifo, lambda path: os.symlink("x", path)])
async def test_what_is_no_mark_is_refused_in_the_same_words_by_all(
    tmp_path: Path, make_odd: Callable[[str], None]
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 10)
    os.unlink(f"{path}-mark")
    make_odd(f"{path}-mark")
    refusals = []
    for look in (
        lambda: check_file(str(path), quiet, is_full=False),
        lambda: repair(str(path), quiet, is_dry_run=False),
        lambda: repair(str(path), quiet, is_dry_run=True),
        lambda: compact(str(path), quiet),
    ):
        with pytest.raises(FileError) as caught:
            look()
        assert caught.value.exit_code == 78
        refusals.append(str(caught.value))
    backend = make(path)
    with pytest.raises(BackendError) as refused:
        await backend.initialize()
    await backend.close()
    assert {*refusals, str(refused.value)} == {f"{path}-mark: no regular file: move it away"}


def _pages_of(path: Path, table: str) -> list[int]:
    db = apsw.Connection(str(path), vfs="cksmvfs", flags=apsw.SQLITE_OPEN_READONLY)
    query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
    found = [page for (page,) in db.execute(query, (table,))]
    db.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return found


def _leaves_of_log(path: Path) -> list[int]:
    return _pages_of(path, "log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_in_the_last_step_gives_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Else a command would say so of a file that is in its place."""
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path, 10)
    sync = files.sync_folder

    def sync_and_signal(what: str) -> None:
        sync(what)
        signal.raise_signal(number)  # to this thread: a command has no other

    monkeypatch.setattr(files, "sync_folder", sync_and_signal)
    assert main(["backup", "--database", str(path), str(copy)]) == 0
    assert main(["restore", "--database", str(path), str(copy)]) == 0
    assert verdict(path) is Verdict.SOUND
