"""Repairing and compacting: what can be put right is, and nothing else changes."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.files import FileError
from recordd.persistence.sqlite.repair import compact, repair
from tests.server.commits import delete
from tests.server.sqlite_files import (
    DAMAGE,
    PAGE_BYTES,
    epoch_of,
    fill,
    flip,
    leaves_of,
    log_of,
    make,
    overwrite,
    quiet,
    vacuum_by_stock_sqlite,
    verdict,
)


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


async def test_a_flip_that_could_be_several_is_damage_and_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    everything = dict(log_of(path))
    image = path.read_bytes()
    [page, *_] = leaves_of(path, "log")
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


async def test_an_index_that_contradicts_the_log_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    for page in leaves_of(path, "history"):
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
    await delete(backend, "r.1", 2001)
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    before, epoch = log_of(path), epoch_of(path)
    sizes = compact(str(path), quiet)
    assert sizes[1] == path.stat().st_size < sizes[0]
    assert verdict(path) is Verdict.SOUND
    assert (log_of(path), epoch_of(path)) == (before, epoch)


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
