"""Small reads on the loop: what they answer, what they leave to the threads, and for how long."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from recordd.conformance.support import clean_up, row, settle
from recordd.extending.backend import CleanupTarget, PageLimits, QueryParams
from recordd.extending.moments import Moment
from recordd.persistence.sqlite import loop_reader, page_text
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.loop_reader import LoopReader
from recordd.system.turns import Work
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import ROW_SEPARATOR, Row
from tests.server.backends import sqlite_options
from tests.server.commits import store

ROWS = 300
LARGE = PageLimits(rows=1000, bytes=1 << 20)


class Clock:
    """Time and waits, which pass when SQLite looks: so many seconds and waits each time."""

    def __init__(self, step_s: float, waits: int) -> None:
        self.step_s, self.waits_a_look = step_s, waits
        self.now_s = 0.0
        self.waits = 0

    def read(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    def count_waits(self) -> int:
        self.waits += self.waits_a_look
        return self.waits


def rows_of(name: str, count: int) -> list[Row]:
    return [row(n, name, value=b'"%d"' % n) for n in range(1, count + 1)]


@pytest.fixture(params=["indexed", "in the tail"])
async def backend(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SqliteBackend]:
    """A record of 300 rows in the file, of which nothing stays in memory."""
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db", recent_bytes=0))
    await backend.initialize()
    await store(backend, rows_of("a", ROWS))
    if request.param == "indexed":
        await settle(backend)
    yield backend
    await backend.close()


def at_once(
    backend: SqliteBackend,
    name: str = "a",
    moment: Moment | None = None,
    page: PageLimits = LARGE,
    **params: int | str | None,
) -> list[int] | None:
    """Return the revs of the page that is answered at once, None where there is none."""
    asked = QueryParams(
        moment=backend.take_moment(1 << 40) if moment is None else moment,
        page=page,
        as_text=True,
        **params,  # type: ignore[arg-type]
    )
    steps = backend.query_at_once(compile_patterns(name), asked)
    work = Work(steps)  # rows that are not indexed may take more than one
    while not work.advance():
        pass
    found = work.result
    if found is None:
        return None
    assert found.next is None
    bodies = [] if found.text is None else found.text.split(ROW_SEPARATOR)
    assert [b for b in bodies if not b.startswith(b'"name":"a","value":"')] == []
    return [int(body[body.rindex(b":") + 1 :]) for body in bodies]


def reader_of(backend: SqliteBackend, make: Callable[[apsw.Connection], LoopReader]) -> LoopReader:
    """Have the loop's connection used by another reader, which is returned."""
    side = backend._reading_side
    reader = side.loop_reader = make(side.loop_reader._db)
    return reader


async def test_few_rows_of_one_record_are_answered_at_once(backend: SqliteBackend) -> None:
    assert at_once(backend, limit_per_record=3) == [298, 299, 300]
    assert at_once(backend, limit_per_record=3, end_ms=100) == [8, 9, 10]
    assert at_once(backend, start_ms=100, end_ms=125) == [10, 11, 12]
    assert at_once(backend, start_ms=5000) == []
    assert at_once(backend, limit_per_record=2, moment=Moment(200, 0)) == [199, 200]
    assert at_once(backend, end_ms=2560) == list(range(1, 257))


async def test_rows_that_are_not_indexed_yet_are_there(backend: SqliteBackend) -> None:
    await store(backend, [row(301, "a", ts=95, value=b'"x"'), row(302, "a", value=b'"y"')])
    assert at_once(backend, limit_per_record=2) == [300, 302]
    assert at_once(backend, start_ms=90, end_ms=100) == [9, 301, 10]


