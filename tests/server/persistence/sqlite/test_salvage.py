"""Salvage: what is given out of a damaged file, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from recordd.extending.commit import Deletion, Deletions
from recordd.persistence.sqlite.backup import back_up
from recordd.persistence.sqlite.check import Verdict
from recordd.persistence.sqlite.files import FileError
from recordd.persistence.sqlite.repair import repair
from tests.server.sqlite_files import (
    DAMAGE,
    epoch_of,
    fill,
    leaves_of,
    log_of,
    make,
    overwrite,
    quiet,
    verdict,
)


def damage_row(path: Path, *, rev: int) -> None:
    """Write a value that is no JSON, on a page with a right checksum."""
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("UPDATE log SET value = '{' WHERE rev = ?", (rev,))
    db.close()


async def test_a_salvage_gives_out_all_but_the_damaged_pages_and_says_which(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    everything = dict(log_of(path))
    epoch = epoch_of(path)
    leaves = leaves_of(path, "log")
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
    damage_row(path, rev=9)
    made = repair(str(path), quiet, is_dry_run=False)
    assert made.losses == ["the row with the rev 9: its value is no JSON"]
    assert {rev for rev, _ in log_of(path)} == set(range(1, 101)) - {9}


async def test_a_salvage_keeps_which_ids_were_given_and_the_position(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, 100)
    backend = make(path)
    before = await backend.initialize()
    newest = before.records[-1]
    deletion = Deletions([Deletion(newest.latest.name, newest.record_id, 0, 101)])
    await backend.apply([deletion], 700)
    await backend.close()
    damage_row(path, rev=9)
    repair(str(path), quiet, is_dry_run=False)
    backend = make(path)
    after = await backend.initialize()
    await backend.close()
    assert (after.next_record_id, after.position) == (before.next_record_id, 700)


async def test_a_salvage_keeps_that_an_id_was_given_to_what_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path, 100)
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("INSERT INTO meta VALUES ('next_record_id', 40)")
    db.close()
    damage_row(path, rev=9)
    repair(str(path), quiet, is_dry_run=False)
    backend = make(path)
    assert (await backend.initialize()).next_record_id == 40
    await backend.close()


async def test_a_record_whose_name_is_lost_gets_one_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    [page] = leaves_of(path, "record")
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
