"""A backend that keeps its rows in memory: for tests, and for data nobody will miss.

Nothing survives the process; each start has a new epoch. It shows in few lines what the
SQLite backend promises, and the same conformance suite holds both to it.
"""

from __future__ import annotations

import secrets
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from recordd.backend import (
    BackendOptions,
    BackendShutdown,
    CleanupTarget,
    Loaded,
    Purged,
    QueryParams,
)
from recordd.pages import PageLimits, fill_page
from recordd.persistence.cursor import decode_cursor, encode_cursor
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Page, Row

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """A `PersistenceBackend` over a dict from `rev` to row, in commit order."""

    def __init__(self, options: BackendOptions | None = None) -> None:
        """Make an empty one; the options are for others."""
        self._log: Final[dict[int, Row]] = {}
        self._rev = 0
        self._epoch: Final = secrets.token_hex(8)
        self._closed = False

    async def initialize(self) -> Loaded:
        """Return that there is nothing yet."""
        return Loaded(epoch=self._epoch, rev=0, records=[])

    async def store(self, rows: Sequence[Row]) -> None:
        """Keep the rows."""
        self._check_open()
        for row in rows:
            assert row.rev is not None, "only rows with a rev are stored"
            self._log[row.rev] = row
            self._rev = row.rev

    def query(self, patterns: PatternSet, params: QueryParams) -> Coroutine[Any, Any, Page]:
        """Return rows by (`ts`, `rev`)."""
        self._check_open()
        return self._query(patterns, params)

    async def _query(self, patterns: PatternSet, params: QueryParams) -> Page:
        after, as_of = (-1, -1), params.as_of
        if params.after is not None:
            ts, rev, as_of = decode_cursor(params.after, params.as_of)
            after = (ts, rev)
        by_name: dict[str, list[Row]] = {}
        for rev, row in self._log.items():
            if rev <= as_of and _is_within(row, params):
                by_name.setdefault(row.name, []).append(row)
        rows = [
            row
            for name, found in by_name.items()
            if patterns.matches(name)
            for row in _newest(found, params.limit_per_record)
            if (row.ts, row.rev or 0) > after
        ]
        rows.sort(key=lambda row: row.order)
        page, more = fill_page(rows, params.page)
        following = encode_cursor(page[-1].ts, page[-1].rev or 0, as_of) if more else None
        return Page(page, rev=as_of, epoch=self._epoch, next=following)

    async def replay(
        self, patterns: PatternSet, *, after: int, as_of: int, limit: int | None, page: PageLimits
    ) -> Page:
        """Return rows by `rev`."""
        self._check_open()
        rows = [
            r for rev, r in self._log.items() if after < rev <= as_of and patterns.matches(r.name)
        ]
        wanted = page.rows if limit is None else min(limit, page.rows)
        cut, more = fill_page(rows, PageLimits(wanted, page.bytes))
        following = str(cut[-1].rev) if more else None
        return Page(cut, rev=as_of, epoch=self._epoch, next=following)

    async def at(self, rev: int) -> Row | None:
        """Return the row of one commit number."""
        self._check_open()
        return self._log.get(rev)

    async def delete(self, name: str, rev: int) -> None:
        """Drop the rows of a record."""
        self._check_open()
        self._rev = rev
        self._drop([rev for rev, row in self._log.items() if row.name == name])

    async def cleanup(
        self, targets: Sequence[CleanupTarget], limit: int, *, next_rev: int
    ) -> tuple[dict[str, Purged], int]:
        """Drop rows that their rules have outlived."""
        self._check_open()
        deleted: dict[str, Purged] = {}
        for done, target in enumerate(targets):
            doomed = self._find_outlived(target)[:limit]
            self._drop(doomed)
            if doomed:
                is_empty = not any(row.name == target.name for row in self._log.values())
                deletion_rev = next_rev if is_empty else None
                deleted[target.name] = Purged(len(doomed), max(doomed), deletion_rev)
                next_rev += is_empty
            limit -= len(doomed)
            if limit <= 0:
                return deleted, done
        return deleted, len(targets)

    @property
    def indexed_rev(self) -> int:
        """Everything is indexed: nothing is."""
        return self._rev

    async def maintain(self, up_to_rev: int) -> bool:
        """Have nothing to do."""
        return False

    def statistics(self) -> dict[str, int | str]:
        """Return what `server.stats` shows of the storage."""
        return {"backend": "memory", "rows": len(self._log)}

    async def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._log.clear()

    def _find_outlived(self, target: CleanupTarget) -> list[int]:
        rows = sorted(
            (row for row in self._log.values() if row.name == target.name),
            key=lambda row: row.order,
        )
        excess = 0 if target.max_rows is None else len(rows) - target.max_rows
        if target.keep_latest:
            rows = rows[:-1]
        return [
            row.rev
            for index, row in enumerate(rows)
            if row.rev is not None
            and (
                index < excess
                or (target.older_than_ms is not None and row.ts < target.older_than_ms)
            )
        ]

    def _drop(self, revs: list[int]) -> None:
        for rev in revs:
            del self._log[rev]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendShutdown("the backend is closed")


def _is_within(row: Row, params: QueryParams) -> bool:
    after_start = params.start_ms is None or row.ts >= params.start_ms
    return after_start and (params.end_ms is None or row.ts <= params.end_ms)


def _newest(rows: list[Row], limit: int | None) -> list[Row]:
    rows = sorted(rows, key=lambda row: row.order)
    return rows if limit is None else rows[max(0, len(rows) - limit) :]
