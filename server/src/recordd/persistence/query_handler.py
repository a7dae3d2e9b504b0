"""`record.query` over stored rows: latest values from memory, history from the backend."""

from __future__ import annotations

import bisect
from collections.abc import Awaitable
from typing import Final

import msgspec
from msgspec import UNSET

from recordd.backend import PageLimits, PersistenceBackend, QueryParams
from recordd.extension_points import QueryHandler
from recordd.hub import Hub
from recordd.pages import keep_newest
from recordd.persistence.cursor import decode_cursor, encode_cursor
from recordd.persistence.whole_query import WholeQuery
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Query, Replay
from recordd_protocol.patterns import PatternSet, compile_patterns
from recordd_protocol.rows import Page, Row, order_of

__all__ = ["StoredQueryHandler"]

_MAX_NAMES: Final = 1000
"""Exact names in one query: a dashboard may name its records one by one."""

_MAX_WILDCARDS: Final = 8
"""Patterns in one query that have to be matched against every name there is."""


class StoredQueryHandler(QueryHandler):
    """Latest-per-record is what the hub holds, so it costs no look at the history."""

    def __init__(
        self, hub: Hub, backend: PersistenceBackend, page: PageLimits, *, timeout_s: float
    ) -> None:
        self._hub: Final = hub
        self._backend: Final = backend
        self._page: Final = page
        self._timeout_s: Final = timeout_s

    def query(self, params: Query) -> Page | Awaitable[Page]:
        """Answer from memory where one latest row per record is asked for; else ask storage."""
        patterns = _compile_all(params.name)
        ranged = params.start is not None or params.end is not None
        if ranged and params.limit is UNSET:
            raise _invalid("limit: must be stated with start or end (null for all)")
        limit = 1 if params.limit is UNSET else params.limit
        _check_not_negative(limit=limit, start=params.start, end=params.end)
        if limit == 0:
            return Page([], rev=self._hub.rev, epoch=self._hub.epoch)
        if not params.paged and params.after is not None:
            raise _invalid("after: there is no page to go on behind where paged is false")
        if limit == 1 and not ranged:
            if not params.paged:
                return self._newest_of_latest(patterns)
            return self._latest(patterns, params.after)
        wanted = QueryParams(
            as_of=self._hub.rev,
            limit_per_record=limit,
            start_ms=params.start,
            end_ms=params.end,
            after=params.after,
            page=self._page,
        )
        if params.paged:
            return self._backend.query(patterns, wanted)
        most_rows = max((state.rows for state in self._hub.match(patterns)), default=0)
        if limit is not None and limit >= most_rows:  # to count back that far would be in vain
            wanted = msgspec.structs.replace(wanted, limit_per_record=None)
        return WholeQuery(self._backend, patterns, wanted, timeout_s=self._timeout_s)

    def replay(self, params: Replay) -> Awaitable[Page]:
        """Ask storage for a stretch of the log."""
        after = params.after
        if isinstance(after, str):
            if not (after.isascii() and after.isdecimal() and len(after) < 20):
                raise _invalid("after: must be a rev or the 'next' of an earlier answer")
            after = int(after)
        _check_not_negative(after=after, limit=params.limit)
        if params.epoch is not None and params.epoch != self._hub.epoch:
            refusal = (
                f"epoch is {self._hub.epoch!r} now: revs of {params.epoch!r} mean nothing here"
            )
            raise RequestError(Reason.CONFLICT, refusal)
        patterns = compile_patterns(params.name)
        if params.limit == 0:
            return _done(Page([], rev=self._hub.rev, epoch=self._hub.epoch, next=str(after)))
        return self._backend.replay(
            patterns, after=after, as_of=self._hub.rev, limit=params.limit, page=self._page
        )

    async def at(self, rev: int) -> Row:
        """Return the row of one commit number; `not_found` where there is none."""
        row = await self._backend.at(rev) if 0 < rev <= self._hub.rev else None
        if row is None:
            raise RequestError(Reason.NOT_FOUND, f"rev {rev} does not exist, or no longer")
        return row

    def _latest(self, patterns: PatternSet, after: str | None) -> Page:
        """Cut a page out of the latest rows.

        A record written between two pages moves to a later place, never to an earlier
        one: it may come twice, but no record is left out.
        """
        rows = self._hub.latest(patterns)
        start = 0
        if after is not None:
            ts, rev, _ = decode_cursor(after, self._hub.rev)
            start = bisect.bisect_right(rows, order_of(ts, rev), key=lambda row: row.order)
        end = self._end_of_page(rows, start)
        following = None
        if end < len(rows):
            last = rows[end - 1]
            following = encode_cursor(last.ts, last.rev or 0, self._hub.rev)
        page = rows if end - start == len(rows) else rows[start:end]
        return Page(page, rev=self._hub.rev, epoch=self._hub.epoch, next=following)

    def _newest_of_latest(self, patterns: PatternSet) -> Page:
        rows = self._hub.latest(patterns)
        newest = keep_newest(rows, self._page.bytes)
        return Page(newest, rev=self._hub.rev, epoch=self._hub.epoch, total=len(rows))

    def _end_of_page(self, rows: list[Row], start: int) -> int:
        limits = self._page
        end = min(len(rows), start + limits.rows)
        size = sum([len(row.body) + 3 for row in rows[start:end]])
        while size > limits.bytes and end > start + 1:
            end -= 1
            size -= len(rows[end].body) + 3
        return end


def _compile_all(names: str | list[str]) -> PatternSet:
    if not isinstance(names, str) and not 0 < len(names) <= _MAX_NAMES:
        raise _invalid(f"name: between 1 and {_MAX_NAMES} names or patterns")
    if not isinstance(names, str) and sum("*" in n or "#" in n for n in names) > _MAX_WILDCARDS:
        raise _invalid(f"name: more than {_MAX_WILDCARDS} patterns with wildcards")
    return compile_patterns(names)


async def _done(page: Page) -> Page:
    return page


def _check_not_negative(**params: int | None) -> None:
    for name, value in params.items():
        if value is not None and not 0 <= value < 2**63:
            raise _invalid(f"{name}: must be between 0 and 2^63 - 1")


def _invalid(text: str) -> RequestError:
    return RequestError(Reason.INVALID_PARAMS, text)
