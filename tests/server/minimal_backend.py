"""A backend that can do no more than it has to: rows in a list."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Final

from recordd.extending.backend import (
    BackendOptions,
    BackendShutdown,
    Loaded,
    QueryParams,
    ReplayParams,
)
from recordd.extending.commit import Commit, Deletions, NewRows
from recordd.extending.moments import Gone, Moment, Moments
from recordd.extending.paging import fill_page
from recordd.persistence.cursor import Cursor, LogCursor, decode_cursor, encode
from recordd_protocol.patterns import PatternSet, compile_patterns
from recordd_protocol.rows import Page, Row

__all__ = ["MinimalBackend"]


class MinimalBackend:
    """A `PersistenceBackend` and nothing beside; readers of rows that went are refused."""

    def __init__(self, options: BackendOptions | None = None) -> None:
        self._epoch: Final = secrets.token_hex(8)
        self._moments: Final = Moments()
        self._rows: list[Row] = []
        self._is_closed = False

    async def initialize(self) -> Loaded:
        return Loaded(epoch=self._epoch, rev=0, records=[])

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        self._check_open()
        for commit in commits:
            if isinstance(commit, NewRows):
                self._rows += [row for row in commit.rows if row.rev is not None]
            elif isinstance(commit, Deletions):
                for deletion in commit.deletions:
                    if deletion.rev is not None:
                        self._delete(deletion.name)

    def _delete(self, name: str) -> None:
        gone = [row for row in self._rows if row.name == name]
        self._rows = [row for row in self._rows if row.name != name]
        revs = [row.rev or 0 for row in gone]
        newest = max((row.ts, row.rev or 0) for row in gone)
        self._moments.note_purge([Gone(name, newest, min(revs), max(revs))])

    def take_moment(self, as_of: int) -> Moment:
        return self._moments.take(as_of)

    async def query(self, patterns: PatternSet, params: QueryParams) -> Page:
        moment, as_of, behind = params.moment, params.moment.as_of, (params.start_ms or 0, -1)
        since = moment.tick
        if params.page_cursor is not None:
            cursor = decode_cursor(
                params.page_cursor, epoch=self._epoch, newest_rev=as_of, tick=moment.tick
            )
            as_of, since = cursor.as_of, cursor.tick
            behind = max(behind, (cursor.ts, cursor.rev))
        self._moments.check_page(
            patterns, since=since, until=self._moments.tick, behind=behind,
            end_ms=params.end_ms, as_of=as_of,
        )  # fmt: skip
        rows = sorted(self._find(patterns, params, as_of), key=lambda row: row.order)
        page, more = fill_page(
            [row for row in rows if (row.ts, row.rev or 0) > behind], params.page
        )
        last = page[-1] if page else None
        following = None
        if more and last is not None:
            cursor = Cursor(last.ts, last.rev or 0, as_of, moment.tick)
            following = encode(cursor, self._epoch)
        return Page(page, rev=as_of, epoch=self._epoch, next=following)

    def _find(self, patterns: PatternSet, params: QueryParams, as_of: int) -> Iterator[Row]:
        """Yield the newest rows of each record, in no order of records."""
        start, end, limit = params.start_ms or 0, params.end_ms, params.limit_per_record
        for name in {row.name for row in self._rows if patterns.matches(row.name)}:
            rows = [r for r in self._rows if r.name == name and (r.rev or 0) <= as_of]
            rows = [r for r in rows if start <= r.ts and (end is None or r.ts <= end)]
            rows.sort(key=lambda row: row.order)
            yield from rows if limit is None else rows[-limit:]

    async def replay(self, patterns: PatternSet, params: ReplayParams) -> Page:
        as_of, limits = params.moment.as_of, params.page.at_most(params.limit)
        self._moments.check_log(patterns, params.moment, after_rev=params.after_rev, up_to=as_of)
        found = [r for r in self._rows if params.after_rev < (r.rev or 0) <= as_of]
        page, more = fill_page([r for r in found if patterns.matches(r.name)], limits)
        following = encode(LogCursor(page[-1].rev or 0), self._epoch) if more else None
        return Page(page, rev=as_of, epoch=self._epoch, next=following)

    async def at(self, rev: int, moment: Moment) -> Row | None:
        self._moments.check_log(compile_patterns("#"), moment, after_rev=rev - 1, up_to=rev)
        return next((row for row in self._rows if row.rev == rev), None)

    async def close(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendShutdown("the backend is closed")
