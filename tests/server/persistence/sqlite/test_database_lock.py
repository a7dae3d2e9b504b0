"""One process changes a database, by whatever name of the file it comes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recordd.conformance.support import row
from recordd.extending.backend import BackendError
from recordd.persistence.sqlite.database_lock import DatabaseLock, describe_other_names
from recordd.persistence.sqlite.files import FileError, set_aside
from recordd.persistence.sqlite.mark import mark_path
from recordd.persistence.sqlite.repair import compact, repair
from recordd.persistence.sqlite.restore import restore
from tests.server.commits import store
from tests.server.sqlite_files import fill, log_of, make, quiet

Change = Callable[[str], object]

CHANGES: dict[str, Change] = {
    "restore": lambda path: restore(path, path + ".copy", quiet),
    "repair": lambda path: repair(path, quiet, is_dry_run=False),
    "rehearse": lambda path: repair(path, quiet, is_dry_run=True),
    "compact": lambda path: compact(path, quiet),
}


@pytest.mark.parametrize("links", [Path.hardlink_to, Path.symlink_to])
async def test_a_second_name_is_no_second_database(
    tmp_path: Path, links: Callable[[Path, Path], None]
) -> None:
    path, other = tmp_path / "a.db", tmp_path / "other" / "b.db"
    backend = make(path)
    await backend.initialize()  # the lock holds a file that it has made, too
    other.parent.mkdir()
    links(other, path)
    second = make(other)
    with pytest.raises(BackendError, match="another process has this database open"):
        await second.initialize()
    await second.close()
    with pytest.raises(FileError, match="another process") as caught:
        repair(str(other), quiet, is_dry_run=False)
    assert caught.value.exit_code == 75
    await backend.close()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_file_with_other_names_is_not_changed_under_one_of_them(
    tmp_path: Path, change: Change
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 20)
    await fill(tmp_path / "a.db.copy", 10)
    (tmp_path / "b.db").hardlink_to(path)
    before = path.read_bytes()
    with pytest.raises(FileError, match=r"another name \(hard links\).*remove them") as caught:
        change(str(path))
    assert caught.value.exit_code == 78
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*before-restore*"))
    (tmp_path / "b.db").unlink()
    change(str(path))


async def test_a_restore_that_was_killed_half_way_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, 20)
    await fill(tmp_path / "copy.db", 10)
    aside = set_aside(str(path), "before-restore")
    assert os.path.samefile(path, aside)
    assert restore(str(path), str(tmp_path / "copy.db"), quiet).rows == 10
    assert len(log_of(Path(aside))) == 20


async def test_a_file_goes_on_under_the_name_it_had_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path, 20)
    other.hardlink_to(path)
    second = make(other)
    with pytest.raises(BackendError, match="not in use under this one"):
        await second.initialize()
    await second.close()
    assert not Path(mark_path(str(other))).exists()
    backend = make(path)
    assert (await backend.initialize()).rev == 20
    await backend.close()
    assert "another name (hard links)" in caplog.text


async def test_a_killed_daemons_file_does_not_start_under_another_name(tmp_path: Path) -> None:
    """All that the daemon wrote may be in the -wal, also that there was a mark."""
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    backend = make(tmp_path / "open.db")
    await backend.initialize()
    await store(backend, [row(1)])
    for suffix in ("", "-wal", "-mark"):
        shutil.copy(f"{tmp_path}/open.db{suffix}", f"{path}{suffix}")
    await backend.close()
    other.hardlink_to(path)
    second = make(other)
    with pytest.raises(BackendError, match="not in use under this one"):
        await second.initialize()
    await second.close()
    assert log_of(path) == [(1, row(1).value.decode())]
    backend = make(path)
    assert (await backend.initialize()).rev == 1
    await backend.close()


def test_names_that_a_command_gave_a_file_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"x")
    for name in ("a.db.before-restore-2026-01-01T000000Z", "a.db.damaged-2026-01-01T000000Z-2"):
        (tmp_path / name).hardlink_to(path)
    assert describe_other_names(str(path)) is None
    (tmp_path / "a.db.kept").hardlink_to(path)
    assert "another name" in (describe_other_names(str(path)) or "")
    (tmp_path / "b.db.damaged-2026-01-01T000000Z").hardlink_to(path)
    assert "2 other names" in (describe_other_names(str(path)) or "")


def test_a_lock_may_be_given_up_twice_and_taken_again(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    for _ in range(2):
        lock = DatabaseLock(path)
        Path(path).touch()
        lock.hold_file()
        lock.hold_file()
        lock.close()
        lock.close()
