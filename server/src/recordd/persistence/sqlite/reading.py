"""The reading side of a file: what is asked, answered from memory, on the loop or on a thread.

A question takes a snapshot of what memory knows when its turn comes: the moment, the records and
the tail. Then it reads what the file held at that moment or later, leaving out what came later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import apsw
import msgspec
import trio

from recordd.extending.backend import QueryParams, ReplayParams
from recordd.extending.moments import Moment, Moments
from recordd.persistence.cursor import Cursor, LogCursor, decode_cursor, encode
from recordd.persistence.sqlite import reads
from recordd.persistence.sqlite.catalog import Catalog, key_of
from recordd.persistence.sqlite.loop_reader import LoopReader
from recordd.persistence.sqlite.plans import Found, FoundText, Place, QueryPlan
from recordd.persistence.sqlite.readers import Readers
from recordd.persistence.sqlite.recent_rows import RecentRows, cut_page, make_rows
from recordd.persistence.sqlite.tail import Tail
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER
from recordd_protocol.patterns import PatternSet, compile_patterns
from recordd_protocol.rows import Page, Row

__all__ = ["Known", "ReadingSide"]

T = TypeVar("T")

_EVERYTHING: Final = compile_patterns("#")


class Known(msgspec.Struct, frozen=True):
    """What memory knows of a file that is open; the backend keeps it up to date."""

    epoch: str
    catalog: Catalog
    recent_rows: RecentRows
    moments: Moments
    tail: Tail
    newest_rev: Callable[[], int]
    """Returns the newest row that was noted."""


class ReadingSide:
    """Answers questions about a file."""

    def __init__(
        self, known: Known, readers: Readers, loop_reader: LoopReader, query_timeout_s: float
    ) -> None:
        self.loop_reader = loop_reader
        self._epoch: Final = known.epoch
        self._catalog: Final = known.catalog
        self._recent_rows: Final = known.recent_rows
        self._moments: Final = known.moments
        self._tail: Final = known.tail
        self._newest_rev: Final = known.newest_rev
        self._readers: Final = readers
        self._query_timeout_s: Final = query_timeout_s

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        """Return rows by (`ts`, `rev`); see `PersistenceBackend.query`."""
        as_of, behind = self._find_place(patterns, params)
        plan = self._make_plan(patterns, params, as_of, behind)
        return self._query(patterns, plan, params.moment)

    def query_at_once(self, patterns: PatternSet, params: QueryParams) -> Steps[Page | None]:
        """Return rows that are in memory, or soon read; see `AnswersAtOnce`."""
        moment, (as_of, behind) = params.moment, self._find_place(patterns, params)
        rows = yield from self._recent_rows.find(patterns, params, as_of, behind)
        if rows is None:
            yield from self._tail.sort_in_steps()
            return self._read_here(patterns, params, as_of, behind)
        if self._moments.tick != moment.tick:
            return None
        page, text = cut_page(rows, params.page)
        following = None
        if len(page.orders) < len(rows.orders):
            following = self._make_cursor(key_of(page.orders[-1]), as_of, moment)
        if params.as_text and text:
            return Page([], rev=as_of, epoch=self._epoch, next=following, text=text)
        made = yield from make_rows(page)
        return Page(made, rev=as_of, epoch=self._epoch, next=following)

    def _read_here(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> Page | None:
        """Return rows that the file gives soon, read on the loop."""
        moment = params.moment
        if not params.as_text or moment.tick != self._moments.tick:
            return None
        place = self._find_indexed(patterns, params, as_of, behind)
        if place is not None:
            found = self.loop_reader.read_indexed(place, moment.tick)
        else:
            plan = self._make_plan(patterns, params, as_of, behind)
            found = self.loop_reader.read(plan, moment.tick)
        if found is None:
            return None
        if place is None or self._recent_rows.has_newest(place.record, place.end_ms):
            plan = self._make_plan(patterns, params, as_of, behind)
            warming = self._recent_rows.begin(patterns, plan, self._newest_rev())
            warming.take(found)
            warming.end()
        return self._make_page(found, as_of, moment)

    def _find_indexed(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> Place | None:
        """Return where the rows of one record are, if all are indexed on disk; else None."""
        name = patterns.only_name
        record = None if name is None else self._catalog.find(name)
        if name is None or record is None or self._tail.has(record):
            return None
        start = params.start_ms or 0, -1
        return Place(
            record,
            name,
            start if behind is None or behind < start else behind,
            MAX_INTEGER if params.end_ms is None else params.end_ms,
            min(self._tail.merged_rev, as_of),
            params.limit_per_record,
            params.page,
        )

    def _make_plan(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> QueryPlan:
        merged_rev, tails = self._tail.snapshot()
        return QueryPlan(
            records=self._catalog.select(patterns, params.moment),
            tails=tails,
            merged_rev=merged_rev,
            as_of=as_of,
            limit_per_record=params.limit_per_record,
            start_ms=0 if params.start_ms is None else params.start_ms,
            end_ms=MAX_INTEGER if params.end_ms is None else params.end_ms,
            behind=behind,
            page=params.page,
            fewest_as_text=0 if params.as_text else None,
        )

    def _find_place(
        self, patterns: PatternSet, params: QueryParams
    ) -> tuple[int, tuple[int, int] | None]:
        """Return the newest commit that a page shows, and the last key of the page before."""
        moment = params.moment
        if params.page_cursor is None:
            return moment.as_of, None
        cursor = decode_cursor(
            params.page_cursor, epoch=self._epoch, newest_rev=moment.as_of, tick=moment.tick
        )
        as_of, behind = cursor.as_of, (cursor.ts, cursor.rev)
        self._moments.check_page(
            patterns, since=cursor.tick, until=moment.tick, behind=behind,
            end_ms=params.end_ms, as_of=as_of,
        )  # fmt: skip
        return as_of, behind

    async def _query(self, patterns: PatternSet, plan: QueryPlan, moment: Moment) -> Page:
        """Read the page; `moment` is held until then, or until this is given up."""
        warming = self._recent_rows.begin(patterns, plan, self._newest_rev())
        if plan.fewest_as_text is not None:
            plan = msgspec.structs.replace(plan, fewest_as_text=warming.fewest_as_text)
        try:
            found, tick = await self._read(
                lambda db: reads.read_page(db, plan, self._query_timeout_s)
            )
            if tick > moment.tick:
                self._moments.check_read(
                    patterns, moment, behind=plan.start, end_ms=plan.end_ms, as_of=plan.as_of
                )
            warming.take(found)
        finally:
            warming.end()
        return self._make_page(found, plan.as_of, moment)

    def _make_page(self, found: Found | FoundText, as_of: int, moment: Moment) -> Page:
        """Return a page, and where there are more rows, what the next one is asked for by."""
        if isinstance(found, FoundText):
            rows, text, last = [], found.text, found.last
        else:
            rows, text, last = found.rows, None, None
            if found.more and rows[-1].rev is not None:
                last = rows[-1].ts, rows[-1].rev
        following = None if last is None else self._make_cursor(last, as_of, moment)
        return Page(rows, rev=as_of, epoch=self._epoch, next=following, text=text)

    def _make_cursor(self, last: tuple[int, int], as_of: int, moment: Moment) -> str:
        return encode(Cursor(*last, as_of, moment.tick), self._epoch)

    async def replay(self, patterns: PatternSet, params: ReplayParams) -> Page:
        """Return rows by `rev`; see `PersistenceBackend.replay`."""
        moment, page = params.moment, params.page
        plan = reads.ReplayPlan(
            names=self._catalog.select(patterns, moment),
            after_rev=params.after_rev,
            as_of=moment.as_of,
            page=page.at_most(params.limit),
            max_scanned=page.rows * 10,
        )
        (rows, last), tick = await self._read(
            lambda db: reads.read_replay(db, plan, self._query_timeout_s)
        )
        if tick > moment.tick:
            self._moments.check_log(
                patterns,
                moment,
                after_rev=params.after_rev,
                up_to=moment.as_of if last is None else last,
            )
        following = None if last is None else encode(LogCursor(last), self._epoch)
        return Page(rows, rev=moment.as_of, epoch=self._epoch, next=following)

    async def at(self, rev: int, moment: Moment) -> Row | None:
        """Return the row of one commit number; see `PersistenceBackend.at`."""
        found, tick = await self._read(
            lambda db: reads.read_with_tick(db, lambda db: reads.read_row(db, rev))
        )
        if found is None:
            if tick > moment.tick:
                self._moments.check_log(_EVERYTHING, moment, after_rev=rev - 1, up_to=rev)
            return None
        record, ts, value = found
        name = self._catalog.names_at(moment).get(record)
        return None if name is None else Row(name, value, ts, rev)

    async def _read(self, function: Callable[[apsw.Connection], tuple[T, int]]) -> tuple[T, int]:
        """Read; return what was found and the tick of it, whose losses are known by then."""
        with trio.move_on_after(self._query_timeout_s):
            async with self._readers.borrow() as reader:
                with contextlib.suppress(trio.TooSlowError):
                    found = await reader.run(function)
                    await self._moments.wait_noted(found[1])
                    return found
        refusal = f"the query took longer than {self._query_timeout_s:g} s; ask for less"
        raise RequestError(Reason.TIMEOUT, refusal)
