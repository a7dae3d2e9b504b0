"""What a commit leaves in the file beside its rows: ids, positions, records without rows."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from recordd.conformance.support import settle
from recordd.extending.backend import BackendError, Loaded
from recordd.extending.commit import Commit, Deletion, Deletions, NewRecord, NewRows
from recordd_protocol.rows import Row
from tests.server.sqlite_files import make


def rows_of(record_id: int, name: str, *revs: int | None) -> NewRows:
    """Rows of a record that is new with them."""
    rows = [Row(name, b"1", 10 * n, rev) for n, rev in enumerate(revs)]
    created = [NewRecord(record_id, name, is_stored=revs[0] is not None)]
    return NewRows(rows, [record_id] * len(rows), created)


async def apply(path: Path, *commits: Commit, position: int) -> None:
    """Apply commits together, do all housekeeping and stop in order."""
    backend = make(path)
    await backend.initialize()
    await backend.apply(commits, position)
    await settle(backend)
    await backend.close()


async def load(path: Path) -> Loaded:
    backend = make(path)
    loaded = await backend.initialize()
    await backend.close()
    return loaded


async def test_ids_come_back_as_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await apply(path, rows_of(0, "a", 1, 2), rows_of(7, "b", 3), position=3)
    loaded = await load(path)
    assert {r.latest.name: r.record_id for r in loaded.records} == {"a": 0, "b": 7}
    assert loaded.next_record_id == 8


async def test_an_id_is_not_given_again_when_its_record_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    deletion = Deletions([Deletion("b", 1, 0, 3)])
    await apply(path, rows_of(0, "a", 1), rows_of(1, "b", 2), deletion, position=3)
    loaded = await load(path)
    assert ([r.record_id for r in loaded.records], loaded.next_record_id) == ([0], 2)


async def test_ids_of_what_is_not_stored_are_known_with_the_next_commit(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await backend.apply([rows_of(0, "a", 1)], 1)
    await backend.apply([rows_of(1, "t", None)], 0)
    await backend.apply([NewRows([Row("a", b"2", 1, 2)], [0])], 2)
    await backend.close()
    loaded = await load(path)
    assert ([r.record_id for r in loaded.records], loaded.next_record_id) == ([0], 2)


async def test_an_id_that_was_given_outlives_a_commit_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    backend = make(path)
    await backend.initialize()
    await backend.apply([rows_of(0, "a", 1)], 1)
    await backend.apply([rows_of(1, "t", None)], 0)
    with pytest.raises(BackendError, match="UNIQUE"):
        await backend.apply([rows_of(0, "b", 2)], 2)
    await backend.apply([NewRows([Row("a", b"2", 1, 2)], [0])], 2)
    await backend.close()
    assert (await load(path)).next_record_id == 2


async def test_all_commits_of_one_call_are_there_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first, second = rows_of(0, "a", 1), rows_of(0, "b", 2)  # the same id twice cannot be
    backend = make(path)
    await backend.initialize()
    with pytest.raises(BackendError, match="UNIQUE"):
        await backend.apply([first, second], 2)
    await backend.close()
    assert (await load(path)).records == []


async def test_a_position_is_the_newest_rev_until_another_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await apply(path, rows_of(0, "a", 1), position=1)
    assert (await load(path)).position == 1
    db = apsw.Connection(str(path))
    assert db.execute("SELECT count(*) FROM meta WHERE key = 'position'").get == 0
    db.close()
    await apply(path, rows_of(1, "b", 2), position=40)
    await apply(path, rows_of(2, "t", None), position=41)
    loaded = await load(path)
    assert (loaded.rev, loaded.position, loaded.next_record_id) == (2, 41, 3)
    await apply(path, rows_of(3, "c", 42), position=42)
    assert (await load(path)).position == 42


async def test_a_record_without_rows_gives_its_name_to_a_new_one(tmp_path: Path) -> None:
    """Older versions could leave such."""
    path = tmp_path / "a.db"
    await apply(path, rows_of(0, "a", 1), position=1)
    db = apsw.Connection(str(path), vfs="cksmvfs")
    db.execute("INSERT INTO record (id, name) VALUES (5, 'b')")
    db.close()
    await apply(path, rows_of(9, "b", 2), position=2)
    loaded = await load(path)
    assert {r.latest.name: (r.record_id, r.rows) for r in loaded.records} == {
        "a": (0, 1),
        "b": (9, 1),
    }
