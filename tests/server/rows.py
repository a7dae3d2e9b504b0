"""Rows for tests, made by number."""

from __future__ import annotations

from collections.abc import Iterable

from recordd.extending.backend import (
    KeepsHouse,
    PageLimits,
    PersistenceBackend,
    QueryParams,
    ReplayParams,
)
from recordd_protocol.rows import Row

PAGE = PageLimits(rows=10_000, bytes=1 << 20)


def row(rev: int, name: str = "a", ts: int | None = None, value: bytes | None = None) -> Row:
    """A row whose time and value follow from its rev unless given."""
    return Row(name, b"%d" % rev if value is None else value, rev * 10 if ts is None else ts, rev)


AS_OF = 1 << 40
"""Later than every commit of a test."""


def ask(
    backend: PersistenceBackend,
    limit: int | None = None,
    start: int | None = None,
    end: int | None = None,
    after: str | None = None,
    as_of: int = AS_OF,
    page: PageLimits = PAGE,
) -> QueryParams:
    """What a query asks for, at the present moment."""
    return QueryParams(
        moment=backend.take_moment(as_of),
        limit_per_record=limit,
        start_ms=start,
        end_ms=end,
        after=after,
        page=page,
    )


def ask_log(
    backend: PersistenceBackend,
    after: int = 0,
    as_of: int = AS_OF,
    limit: int | None = None,
    page: PageLimits = PAGE,
) -> ReplayParams:
    """What a replay asks for, at the present moment."""
    return ReplayParams(moment=backend.take_moment(as_of), after=after, limit=limit, page=page)


async def settle(backend: PersistenceBackend) -> None:
    """Let the backend do all the housekeeping it has."""
    if isinstance(backend, KeepsHouse):
        while await backend.maintain(AS_OF):
            pass


def revs(rows: Iterable[Row]) -> list[int | None]:
    return [row.rev for row in rows]
