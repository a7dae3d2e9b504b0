"""Wide queries: many records at once, read by time. They show what reading one by one does."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from recordd.conformance.support import AS_OF, ask, row, settle
from recordd.extending.backend import PageLimits
from recordd.persistence.sqlite import plans, reads, timeline
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.catalog import Selection
from recordd_protocol.errors import RequestError
from recordd_protocol.patterns import PatternSet, compile_patterns
from recordd_protocol.rows import Row
from tests.server.backends import sqlite_options
from tests.server.commits import delete, store

RECORDS = 600
Question = tuple[str, int | None, int | None, int | None, int]
"""Pattern, limit of each record, start, end, and the newest commit."""


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[tuple[SqliteBackend, list[Row]]]:
    """Rows of many records, with late ones and ties; some of them not merged, some deleted."""
    chance = random.Random(3)
    backend = SqliteBackend(sqlite_options(tmp_path / "a.db"))
    await backend.initialize()
    rows = [
        row(rev, f"r.{chance.randrange(RECORDS)}", chance.choice([rev, rev, rev // 2]) // 3)
        for rev in range(1, 6001)
    ]
    await store(backend, rows[:4500])
    await settle(backend)
    await delete(backend, rows[7].name, 6001)
    await store(backend, rows[4500:])
    yield backend, [one for one in rows[:4500] if one.name != rows[7].name] + rows[4500:]
    await backend.close()


def expected(rows: list[Row], question: Question) -> list[int | None]:
    pattern, limit, start, end, as_of = question
    matches = compile_patterns(pattern).matches
    by_name: dict[str, list[tuple[int, int]]] = {}
    for one in rows:
        is_shown = (one.rev or 0) <= as_of and matches(one.name)
        if is_shown and (start or 0) <= one.ts <= (AS_OF if end is None else end):
            by_name.setdefault(one.name, []).append((one.ts, one.rev or 0))
    newest = [sorted(found)[0 if limit is None else -limit :] for found in by_name.values()]
    return [rev for _, rev in sorted(itertools.chain(*newest))]


async def all_pages(
    backend: SqliteBackend, question: Question, page_rows: int = 700, *, as_text: bool = False
) -> tuple[list[int | None], int]:
    """Return the revs of all pages, and how many pages there were."""
    pattern, limit, start, end, as_of = question
    patterns: PatternSet = compile_patterns(pattern)
    limits = PageLimits(page_rows, 1 << 20)
    params = ask(backend, limit, start, end, as_of=as_of, page=limits)
    params = msgspec.structs.replace(params, as_text=as_text)
    revs: list[int | None] = []
    pages = 0
    while True:
        page = await backend.query(patterns, params)
        revs += [one.rev for one in page.rows]
        revs += [int(rev) for rev in re.findall(rb'"rev":([0-9]+)', page.text or b"")]
        pages += 1
        if page.next is None:
            return revs, pages
        params = msgspec.structs.replace(
            params, moment=backend.take_moment(AS_OF), page_cursor=page.next
        )


QUESTIONS: list[Question] = [
    ("#", None, None, None, AS_OF),
    ("r.*", None, None, None, AS_OF),
    ("r.*", None, 1000, 1600, AS_OF),
    ("#", None, 1700, None, AS_OF),
    ("#", None, None, 20, AS_OF),
    ("#", None, 1, None, 5000),
    ("#", None, None, None, 3000),
    ("*.*0", None, None, None, AS_OF),
    ("r.1*", None, 900, None, 5500),
    ("nobody.*", None, None, None, AS_OF),
    ("#", 2, None, None, AS_OF),
    ("#", 3, 1, 1700, 5500),
    ("#", 1, 5, 1500, 4000),
    ("*.*0", 2, None, None, AS_OF),
    ("r.*", 2, None, None, 3000),
    ("r.1*", 5, 900, None, AS_OF),
    ("r.17", 1, None, None, AS_OF),
    ("r.17", 4, None, 1500, AS_OF),
    ("r.*", 1000, None, None, AS_OF),
]


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_query_shows_the_rows_that_match_in_order(
    stored: tuple[SqliteBackend, list[Row]], question: Question
) -> None:
    backend, rows = stored
    assert (await all_pages(backend, question))[0] == expected(rows, question)
    assert (await all_pages(backend, question, as_text=True))[0] == expected(rows, question)


@pytest.mark.parametrize("question", [one for one in QUESTIONS if one[1] in (1, 2, 3)])
async def test_the_newest_of_many_more_records_than_a_page_has_rows_come_in_order(
    stored: tuple[SqliteBackend, list[Row]], question: Question
) -> None:
    backend, rows = stored
    assert (await all_pages(backend, question, page_rows=60))[0] == expected(rows, question)
    await settle(backend)
    assert (await all_pages(backend, question, page_rows=60))[0] == expected(rows, question)


async def test_a_page_ends_when_its_time_is_over_and_the_next_goes_on(
    stored: tuple[SqliteBackend, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, rows = stored
    monkeypatch.setattr(plans, "_PAGE_S", 0.0)
    monkeypatch.setattr(timeline, "_STRETCH", 100)
    found, pages = await all_pages(backend, ("r.*", None, None, 60, AS_OF), page_rows=10_000)
    assert found == expected(rows, ("r.*", None, None, 60, AS_OF))
    assert pages > 10


async def test_a_record_deleted_after_the_turn_is_shown_before_it_is_not(
    stored: tuple[SqliteBackend, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, rows = stored
    monkeypatch.setattr(plans, "_PAGE_S", 60.0)  # one page, however slow the machine
    name = rows[3].name
    before = ask(backend)
    await delete(backend, name, 6002)
    await settle(backend)
    found = (await backend.query(compile_patterns("#"), before)).rows
    assert [one.rev for one in found] == expected(rows, ("#", None, None, None, AS_OF))
    left = [one for one in rows if one.name != name]
    assert (await all_pages(backend, QUESTIONS[0]))[0] == expected(left, QUESTIONS[0])


async def test_a_page_takes_no_more_statements_the_more_records_there_are(
    stored: tuple[SqliteBackend, list[Row]],
) -> None:
    """One for a stretch of the index, one for 32 values: nothing for each record."""
    backend, _ = stored
    statements = await count_statements(backend, "#")
    assert statements < 20
    assert statements < RECORDS / 10


async def test_the_newest_of_many_records_are_read_by_a_few_statements(
    stored: tuple[SqliteBackend, list[Row]],
) -> None:
    """Those on disk alone by one, those with rows in the tail by one for a thousand."""
    backend, _ = stored
    assert await count_statements(backend, "#", limit=2) < 20
    await settle(backend)
    assert await count_statements(backend, "#", limit=2) < 20


async def count_statements(backend: SqliteBackend, pattern: str, limit: int | None = None) -> int:
    count = 0

    def note(*_: object) -> bool:
        nonlocal count
        count += 1
        return True

    for reader in backend._readers:
        await reader.run(_trace, note)
    page = PageLimits(100, 1 << 20)
    await backend.query(compile_patterns(pattern), ask(backend, limit, page=page))
    for reader in backend._readers:
        await reader.run(_trace, None)
    return count


def _trace(db: object, tracer: Callable[..., bool] | None) -> None:
    db.exec_trace = tracer  # type: ignore[attr-defined]


async def test_few_records_are_read_one_by_one(
    stored: tuple[SqliteBackend, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, rows = stored

    def refuse(*_: object) -> None:
        raise AssertionError("by time")

    monkeypatch.setattr(reads, "read_by_time", refuse)
    for pattern in ("r.17", "r.17*", rows[-1].name):
        question: Question = (pattern, None, None, None, AS_OF)
        assert (await all_pages(backend, question))[0] == expected(rows, question)


@pytest.mark.parametrize("broken", ["tail", "tail of few", "as_of", "names"])
async def test_the_questions_find_a_broken_reader(
    stored: tuple[SqliteBackend, list[Row]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The negative controls."""
    backend, rows = stored
    if broken == "tail":
        monkeypatch.setattr(timeline, "tail_keys", lambda *_: iter(()))
    elif broken == "tail of few":
        monkeypatch.setattr(plans.QueryPlan, "tail_keys", lambda *_: [])
    elif broken == "as_of":
        monkeypatch.setattr(plans.QueryPlan, "last_rev_on_disk", 1 << 60)
    else:
        monkeypatch.setattr(Selection, "get", lambda self, record: f"r.{record}")
    assert not all([await is_answered(backend, rows, one) for one in QUESTIONS])