async def test_more_than_little_is_left_to_a_thread(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert at_once(backend, end_ms=2570) is None, "257 rows"
    assert at_once(backend, limit_per_record=257, end_ms=9) is None
    assert at_once(backend, "a.#", limit_per_record=1) is None
    assert at_once(backend, limit_per_record=3, page=PageLimits(2, 1000)) is None
    assert at_once(backend, limit_per_record=3, page=PageLimits(9, 100)) is None
    assert at_once(backend, limit_per_record=3, page=PageLimits(3, 1000)) == [298, 299, 300]
    await store(backend, [row(n, "a", value=b'"%b"' % (b"x" * 30_000)) for n in range(301, 304)])
    await settle(backend)
    assert at_once(backend, limit_per_record=2) == [302, 303]
    assert at_once(backend, limit_per_record=3) is None
    await store(backend, [row(304, "a"), row(305, "a")])
    monkeypatch.setattr(loop_reader, "_MOST_IN_TAIL", 1)
    assert at_once(backend, limit_per_record=1) is None


async def test_rows_of_another_moment_are_left_to_who_can_refuse_them(
    backend: SqliteBackend,
) -> None:
    await settle(backend)
    moment = backend.take_moment(ROWS)
    await clean_up(backend, CleanupTarget("a", 100, None, keep_latest=True))
    assert at_once(backend, moment=moment, limit_per_record=3) is None
    assert at_once(backend, limit_per_record=3) == [298, 299, 300]


async def test_a_page_goes_on_behind_the_one_before(backend: SqliteBackend) -> None:
    params = QueryParams(moment=backend.take_moment(ROWS), page=PageLimits(298, 1 << 20))
    first = await backend.query(compile_patterns("a"), params)
    assert at_once(backend, page_cursor=first.next) == [299, 300]


async def test_rows_that_went_a_moment_ago_are_left_to_who_waits_for_word_of_them(
    backend: SqliteBackend, tmp_path: Path
) -> None:
    """Another thread has taken them from the file, and memory does not know of it yet."""
    with contextlib.closing(apsw.Connection(str(tmp_path / "a.db"), vfs="cksmvfs")) as other:
        other.execute("INSERT INTO meta VALUES ('tick', 1)")
    assert at_once(backend, limit_per_record=3) is None


async def test_a_page_begins_a_series_that_goes_back_as_far_as_it_does(tmp_path: Path) -> None:
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db"))
    await backend.initialize()
    await store(backend, rows_of("a", 20))
    await settle(backend)
    try:
        for limit in (3, 2, 5, 19, 20, 21, 4):
            assert at_once(backend, limit_per_record=limit) == list(range(21 - min(limit, 20), 21))
        assert at_once(backend, start_ms=150) == list(range(15, 21))
        assert at_once(backend) == list(range(1, 21))
    finally:
        await backend.close()


async def test_a_page_that_has_the_newest_row_begins_a_series_and_any_other_none(
    tmp_path: Path,
) -> None:
    for number, is_indexed in enumerate((True, False)):
        backend = SqliteBackend(sqlite_options(tmp_path / f"{number}.db"))
        await backend.initialize()
        await store(backend, rows_of("a", 20))
        if is_indexed:
            await settle(backend)
        assert at_once(backend, limit_per_record=3, end_ms=100) == [8, 9, 10]
        assert backend.statistics()["recent_bytes"] == 0
        assert at_once(backend, limit_per_record=3) == [18, 19, 20]
        backend._reading_side.loop_reader.close()
        assert at_once(backend, limit_per_record=2) == [19, 20]
        assert at_once(backend, limit_per_record=4) is None
        await backend.close()


async def test_a_disk_that_makes_the_loop_wait_is_left_to_threads_for_a_while(
    backend: SqliteBackend,
) -> None:
    clock = Clock(step_s=0.002, waits=1)
    reader_of(backend, lambda db: LoopReader(db, clock.read, clock.count_waits))
    assert at_once(backend, limit_per_record=200) is None
    taken_s, clock.step_s, clock.waits_a_look = clock.now_s, 0.0, 0
    clock.now_s += 19 * taken_s / 2
    assert at_once(backend, limit_per_record=200) is None
    clock.now_s += 20 * taken_s
    assert len(at_once(backend, limit_per_record=200) or ()) == 200


async def test_a_wait_that_a_whole_read_had_counts_too(backend: SqliteBackend) -> None:
    await settle(backend)
    clock = Clock(step_s=0.002, waits=1)
    reader_of(backend, lambda db: LoopReader(db, clock.read, clock.count_waits))
    assert at_once(backend, limit_per_record=1) == [300]
    assert at_once(backend, limit_per_record=1) is None


async def test_a_machine_that_is_busy_says_nothing_of_the_disk(backend: SqliteBackend) -> None:
    clock = Clock(step_s=0.002, waits=0)
    reader_of(backend, lambda db: LoopReader(db, clock.read, clock.count_waits))
    for _ in range(8):
        assert len(at_once(backend, limit_per_record=200) or ()) == 200


async def test_waits_that_take_no_time_are_none(backend: SqliteBackend) -> None:
    clock = Clock(step_s=1e-6, waits=1)
    reader_of(backend, lambda db: LoopReader(db, clock.read, clock.count_waits))
    for _ in range(3):
        assert len(at_once(backend, limit_per_record=200) or ()) == 200


async def test_a_read_without_an_end_is_stopped_and_hinders_no_checkpoint(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loop_reader, "_MOST_LOOKS", 3)
    clock = Clock(step_s=0.002, waits=0)
    reader_of(backend, lambda db: LoopReader(db, clock.read, clock.count_waits))
    assert at_once(backend, limit_per_record=200) is None
    await store(backend, [row(301, "a")])
    with contextlib.closing(apsw.Connection(str(tmp_path / "a.db"), vfs="cksmvfs")) as other:
        assert other.execute("SELECT count(*) FROM log").get == 301
        assert other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE) == (0, 0)
    await settle(backend)
    assert at_once(backend, limit_per_record=1, moment=Moment(300, 0)) == [300]


async def test_a_key_without_a_row_is_left_to_who_knows_what_to_say(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = page_text._make_of_one(
        page_text._OF_RECORD.replace("ts, rev, record", "ts, rev + 1000 AS rev, record")
    )
    monkeypatch.setattr(page_text, "_ONE_ON_DISK", odd)
    await settle(backend)
    assert at_once(backend, start_ms=10, end_ms=20) is None


async def test_nothing_is_read_behind_the_end(tmp_path: Path) -> None:
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db", recent_bytes=0))
    await backend.initialize()
    await store(backend, rows_of("a", 3))
    assert at_once(backend, limit_per_record=2) == [2, 3]
    await backend.close()
    assert at_once(backend, limit_per_record=2) is None
