"""A damaged page: it is named, told once, counted, and everything else is served."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from recordd.conformance.support import revs, row, settle
from recordd.extending.backend import (
    DamagedStorage,
    FatalBackendError,
    PageLimits,
    PersistenceError,
    QueryParams,
    ReplayParams,
)
from recordd.persistence.sqlite import reads
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.damage import find_cause
from recordd.persistence.sqlite.plans import Found
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Page
from tests.server.backends import sqlite_options
from tests.server.commits import store
from tests.server.sqlite_files import FLAGGED, PAGE_BYTES, ask, closing_all, make

ROWS = 40
DAMAGED_REV = 20
PAGE = PageLimits(rows=10_000, bytes=1 << 20)


def value_of(rev: int) -> bytes:
    return b'"row %d %s"' % (rev, b"x" * 3000)


def damage(path: Path, needle: bytes) -> int:
    """Spoil two bits of the page that holds `needle`; return the page's number."""
    image = bytearray(path.read_bytes())
    where = image.index(needle)
    image[where + 100] ^= 1
    image[where + 200] ^= 2
    path.write_bytes(image)
    return where // 4096 + 1


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database of records `a` and `b` in turns, indexed, with a damaged page in `a`'s past."""
    path = tmp_path / "a.db"
    backend = SqliteBackend(sqlite_options(path))
    await backend.initialize()
    await store(backend, [row(n, "ab"[n % 2], value=value_of(n)) for n in range(1, ROWS + 1)])
    while await backend.maintain(1 << 40):
        pass
    await backend.close()
    return path