async def is_answered(backend: SqliteBackend, rows: list[Row], question: Question) -> bool:
    try:
        return (await all_pages(backend, question))[0] == expected(rows, question)
    except RequestError:  # a cursor behind the moment
        return False


async def test_first_rows_are_looked_for_alone_only_where_one_number_has_room_for_their_places(
    tmp_path: Path,
) -> None:
    """Times far apart, and times that have room: the pages are the same."""
    cases = [
        (1 << 30, 0),
        ((1 << 53) - 1, 0),
        ((1 << 53) - 1, (1 << 9) - 11),
        ((1 << 53) - 1, 1 << 10),
    ]
    for number, (most_ms, before) in enumerate(cases):
        backend = SqliteBackend(sqlite_options(tmp_path / f"{number}.db"))
        await backend.initialize()
        times = [most_ms, 0, 5, most_ms // 2, 7, 6, 1, 2, 3, most_ms - 1]
        rows = [row(before + n, f"r.{n % 5}", ts) for n, ts in enumerate(times, start=1)]
        await store(backend, rows)
        await settle(backend)
        for limit in (1, 2, 3):
            question = ("r.*", limit, None, (1 << 53) - 1, AS_OF)
            found, _ = await all_pages(backend, question, page_rows=1)
            assert found == expected(rows, question)
        await backend.close()
