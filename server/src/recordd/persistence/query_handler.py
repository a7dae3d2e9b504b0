"""`record.query`, `record.replay` and `record.at` over stored rows: the backend's answers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

import msgspec

from recordd.extending.backend import (
    AnswersAtOnce,
    PersistenceBackend,
    QueryParams,
    ReplayParams,
    find_capability,
)
from recordd.extending.moments import Moment
from recordd.extending.paging import PageLimits, keep_newest
from recordd.extending.points import HistoryQuery, QueryHandler
from recordd.hub.hub import Hub
from recordd.persistence.cursor import LogCursor, decode_log_cursor, encode
from recordd.persistence.whole_query import read_whole
from recordd.system.turns import Steps
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import check_integer
from recordd_protocol.methods import Replay
from recordd_protocol.patterns import Pattern, PatternSet, compile_pattern
from recordd_protocol.rows import Page, Row

__all__ = ["StoredQueryHandler"]

_RECORDS_A_STEP: Final = 1024
_ENDLESS: Final = PageLimits(rows=1 << 62, bytes=1 << 62)


class StoredQueryHandler(QueryHandler):
    """Asks the backend, for what there was at the moment of the call."""

    def __init__(
        self, hub: Hub, backend: PersistenceBackend, page: PageLimits, *, timeout_s: float
    ) -> None:
        self._hub: Final = hub
        self._backend: Final = backend
        self._at_once: Final = find_capability(backend, AnswersAtOnce)
        self._page: Final = page
        self._timeout_s: Final = timeout_s

    def query(self, query: HistoryQuery) -> Page | Awaitable[Page] | Steps[Page | Awaitable[Page]]:
        """Ask storage for a page, or for the newest rows of all pages; memory before it."""
        if not query.paged:
            return self._begin_whole(query)
        wanted = self._wanted(query)  # and so the moment, before others run
        if self._at_once is None:
            return self._backend.query(query.patterns, wanted)
        steps = self._at_once.query_at_once(query.patterns, wanted)
        try:
            next(steps)
        except StopIteration as end:  # mostly: no steps around the steps, 5 µs of 60
            page: Page | None = end.value
            return self._backend.query(query.patterns, wanted) if page is None else page
        return self._go_on(query.patterns, wanted, steps)

    def _go_on(
        self, patterns: PatternSet, wanted: QueryParams, steps: Steps[Page | None]
    ) -> Steps[Page | Awaitable[Page]]:
        yield
        page = yield from steps
        return self._backend.query(patterns, wanted) if page is None else page

    def _wanted(self, query: HistoryQuery) -> QueryParams:
        return QueryParams(
            moment=self._backend.take_moment(self._hub.rev),
            limit_per_record=query.limit_per_record,
            start_ms=query.start_ms,
            end_ms=query.end_ms,
            page_cursor=query.page_cursor,
            page=self._page,
            as_text=query.paged,
        )

    def _begin_whole(self, query: HistoryQuery) -> Steps[Page | Awaitable[Page]]:
        wanted = self._wanted(query)  # and so the moment, before others run
        if self._at_once is not None:
            all_rows = msgspec.structs.replace(wanted, page=_ENDLESS)
            page = yield from self._at_once.query_at_once(query.patterns, all_rows)
            if page is not None:
                newest = keep_newest(page.rows, query.max_bytes)
                return Page(newest, rev=page.rev, epoch=page.epoch, total=len(page.rows))
        limit = query.limit_per_record
        if limit is not None:
            most_rows = yield from self._count_most_rows(query.patterns)
            if limit >= most_rows:  # to count back that far would be in vain
                wanted = msgspec.structs.replace(wanted, limit_per_record=None)
        return read_whole(
            self._backend,
            query.patterns,
            wanted,
            max_bytes=query.max_bytes,
            timeout_s=self._timeout_s,
        )

    def _count_most_rows(self, patterns: PatternSet) -> Steps[int]:
        """Return how many rows the record has that has most; of what came since, too."""
        yield from self._hub.catalogue.prepare_match(patterns)
        states = tuple(self._hub.catalogue.match(patterns))
        most = self._hub.archive.most_rows
        for start in range(0, len(states), _RECORDS_A_STEP):
            chunk = states[start : start + _RECORDS_A_STEP]
            most = max(most, *[state.rows for state in chunk])
            yield
        return most

    def replay(self, params: Replay) -> Awaitable[Page]:
        """Ask storage for a stretch of the log."""
        after = params.after
        if isinstance(after, str):
            after = decode_log_cursor(after, epoch=self._hub.epoch).rev
        check_integer("after", after)
        check_integer("limit", params.limit)
        if params.epoch is not None and params.epoch != self._hub.epoch:
            refusal = (
                f"epoch is {self._hub.epoch!r} now: revs of {params.epoch!r} mean nothing here"
            )
            raise RequestError(Reason.CONFLICT, refusal)
        pattern = compile_pattern(params.name)
        if params.limit == 0:
            following = encode(LogCursor(after), self._hub.epoch)
            return _done(Page([], rev=self._hub.rev, epoch=self._hub.epoch, next=following))
        moment = self._backend.take_moment(self._hub.rev)
        wanted = ReplayParams(moment=moment, after_rev=after, limit=params.limit, page=self._page)
        return self._replay(pattern, wanted)

    async def _replay(self, pattern: Pattern, wanted: ReplayParams) -> Page:
        """Read a page, and say what is no longer there as a subscription would."""
        page = await self._backend.replay(PatternSet([pattern]), wanted)
        # A row may have gone while the page was read: the hub knows of it then.
        await self._hub.gaps.wait_purged()
        gap = self._hub.gaps.newest_gap(pattern, wanted.after_rev)
        if not gap:
            return page
        return Page(page.rows, rev=page.rev, epoch=page.epoch, next=page.next, oldest_rev=gap + 1)

    def at(self, rev: int) -> Awaitable[Row]:
        """Return the row of one commit number; `not_found` where there is none."""
        if not 0 < rev <= self._hub.rev:
            raise _no_such_rev(rev)
        moment = self._backend.take_moment(self._hub.rev)
        return self._at(rev, moment)

    async def _at(self, rev: int, moment: Moment) -> Row:
        row = await self._backend.at(rev, moment)
        if row is None:
            raise _no_such_rev(rev)
        return row


def _no_such_rev(rev: int) -> RequestError:
    return RequestError(Reason.NOT_FOUND, f"rev {rev} does not exist, or no longer")


async def _done(page: Page) -> Page:
    return page
