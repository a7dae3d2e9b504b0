"""Rows made by number, and the questions of the suite."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final

import msgspec

from recordd.extending.backend import (
    CleansUp,
    CleanupTarget,
    KeepsHouse,
    Loaded,
    PersistenceBackend,
    QueryParams,
    ReplayParams,
)
from recordd.extending.commit import Deletion, Deletions, NewRecord, NewRows
from recordd.extending.paging import PageLimits
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.patterns import compile_patterns
from recordd_protocol.rows import Row

__all__ = [
    "AS_OF",
    "EVERYTHING",
    "PAGE",
    "all_rows",
    "ask",
    "ask_log",
    "clean_up",
    "continue_from",
    "delete",
    "ends",
    "new_rows",
    "read_on",
    "reason_of",
    "revs",
    "row",
    "settle",
    "store",
]

PAGE: Final = PageLimits(rows=10_000, bytes=1 << 20)
EVERYTHING: Final = compile_patterns("#")
AS_OF: Final = 1 << 40
"""Later than every commit of a test."""
_MOST_PAGES: Final = 1000
"""More than a test has rows."""


def row(rev: int, name: str = "a", ts: int | None = None, value: bytes | None = None) -> Row:
    """Return a row whose time and value follow from its rev unless given."""
    return Row(name, b"%d" % rev if value is None else value, rev * 10 if ts is None else ts, rev)


def revs(rows: Iterable[Row]) -> list[int | None]:
    """Return what rows are known by."""
    return [row.rev for row in rows]


def ask(
    backend: PersistenceBackend,
    limit: int | None = None,
    start: int | None = None,
    end: int | None = None,
    page_cursor: str | None = None,
    as_of: int = AS_OF,
    page: PageLimits = PAGE,
) -> QueryParams:
    """Return what a query asks for, at the present moment."""
    return QueryParams(
        moment=backend.take_moment(as_of),
        limit_per_record=limit,
        start_ms=start,
        end_ms=end,
        page_cursor=page_cursor,
        page=page,
    )


def ask_log(
    backend: PersistenceBackend,
    after_rev: int = 0,
    as_of: int = AS_OF,
    limit: int | None = None,
    page: PageLimits = PAGE,
) -> ReplayParams:
    """Return what a replay asks for, at the present moment."""
    return ReplayParams(
        moment=backend.take_moment(as_of), after_rev=after_rev, limit=limit, page=page
    )


async def read_on(backend: PersistenceBackend, pattern: str, page_cursor: str | None) -> list[Row]:
    """Return the rows of the page behind another, asked for at the present moment."""
    page = await backend.query(compile_patterns(pattern), ask(backend, page_cursor=page_cursor))
    return list(page.rows)


async def all_rows(backend: PersistenceBackend, params: QueryParams) -> list[Row]:
    """Return the rows of all pages, each asked for at the moment of its turn."""
    rows: list[Row] = []
    for _ in range(_MOST_PAGES):
        page = await backend.query(EVERYTHING, params)
        rows += page.rows
        if page.next is None:
            return rows
        moment = backend.take_moment(AS_OF)
        params = msgspec.structs.replace(params, moment=moment, page_cursor=page.next)
    raise AssertionError("the pages come to no end")


class _Ids:
    """The records of an empty backend by name, as the suite gives them ids."""

    def __init__(self) -> None:
        self.known: Final[dict[str, int]] = {}
        self.next = 0

    def commit(self, rows: Sequence[Row]) -> NewRows:
        """Return rows as a commit, with the records that are new."""
        created = []
        for row in rows:
            if row.name not in self.known:
                created.append(NewRecord(self.next, row.name, is_stored=row.rev is not None))
                self.known[row.name] = self.next
                self.next += 1
        return NewRows(rows, [self.known[row.name] for row in rows], created)


_ids: Final[weakref.WeakKeyDictionary[PersistenceBackend, _Ids]] = weakref.WeakKeyDictionary()


def _ids_of(backend: PersistenceBackend) -> _Ids:
    return _ids.setdefault(backend, _Ids())


def continue_from(backend: PersistenceBackend, loaded: Loaded) -> None:
    """Give new records of a backend ids behind those that it has."""
    ids = _ids_of(backend)
    ids.known.update({r.latest.name: r.record_id for r in loaded.records})
    ids.next = loaded.next_record_id


def new_rows(backend: PersistenceBackend, *rows: Row) -> NewRows:
    """Return rows as a commit, with the records that are new."""
    return _ids_of(backend).commit(rows)


def ends(backend: PersistenceBackend, **revs_by_name: int) -> Deletions:
    """Return the ends of records as a commit."""
    known = _ids_of(backend).known
    return Deletions([Deletion(n, known.pop(n), ts=0, rev=r) for n, r in revs_by_name.items()])


async def store(backend: PersistenceBackend, rows: Sequence[Row]) -> None:
    """Commit rows, and the records that are new with them."""
    await backend.apply([new_rows(backend, *rows)], rows[-1].rev or 0)


async def delete(backend: PersistenceBackend, name: str, rev: int) -> None:
    """Commit the end of a record."""
    await backend.apply([ends(backend, **{name: rev})], rev)


async def settle(backend: PersistenceBackend) -> None:
    """Let the backend do all the housekeeping it has."""
    if isinstance(backend, KeepsHouse):
        while await backend.maintain(AS_OF):
            pass


async def clean_up(
    backend: CleansUp, *targets: CleanupTarget, limit: int = 100
) -> tuple[dict[str, tuple[int, int]], int]:
    """Clean up; return of each record how many rows went and the newest of them, and the end."""
    purged, done = await backend.cleanup(targets, limit)
    return {name: (what.rows, what.newest_rev) for name, what in purged.items()}, done


async def reason_of(answer: Awaitable[Any]) -> Reason | None:
    """Return why it is refused, None where it is not."""
    try:
        await answer
    except RequestError as error:
        return error.reason
    return None
