"""What a copy or a repair lacks is found and said; variants that keep silent are flagged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from recordd.conformance.support import row
from recordd.persistence.sqlite import backup, salvage, structure
from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.copying import Progress, copy_database
from recordd.persistence.sqlite.files import FileError, open_database
from recordd.persistence.sqlite.repair import repair
from recordd.persistence.sqlite.salvage import Gap, read_around
from tests.server.commits import store
from tests.server.sqlite_files import (
    PAGE_BYTES,
    fill,
    log_of,
    make,
    overwrite,
    quiet,
    vacuum_by_stock_sqlite,
)


async def check_that_nothing_is_lost_unsaid(path: Path) -> None:
    """Repair damage that may be taken for a stale checksum, and account for every row."""
    await fill(path, 300)
    before = dict(log_of(path))
    page, offset = divmod(path.read_bytes().index(b'"n":150}'), PAGE_BYTES)
    overwrite(path, page=page + 1, offset=offset, content=b'"n"\x01150')
    made = repair(str(path), quiet, is_dry_run=False)
    saved = dict(log_of(path))
    assert saved.items() <= before.items(), "a wrong value was given out"
    told = [re.findall(r"\d+", line) for line in made.losses if "revs" in line]
    lost = {rev for ends in told for rev in range(int(ends[0]), int(ends[-1]) + 1)}
    assert before.keys() - saved.keys() == lost != set()


async def test_a_repair_names_each_row_that_it_lost(tmp_path: Path) -> None:
    await check_that_nothing_is_lost_unsaid(tmp_path / "a.db")


@pytest.mark.parametrize(
    "fault",
    [
        lambda patch: patch.setattr(structure, "find_contradictions", lambda db: []),
        lambda patch: patch.setattr(salvage, "read_around", _read_what_can_be_read),
    ],
    ids=["damage taken for stale checksums", "gaps that are passed over"],
)
async def test_the_suite_flags_a_repair_that_loses_rows_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Negative control."""
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        await check_that_nothing_is_lost_unsaid(tmp_path / "a.db")


def _read_what_can_be_read(db: apsw.Connection, query: str) -> Iterator[tuple[Any, ...] | Gap]:
    return (row for row in read_around(db, query) if not isinstance(row, Gap))


async def test_a_copy_that_lacks_a_row_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sound in itself: only the comparison with its database can tell."""
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    await fill(path, 100)

    def copy_less(source: apsw.Connection, target: str, progress: Progress) -> None:
        copy_database(source, target, progress)
        db = apsw.Connection(target, vfs="cksmvfs")
        db.execute("DELETE FROM log WHERE rev = 50; DELETE FROM history WHERE rev = 50")
        db.execute("UPDATE record SET row_count = row_count - 1 WHERE id = 1")
        db.close()

    monkeypatch.setattr(backup, "copy_database", copy_less)
    with pytest.raises(FileError, match="but the database has"):
        back_up(str(path), str(copy), quiet, replaces=False)
    assert not copy.exists()


async def test_a_copy_larger_than_its_cache_has_checksums_on_all_pages(tmp_path: Path) -> None:
    """Pages that leave the cache are written before the header, which asks for checksums."""
    path, stale, copy = tmp_path / "a.db", tmp_path / "v.db", tmp_path / "b.db"
    await fill(path, 10)
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(n, "a", value=b'"%s"' % (b"x" * 3500)) for n in range(11, 1011)])
    await backend.close()
    vacuum_by_stock_sqlite(path, stale)
    copy.touch()
    source = open_database(str(stale), is_verified=False)
    copy_database(source, str(copy), quiet)
    source.close()
    report = check_file(str(copy), quiet, is_full=True)
    assert (report.verdict, report.stale_pages) == (Verdict.SOUND, [])
