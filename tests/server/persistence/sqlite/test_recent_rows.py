"""Pages from memory and pages as text: they show what rows read one by one show, and another
backend."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest
import trio

from recordd.conformance.support import clean_up, delete, row, settle, store
from recordd.extending.backend import CleanupTarget, PageLimits, PersistenceBackend, QueryParams
from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRows
from recordd.extending.moments import Moment
from recordd.persistence.memory import MemoryBackend
from recordd.persistence.sqlite import newest, page_text
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.catalog import Catalog
from recordd.persistence.sqlite.plans import Found, FoundText, QueryPlan
from recordd.persistence.sqlite.recent_rows import RecentRows, Warming
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import ROW_SEPARATOR, Page
from tests.schedules import run_with_seed
from tests.server.backends import sqlite_options

PLAYS: Final = 6
NAMES: Final = ("a.1", "a.2", "b.1", "b.2")
PATTERNS: Final = ("#", "#", "#", "a.*", "b.#", "a.1", "b.2", "*.2", "c")
LARGE: Final = PageLimits(rows=1000, bytes=1 << 20)


class Play:
    """Two backends that are told the same and asked the same."""

    def __init__(self, seed: int, sqlite: SqliteBackend) -> None:
        self.chance: Final = random.Random(seed)
        self.sqlite: Final = sqlite
        self.memory: Final = MemoryBackend()
        self.rev = 0
        self.rows: dict[str, int] = {}
        self.at_once = 0
        self.texts = 0

    @property
    def both(self) -> list[SqliteBackend | MemoryBackend]:
        return [self.sqlite, self.memory]

    async def write(self, count: int) -> None:
        rows = []
        for _ in range(count):
            self.rev += 1
            name = self.chance.choice(NAMES)
            ts = self.rev if self.chance.random() < 0.7 else self.chance.randrange(self.rev + 3)
            value = b'"%b"' % (b"x" * self.chance.choice([1, 3, 40]))
            rows.append(row(self.rev, name, ts // 2, value))
            self.rows[name] = self.rows.get(name, 0) + 1
        for backend in self.both:
            await store(backend, rows)

    async def end_one(self) -> None:
        if self.rows:
            name = self.chance.choice(sorted(self.rows))
            self.rev += 1
            del self.rows[name]
            for backend in self.both:
                await delete(backend, name, self.rev)

    async def retire(self) -> None:
        if not self.rows:
            return
        name = self.chance.choice(sorted(self.rows))
        keep = self.chance.randrange(1, 12)
        target = CleanupTarget(name, None, keep, self.chance.random() < 0.5)
        await settle(self.sqlite)
        (first, _), (second, _) = [await clean_up(b, target, limit=3) for b in self.both]
        assert first == second
        self.rows[name] -= first.get(name, (0, 0))[0]

    async def ask(self, as_of: int | None = None) -> None:
        """Ask both a question, on all its pages; the file at times while it is written."""
        limit = self.chance.choice([None, None, None, None, 1, 2, 3, 8, 50])
        start = self.chance.choice([None, None, None, self.rev // 4, self.rev // 2])
        end = self.chance.choice([None, None, None, self.rev // 3, self.rev // 2, self.rev])
        page = self.chance.choice([LARGE, LARGE, PageLimits(4, 1 << 20), PageLimits(99, 150)])
        pattern = self.chance.choice(PATTERNS)
        as_of = self.rev if as_of is None else as_of
        as_text = self.chance.random() < 0.6
        cursors: list[str | None] = [None, None]
        for _ in range(1000):
            params = [
                QueryParams(
                    moment=backend.take_moment(as_of),
                    limit_per_record=limit,
                    start_ms=start,
                    end_ms=end,
                    page_cursor=cursor,
                    page=page,
                    as_text=as_text,
                )
                for backend, cursor in zip(self.both, cursors, strict=True)
            ]
            pages = [await query(b, pattern, p) for b, p in zip(self.both, params, strict=True)]
            self.texts += pages[0].text is not None
            sure = at_once(self.sqlite, pattern, params[0])
            if sure is not None:
                self.at_once += 1
                pages.append(sure)
            shown = [shape(page) for page in pages]
            assert shown == shown[:1] * len(shown), (pattern, params)
            cursors = [found.next for found in pages[:2]]
            if None in cursors:
                return
            if self.chance.random() < 0.3:
                await self.write(2)
                as_of = self.rev
        raise AssertionError("pages without an end")

    async def ask_while_writing(self) -> None:
        """What is committed while a page is read is missing in no later answer."""
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(self._warm, self.rev)
            nursery.start_soon(self.write, 3)

    async def _warm(self, as_of: int) -> None:
        params = QueryParams(
            moment=self.sqlite.take_moment(as_of),
            limit_per_record=self.chance.choice([None, 4, 8]),
            page=LARGE,
        )
        await self.sqlite.query(compile_patterns(self.chance.choice(PATTERNS)), params)


async def query(backend: PersistenceBackend, pattern: str, params: QueryParams) -> Page:
    return await backend.query(compile_patterns(pattern), params)


def at_once(backend: SqliteBackend, pattern: str, params: QueryParams) -> Page | None:
    steps = backend.query_at_once(compile_patterns(pattern), params)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found: Page | None = stop.value
            return found


def shape(page: Page) -> tuple[bytes, int, bool]:
    text = ROW_SEPARATOR.join([found.body for found in page.rows])
    return text if page.text is None else page.text, page.rev, page.next is None


@pytest.mark.parametrize("seed", range(PLAYS))
def test_memory_answers_what_the_file_answers(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_text, "_CHUNK", (512, 3)[seed % 2])
    monkeypatch.setattr(newest, "_WORTH", (2, 0)[seed % 2])

    async def play() -> tuple[int, int]:
        recent_bytes = (1 << 20, 8000, 0)[seed % 3]
        options = sqlite_options(
            tmp_path / "a.db", tail_rows=8, recent_bytes=recent_bytes, synchronous="normal"
        )
        game = Play(seed, SqliteBackend(options))
        for backend in game.both:
            await backend.initialize()
        for _ in range(50):
            match game.chance.randrange(12):
                case 0 | 1 | 2:
                    await game.write(game.chance.choice([1, 1, 4, 30]))
                case 3 | 4:
                    await game.ask_while_writing()
                case 5:
                    await game.retire()
                case 6 if game.chance.random() < 0.3:
                    await game.end_one()
                case 7:
                    await game.sqlite.maintain(0)
                case _:
                    for _ in range(4):
                        await game.ask()
            assert game.sqlite.statistics()["recent_bytes"] <= recent_bytes  # type: ignore[operator]
        await game.sqlite.close()
        return game.at_once, game.texts

    answered, texts = run_with_seed(seed, play)
    assert answered > 5
    assert texts > 2


def test_a_page_that_lacks_rows_begins_no_series() -> None:
    whole, lossy, cut = [
        _is_known_after(Found([row(1)], more=more, is_whole=is_whole))
        for more, is_whole in ((False, True), (False, False), (True, True))
    ]
    assert (whole, lossy, cut) == (True, False, False)


def _is_known_after(found: Found) -> bool:
    kept, warming = _begin("a")
    warming.take(found)
    warming.end()
    return kept.recent.size_bytes > 0


def _begin(pattern: str, end_ms: int = 99) -> tuple[RecentRows, Warming]:
    """Begin the series of records `a`, whose newest row is at 10 ms, and `b`, at 20 ms."""
    catalog, moment = Catalog(), Moment(2, 0)
    catalog.add([(1, "a"), (2, "b")])
    catalog.note_rows([1, 2], [10, 20], [1, 2])
    kept, patterns = RecentRows(catalog, 1 << 20), compile_patterns(pattern)
    plan = QueryPlan(
        records=catalog.select(patterns, moment), tails=(), merged_rev=2, as_of=2,
        limit_per_record=None, start_ms=0, end_ms=end_ms, behind=None, page=LARGE,
    )  # fmt: skip
    return kept, kept.begin(patterns, plan, 2)


def test_only_a_page_of_one_record_fills_a_series_with_text() -> None:
    text = FoundText(row(1, "a").body, 1, None, behind=(0, -1))
    for pattern, end_ms, is_of_one in (("a", 99, True), ("#", 99, False), ("#", 15, False)):
        kept, warming = _begin(pattern, end_ms)
        assert (warming.fewest_as_text == 0) == is_of_one
        warming.take(text)
        warming.end()
        assert (kept.recent.size_bytes > 0) == is_of_one


@pytest.mark.parametrize("rows", [1, 3])
def test_a_commit_is_noted_of_what_is_followed_and_stored(rows: int) -> None:
    """Whether most of its rows are, which become objects all together, or one."""
    kept = RecentRows(Catalog(), 1 << 20)
    series = kept.recent.begin(1)
    assert series is not None
    names, ids = ["a"] * rows + ["b", "a"], [0] * rows + [5, 0]
    revs = [*range(1, rows + 2), None]
    columns = RowColumns(names, [b"1"] * len(ids), [7] * len(ids), revs)
    kept.note_commit(NewRows(columns, ids))
    assert [known.rev for known in series._came] == list(range(1, rows + 1))
    assert (columns.made is None) == (rows == 1)
