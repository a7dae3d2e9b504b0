"""A commit on the loop, without a wait, leaves the file and memory as one that is waited for."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import trio

from recordd.extending.backend import BackendShutdown
from recordd.extending.commit import NewRecord, NewRows
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.pace import Pace
from recordd.persistence.sqlite.writing import WritingSide
from recordd_protocol.rows import Row, RowKind
from tests.server.sqlite_files import ask, log_of, make


def make_commits(seed: int) -> Iterator[tuple[NewRows, int]]:
    """Commits of few rows, some of them of records that are new, late or transient."""
    chance, rev, known = random.Random(seed), 0, 0
    for position in range(1, 60):
        rows, ids, created = [], [], []
        for _ in range(chance.randrange(1, 4)):
            record = chance.randrange(6)
            if record >= known:
                record, known = known, known + 1
                created.append(NewRecord(record, f"r{record}", is_stored=record != 2))
            is_stored = record != 2
            rev += is_stored
            kind = chance.choice([RowKind.LATEST, RowKind.LATE])
            value = b'"%d"' % chance.randrange(10**6)
            rows.append(
                Row(f"r{record}", value, chance.randrange(1000), rev if is_stored else None, kind)
            )
            ids.append(record)
        yield NewRows(rows, ids, created), position if chance.random() < 0.2 else rev


async def play(path: Path, seed: int, *, at_once: bool) -> list[object]:
    """Have commits applied, and return all that the file and memory have then."""
    backend, quick = make(path), 0
    await backend.initialize()
    try:
        for commit, position in make_commits(seed):
            if at_once and backend.apply_at_once(commit, position):
                quick += 1
            else:
                await backend.apply([commit], position)
        found: list[object] = [await ask(backend, f"r{n}", limit_per_record=None) for n in range(6)]
        found.append(backend.indexed_rev)
    finally:
        await backend.close()
    assert quick > 40 if at_once else not quick
    again = make(path)
    loaded = await again.initialize()
    records = [(r.record_id, r.latest.name, r.rows, r.latest.rev) for r in loaded.records]
    state = [loaded.rev, loaded.position, loaded.next_record_id, records]
    await again.close()
    return [*found, log_of(path), *state]


@pytest.mark.parametrize("seed", range(2))
async def test_the_file_is_the_same_as_after_commits_that_were_waited_for(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "is_quick", True)  # whatever the disk is like just now
    at_once = await play(tmp_path / "a.db", seed, at_once=True)
    assert at_once == await play(tmp_path / "b.db", seed, at_once=False)


async def open_one(path: Path) -> SqliteBackend:
    backend = make(path)
    await backend.initialize()
    await backend.apply([NewRows([Row("a", b"1", 1, 1)], [0], [NewRecord(0, "a", True)])], 1)
    return backend


COMMIT = NewRows([Row("a", b"2", 2, 2)], [0])


async def test_a_slow_disk_is_not_waited_for_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await open_one(tmp_path / "r.db")
    monkeypatch.setattr(Pace, "is_quick", False)
    assert not backend.apply_at_once(COMMIT, 2)
    assert await ask(backend, "a", limit_per_record=None) == [1]
    monkeypatch.setattr(Pace, "is_quick", True)
    assert backend.apply_at_once(COMMIT, 2)
    assert await ask(backend, "a", limit_per_record=None) == [1, 2]
    await backend.close()


async def test_nothing_is_changed_where_another_uses_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, begun, may_end = (
        await open_one(tmp_path / "r.db"),
        threading.Event(),
        threading.Event(),
    )

    def stay(side: WritingSide, db: apsw.Connection) -> None:
        begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(WritingSide, "_keep_up", stay)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backend.check)
        await trio.to_thread.run_sync(begun.wait)
        assert not backend.apply_at_once(COMMIT, 2)
        may_end.set()
    assert await ask(backend, "a", limit_per_record=None) == [1]
    await backend.close()


@pytest.mark.parametrize("due", ["merge", "checkpoint", "reserve"])
async def test_work_that_is_due_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, due: str
) -> None:
    backend = await open_one(tmp_path / "r.db")
    monkeypatch.setattr(Pace, "is_quick", True)
    if due == "merge":
        monkeypatch.setattr(type(backend._tail), "is_merging", True)
    elif due == "checkpoint":
        monkeypatch.setattr("recordd.persistence.sqlite.writing.Checkpoints.is_due", True)
    else:
        monkeypatch.setattr(backend._writing_side.reserve, "is_out", True)
    assert not backend.apply_at_once(COMMIT, 2)
    monkeypatch.undo()
    await backend.close()


@pytest.mark.parametrize("rows", [0, 1025])
async def test_many_rows_and_none_to_store_are_left_to_the_other_way(
    tmp_path: Path, rows: int
) -> None:
    backend = await open_one(tmp_path / "r.db")
    commit = NewRows([Row("a", b"2", 2, n + 2) for n in range(rows)] or [Row("t", b"1", 1, None)],
                     [0] * (rows or 1))  # fmt: skip
    assert not backend.apply_at_once(commit, 2)
    await backend.close()


async def test_a_backend_that_is_closed_says_so(tmp_path: Path) -> None:
    backend = await open_one(tmp_path / "r.db")
    await backend.close()
    with pytest.raises(BackendShutdown):
        backend.apply_at_once(COMMIT, 2)
