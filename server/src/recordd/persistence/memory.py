"""A backend that keeps its rows in memory: for tests, and for data nobody will miss.

Nothing survives the process; each start has a new epoch. It shows in few lines what the
SQLite backend promises, and the same conformance suite holds both to it.
"""

from __future__ import annotations

import secrets
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

import msgspec

from recordd.extending.backend import (
    BackendOptions,
    BackendShutdown,
    CleanupTarget,
    Loaded,
    Purged,
    QueryParams,
    ReplayParams,
)
from recordd.extending.commit import Commit, Deletion, NewRows, Renewal
from recordd.extending.moments import Gone, Moment, Moments
from recordd.extending.options import read_options
from recordd.extending.paging import fill_page
from recordd.persistence.cursor import Cursor, LogCursor, decode_cursor, encode
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = ["MemoryBackend"]


class MemoryOptions(msgspec.Struct, frozen=True):
    """There are none."""


class MemoryBackend:
    """A `PersistenceBackend` over a dict from `rev` to row, in commit order."""

    options_type: Final = MemoryOptions

    def __init__(self, options: BackendOptions | None = None) -> None:
        """Make an empty one."""
        read_options(MemoryOptions, options or BackendOptions())
        self._log: Final[dict[int, Row]] = {}
        self._gone: Final[list[tuple[int, Row]]] = []
        """Rows that went, with the tick of it, for those whose moment is older."""
        self._moments: Final = Moments()
        self._rev = 0
        self._epoch: Final = secrets.token_hex(8)
        self._closed = False

    async def initialize(self) -> Loaded:
        """Return that there is nothing yet."""
        return Loaded(epoch=self._epoch, rev=0, records=[])

    async def apply(self, commits: Sequence[Commit], position: int) -> None:
        """Keep rows, and drop those that a commit says are gone; no position outlives it."""
        self._check_open()
        for commit in commits:
            if isinstance(commit, NewRows):
                self._keep(commit.rows)
            elif isinstance(commit, Renewal):
                self._renew(commit)
            else:
                for deletion in commit.deletions:
                    self._delete(deletion)

    def take_moment(self, as_of: int) -> Moment:
        """Return the present moment."""
        return self._moments.take(as_of)

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        """Return rows by (`ts`, `rev`)."""
        self._check_open()
        moment, cursor = params.moment, None
        if params.page_cursor is not None:
            cursor = decode_cursor(
                params.page_cursor, epoch=self._epoch, newest_rev=moment.as_of, tick=moment.tick
            )
            self._moments.check_page(
                patterns, since=cursor.tick, until=moment.tick, behind=(cursor.ts, cursor.rev),
                end_ms=params.end_ms, as_of=cursor.as_of,
            )  # fmt: skip
        return self._query(patterns, params, cursor)

    async def _query(
        self, patterns: PatternSet, params: QueryParams, cursor: Cursor | None
    ) -> Page:
        moment = params.moment
        as_of = moment.as_of if cursor is None else cursor.as_of
        by_name: dict[str, list[Row]] = {}
        for row in self._rows_at(moment, as_of):
            if _is_within(row, params):
                by_name.setdefault(row.name, []).append(row)
        behind = (-1, -1) if cursor is None else (cursor.ts, cursor.rev)
        rows = [
            row
            for name, found in by_name.items()
            if patterns.matches(name)
            for row in _newest(found, params.limit_per_record)
            if (row.ts, row.rev or 0) > behind
        ]
        rows.sort(key=lambda row: row.order)
        page, more = fill_page(rows, params.page)
        following = None
        if more:
            last = Cursor(page[-1].ts, page[-1].rev or 0, as_of, moment.tick)
            following = encode(last, self._epoch)
        return Page(page, rev=as_of, epoch=self._epoch, next=following)

    async def replay(self, patterns: PatternSet, params: ReplayParams) -> Page:
        """Return rows by `rev`."""
        self._check_open()
        moment, limits = params.moment, params.page
        rows = [
            row
            for row in self._rows_at(moment, moment.as_of)
            if (row.rev or 0) > params.after_rev and patterns.matches(row.name)
        ]
        rows.sort(key=lambda row: row.rev or 0)
        page, more = fill_page(rows, limits.at_most(params.limit))
        following = encode(LogCursor(page[-1].rev or 0), self._epoch) if more else None
        return Page(page, rev=moment.as_of, epoch=self._epoch, next=following)

    async def at(self, rev: int, moment: Moment) -> Row | None:
        """Return the row of one commit number."""
        self._check_open()
        return next((row for row in self._rows_at(moment, moment.as_of) if row.rev == rev), None)

    async def cleanup(
        self, targets: Sequence[CleanupTarget], limit: int
    ) -> tuple[dict[str, Purged], int]:
        """Drop rows that their rules have outlived."""
        self._check_open()
        deleted: dict[str, Purged] = {}
        for done, target in enumerate(targets):
            doomed = self._find_outlived(target)[:limit]
            is_spent = bool(doomed) and len(doomed) == self._count(target.name)
            doomed = doomed[:-1] if is_spent else doomed
            newest_rev = 0
            if doomed:
                self._moments.note_purge([gone := _gone_of(target.name, doomed)])
                self._drop(doomed)
                newest_rev = gone.newest_rev
            if doomed or is_spent:
                deleted[target.name] = Purged(len(doomed), newest_rev, is_spent)
            limit -= len(doomed)
            if limit <= 0:
                return deleted, done
        return deleted, len(targets)

    @property
    def indexed_rev(self) -> int:
        """Everything is indexed: nothing is."""
        return self._rev

    async def maintain(self, up_to_rev: int) -> bool:
        """Let go what went before every moment that is held."""
        self._forget_gone()
        return False

    def statistics(self) -> dict[str, int | str]:
        """Return what `server.stats` shows of the storage."""
        return {"backend": "memory", "rows": len(self._log)}

    async def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._log.clear()
        self._gone.clear()

    def _rows_at(self, moment: Moment, as_of: int) -> Iterator[Row]:
        """Yield the rows of a moment, in no particular order."""
        yield from (row for rev, row in self._log.items() if rev <= as_of)
        for tick, row in reversed(self._gone):
            if tick <= moment.tick:
                return
            if (row.rev or 0) <= as_of:
                yield row

    def _find_outlived(self, target: CleanupTarget) -> list[Row]:
        rows = sorted(
            (row for row in self._log.values() if row.name == target.name),
            key=lambda row: row.order,
        )
        excess = 0 if target.max_rows is None else len(rows) - target.max_rows
        if target.keep_latest:
            rows = rows[:-1]
        if target.newer_than_ms is not None:
            return [row for row in rows if row.ts > target.newer_than_ms]
        return [
            row
            for index, row in enumerate(rows)
            if index < excess
            or (target.older_than_ms is not None and row.ts < target.older_than_ms)
        ]

    def _keep(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.rev is not None:
                self._log[row.rev] = row
                self._rev = row.rev

    def _delete(self, deletion: Deletion) -> None:
        if deletion.rev is None:
            return
        self._rev = deletion.rev
        rows = [row for row in self._log.values() if row.name == deletion.name]
        self._moments.note_deletion(_gone_of(deletion.name, rows))
        self._drop(rows)

    def _renew(self, renewal: Renewal) -> None:
        replaced = [self._log[renewal.replaced_rev]]
        self._moments.note_purge([_gone_of(renewal.row.name, replaced)])
        self._drop(replaced)
        self._keep([renewal.row])

    def _count(self, name: str) -> int:
        return sum(row.name == name for row in self._log.values())

    def _drop(self, rows: list[Row]) -> None:
        """Take rows away, of which note was taken, but for those who hold a moment."""
        for row in rows:
            del self._log[row.rev or 0]
            self._gone.append((self._moments.tick, row))
        self._forget_gone()

    def _forget_gone(self) -> None:
        oldest = self._moments.oldest_tick
        if oldest is None:
            self._gone.clear()
        else:
            self._gone[:] = [item for item in self._gone if item[0] > oldest]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendShutdown("the backend is closed")


def _gone_of(name: str, rows: list[Row]) -> Gone:
    revs = [row.rev or 0 for row in rows]
    return Gone(name, max((row.ts, row.rev or 0) for row in rows), min(revs), max(revs))


def _is_within(row: Row, params: QueryParams) -> bool:
    after_start = params.start_ms is None or row.ts >= params.start_ms
    return after_start and (params.end_ms is None or row.ts <= params.end_ms)


def _newest(rows: list[Row], limit: int | None) -> list[Row]:
    rows = sorted(rows, key=lambda row: row.order)
    return rows if limit is None else rows[max(0, len(rows) - limit) :]