def count_rows(db: apsw.Connection, source: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {source}").get)


async def replay(backend: SqliteBackend, after: int) -> Page:
    params = ReplayParams(moment=backend.take_moment(ROWS), after_rev=after, page=PAGE)
    return await backend.replay(compile_patterns("#"), params)


async def test_a_damaged_page_is_named_told_once_and_counted_and_the_rest_is_served(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = damage(path, value_of(DAMAGED_REV)[:10])
    backend = SqliteBackend(sqlite_options(path, readers=1))
    await backend.initialize()
    caplog.set_level(logging.ERROR)
    for _ in range(3):
        with pytest.raises(DamagedStorage, match=f"page {page} of the database fails its checksum"):
            await ask(backend, "a")
    assert await ask(backend, "b") == list(range(1, ROWS, 2))
    assert await ask(backend, "a", start_ms=300) == list(range(30, ROWS + 1, 2))
    assert len([r for r in caplog.records if "fails its checksum" in r.message]) == 1
    statistics = backend.statistics()
    assert (statistics["damaged_pages"], statistics["damage_errors"]) == (1, 3)
    await store(backend, [row(ROWS + 1)])
    await backend.close()


async def read_all(backend: SqliteBackend) -> None:
    """Ask for every row in every way; each is right or refused."""
    for n in range(1, ROWS + 1):
        with contextlib.suppress(DamagedStorage):
            found = await backend.at(n, backend.take_moment(ROWS))
            assert found is not None
            assert found.value == value_of(n)
    for pattern in ("a", "b"):
        with contextlib.suppress(DamagedStorage):
            rows = await ask(backend, pattern)
            assert rows == [n for n in range(1, ROWS + 1) if "ab"[n % 2] == pattern]
    with contextlib.suppress(DamagedStorage):
        assert revs((await replay(backend, 0)).rows)[-1:] != [ROWS]


def text_of(backend: SqliteBackend) -> QueryParams:
    """A page of a row, and more behind it: the text is sent as it is."""
    page = PageLimits(rows=1, bytes=1 << 20)
    return QueryParams(moment=backend.take_moment(3), page=page, as_text=True)


async def test_a_page_of_zeros_passes_its_checksum_and_is_refused_all_the_same(
    tmp_path: Path,
) -> None:
    path, value = tmp_path / "a.db", b'"%s"' % (b"x" * 9000)
    backend = make(path)
    await backend.initialize()
    await store(backend, [row(1, value=value), row(2, value=b"2"), row(3, "other", value=value)])
    await settle(backend)
    await backend.close()
    image = path.read_bytes()
    first = image.index(b"\0\0\0\0" + b"x" * 500)  # the last page of a value has none behind it
    path.write_bytes(image[:first] + bytes(PAGE_BYTES) + image[first + PAGE_BYTES :])
    backend = make(path)
    loaded = await backend.initialize()
    assert [record.damage is None for record in loaded.records] == [True, True]
    with pytest.raises(DamagedStorage, match=r"record 'a', rev 1, .*zeros where text was"):
        await ask(backend, "a")
    with pytest.raises(DamagedStorage, match=r"record 'a', rev 1, .*zeros where text was"):
        await backend.query(compile_patterns("a"), text_of(backend))
    with pytest.raises(DamagedStorage, match="rev 1: its value has zeros"):
        await replay(backend, 0)
    with pytest.raises(DamagedStorage, match="rev 1: its value has zeros"):
        await backend.at(1, backend.take_moment(3))
    assert await ask(backend, "other") == [3]
    await backend.close()


@pytest.mark.parametrize("left", [1, 100, 2000, 4095])
async def test_a_file_that_is_cut_off_within_its_last_page_gives_no_wrong_answer(
    path: Path, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(path, path.stat().st_size - PAGE_BYTES + left)
    backend = make(path)
    await backend.initialize()
    assert "ends within page" in caplog.text
    await read_all(backend)
    await backend.close()


async def test_a_file_that_is_cut_off_under_the_running_daemon_stops_it(path: Path) -> None:
    backend = make(path)
    await backend.initialize()
    await backend.check()
    os.truncate(path, path.stat().st_size - PAGE_BYTES - 1)
    with pytest.raises(FatalBackendError, match="cut off under the running daemon"):
        await backend.check()
    with contextlib.suppress(PersistenceError):
        await backend.close()


async def test_damage_that_sqlite_finds_itself_is_told_too(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = SqliteBackend(sqlite_options(path, readers=1))
    await backend.initialize()

    def fail(db: apsw.Connection) -> None:
        with db:
            raise apsw.CorruptError("database disk image is malformed")

    assert backend._writer is not None
    with pytest.raises(DamagedStorage, match="malformed"):
        await backend._writer.run(fail)
    assert backend.statistics()["damage_errors"] == 1
    assert "malformed" in caplog.text
    await backend.close()


@pytest.mark.parametrize("limit", [None, 15, 1000])
async def test_a_page_ends_before_the_row_that_is_damaged_and_the_next_one_names_it(
    path: Path, limit: int | None
) -> None:
    page = damage(path, value_of(DAMAGED_REV)[:10])
    backend = SqliteBackend(sqlite_options(path, readers=1))
    await backend.initialize()
    first = [n for n in range(2, ROWS + 1, 2) if n > 10 or limit != 15]
    bounds: dict[str, Any] = {"moment": backend.take_moment(ROWS), "limit_per_record": limit}
    found = await backend.query(compile_patterns("a"), QueryParams(page=PAGE, **bounds))
    assert revs(found.rows) == [n for n in first if n < DAMAGED_REV]
    named = rf"record 'a', rev {DAMAGED_REV}, ts {DAMAGED_REV * 10}: page {page} of the database"
    for _ in range(2):
        with pytest.raises(DamagedStorage, match=named):
            await backend.query(
                compile_patterns("a"), QueryParams(page=PAGE, page_cursor=found.next, **bounds)
            )
    await backend.close()


async def test_the_suite_flags_a_reader_that_ends_where_it_cannot_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: it leaves rows out in silence."""
    read_carefully = reads._read_page_carefully

    def end(*args: Any) -> tuple[Found, int]:
        found, tick = read_carefully(*args)
        return msgspec.structs.replace(found, more=False), tick

    monkeypatch.setattr(reads, "_read_page_carefully", end)
    async with closing_all(monkeypatch):
        with pytest.raises(FLAGGED):
            await test_a_page_ends_before_the_row_that_is_damaged_and_the_next_one_names_it(
                path, None
            )


async def test_the_suite_flags_a_reader_that_believes_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: it serves what passes the checksum."""
    monkeypatch.setattr(reads, "check_text", lambda value, _: value.encode())
    async with closing_all(monkeypatch):
        with pytest.raises(FLAGGED):
            await test_a_page_of_zeros_passes_its_checksum_and_is_refused_all_the_same(tmp_path)


async def test_a_replay_ends_before_the_row_that_is_damaged_and_goes_on_behind_it(
    path: Path,
) -> None:
    page = damage(path, value_of(DAMAGED_REV)[:10])
    backend = SqliteBackend(sqlite_options(path, readers=1))
    await backend.initialize()
    found = await replay(backend, 0)
    assert revs(found.rows) == list(range(1, DAMAGED_REV))
    assert found.next is not None
    with pytest.raises(DamagedStorage, match=rf"the log behind rev 19: page {page} of"):
        await replay(backend, DAMAGED_REV - 1)
    assert revs((await replay(backend, DAMAGED_REV)).rows) == list(range(21, ROWS + 1))
    with pytest.raises(DamagedStorage, match=rf"rev {DAMAGED_REV}: page {page} of"):
        await backend.at(DAMAGED_REV, backend.take_moment(ROWS))
    await backend.close()


def test_the_first_of_several_errors_is_the_cause() -> None:
    first, second = apsw.IOError("disk"), apsw.SQLError("cannot rollback")
    second.__context__ = first
    first.__context__ = ValueError()
    assert find_cause(second) is first


async def test_rows_on_a_damaged_page_of_the_log_are_indexed_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    backend = SqliteBackend(sqlite_options(path))
    await backend.initialize()
    await store(backend, [row(n, "ab"[n % 2], value=value_of(n)) for n in range(1, ROWS + 1)])
    assert backend._writer is not None
    await backend._writer.run(lambda db: db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE))
    await backend._writer.run(lambda db: db.pragma("shrink_memory"))
    damage(path, value_of(DAMAGED_REV)[:10])
    while await backend.maintain(1 << 40):
        pass
    assert backend.statistics()["unmerged_rows"] == 0
    assert backend.statistics()["damage_errors"] == 1
    for source in ("history", "history INDEXED BY timeline"):
        count = await backend._writer.run(count_rows, source)
        assert count == ROWS
    await backend.close()
