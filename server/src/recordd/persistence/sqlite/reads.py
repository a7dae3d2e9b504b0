"""What the reading connections do. Each function is one read transaction on their thread.

A query is a merge: each record yields its entries in time order, from the index on disk
and from the tail in memory, in small chunks as they are needed; the page takes the
earliest of all until it is full. So memory and time follow the page, not the history.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar, cast

import apsw
import msgspec
import trio

from recordd.pages import PageLimits, PageRoom, fill_page
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.tail import Entries
from recordd_protocol.rows import Row, RowKind

__all__ = ["QueryPlan", "ReplayPlan", "read_page", "read_replay", "read_row", "read_with_tick"]

T = TypeVar("T")

Key = tuple[int, int, int]
"""`ts`, `rev`, record id: what a page is ordered by."""

_MAX_TS = 2**63 - 1
_VALUES_AT_ONCE = 32
"""Values fetched by one statement: 32 of the largest are 32 MiB."""

_ASCENDING = (
    "SELECT ts, rev FROM history WHERE record = ?1 AND (ts, rev) > (?2, ?3) AND ts <= ?4"
    " AND rev <= ?5 ORDER BY ts, rev LIMIT ?6"
)
_DESCENDING = (
    "SELECT ts, rev FROM history WHERE record = ?1 AND ts BETWEEN ?2 AND ?3 AND rev <= ?4"
    " ORDER BY ts DESC, rev DESC"
)


class QueryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A query, and the moment of the database that it sees.

    `records` are (id, name); index entries on disk count up to `merged_rev`, those in
    `tails` above it, and neither past `as_of`. `after` is the last key of the page before.
    """

    records: list[tuple[int, str]]
    tails: tuple[Entries, ...]
    merged_rev: int
    as_of: int
    limit_per_record: int | None
    start_ms: int
    end_ms: int
    after: tuple[int, int] | None
    page: PageLimits


class Names(Protocol):
    """Names of records by id, of those that are asked for."""

    def get(self, record: int, /) -> str | None:
        """Return a name, None for a record that is not asked for."""


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the log: `after` < `rev` <= `as_of`, of the records that `names` knows."""

    names: Names
    after: int
    as_of: int
    page: PageLimits
    max_scanned: int


def read_with_tick(db: apsw.Connection, function: Callable[[apsw.Connection], T]) -> tuple[T, int]:
    """Run a reading function; return what it found, and the tick of what it saw.

    Both in one transaction: rows that went in a later tick were there.
    """
    with db:
        tick = db.execute("SELECT value FROM meta WHERE key = ?", (Meta.TICK,)).get or 0
        found = function(db)
    return found, cast("int", tick)


def read_page(db: apsw.Connection, plan: QueryPlan, timeout_s: float) -> tuple[list[Row], bool]:
    """Return a page of rows by (`ts`, `rev`), and whether there are more."""
    deadline = time.monotonic() + timeout_s
    chunk = max(16, min(plan.page.rows, 2 * plan.page.rows // max(1, len(plan.records))))
    with db:
        keys = heapq.merge(
            *(_keys_of(db, plan, record, chunk, deadline) for record, _ in plan.records)
        )
        rows, more = fill_page(_fetch_rows(db, keys, dict(plan.records), deadline), plan.page)
    return rows, more


def read_replay(
    db: apsw.Connection, plan: ReplayPlan, timeout_s: float
) -> tuple[list[Row], int | None]:
    """Return a page of rows by `rev`, and the rev to go on after, None at the end.

    Looks at no more than `max_scanned` rows, whether they match or not.
    """
    deadline = time.monotonic() + timeout_s
    rows: list[Row] = []
    room = PageRoom(plan.page)
    seen = plan.after
    scanned = 0
    with db:
        log = db.execute(
            "SELECT rev, record, ts, value, late FROM log WHERE rev > ? AND rev <= ? ORDER BY rev",
            (plan.after, plan.as_of),
        )
        for rev, record, ts, value, late in log:
            scanned += 1
            if scanned % 256 == 0:
                _check_deadline(deadline)
            name = plan.names.get(record)
            if name is not None:
                row = Row(name, value.encode(), ts, rev, RowKind.LATE if late else RowKind.LATEST)
                if not room.take(row):
                    return rows, seen
                rows.append(row)
            seen = rev
            if scanned >= plan.max_scanned:
                return rows, seen
    return rows, None


def read_row(db: apsw.Connection, rev: int) -> tuple[int, int, str] | None:
    """Return the record id, `ts` and value of a commit number."""
    found: tuple[int, int, str] | None = db.execute(
        "SELECT record, ts, value FROM log WHERE rev = ?", (rev,)
    ).get
    return found


def _keys_of(
    db: apsw.Connection, plan: QueryPlan, record: int, chunk: int, deadline: float
) -> Iterator[Key]:
    """Yield a record's keys in ascending order, from where the page starts."""
    tail = sorted(
        (ts, rev)
        for entries in plan.tails
        for ts, rev in entries.get(record, ())
        if plan.merged_rev < rev <= plan.as_of and plan.start_ms <= ts <= plan.end_ms
    )
    start = _find_start(db, plan, record, tail, deadline)
    for ts, rev in heapq.merge(
        _entries_on_disk(db, plan, record, start, chunk, deadline),
        (entry for entry in tail if entry > start),
    ):
        yield ts, rev, record


def _find_start(
    db: apsw.Connection, plan: QueryPlan, record: int, tail: list[tuple[int, int]], deadline: float
) -> tuple[int, int]:
    """Return the entry behind which a record's rows start, counted `limit` from the newest."""
    start = (plan.start_ms, -1)
    if plan.limit_per_record is not None:
        on_disk = db.execute(
            _DESCENDING,
            (record, plan.start_ms, plan.end_ms, min(plan.merged_rev, plan.as_of)),
        )
        newest_first = heapq.merge(on_disk, reversed(tail), reverse=True)
        for ts, rev in itertools.islice(
            _within(newest_first, deadline),
            plan.limit_per_record - 1,
            plan.limit_per_record,
        ):
            start = (ts, rev - 1)
        on_disk.close(True)
    return start if plan.after is None else max(start, plan.after)


def _entries_on_disk(
    db: apsw.Connection,
    plan: QueryPlan,
    record: int,
    after: tuple[int, int],
    chunk: int,
    deadline: float,
) -> Iterator[tuple[int, int]]:
    last_rev = min(plan.merged_rev, plan.as_of)
    while True:
        _check_deadline(deadline)
        found = db.execute(_ASCENDING, (record, *after, plan.end_ms, last_rev, chunk))
        entries = cast("list[tuple[int, int]]", found.fetchall())
        yield from entries
        if len(entries) < chunk:
            return
        after = entries[-1]


def _fetch_rows(
    db: apsw.Connection, keys: Iterator[Key], names: Mapping[int, str], deadline: float
) -> Iterator[Row]:
    """Yield the rows of keys; for one that has gone since, the caller refuses the page."""
    while group := list(itertools.islice(keys, _VALUES_AT_ONCE)):
        _check_deadline(deadline)
        marks = ",".join("?" * len(group))
        values = dict(
            db.execute(f"SELECT rev, value FROM log WHERE rev IN ({marks})", [k[1] for k in group])
        )
        for ts, rev, record in group:
            if (value := values.get(rev)) is not None:
                yield Row(names[record], value.encode(), ts, rev)


def _within(entries: Iterable[tuple[int, int]], deadline: float) -> Iterator[tuple[int, int]]:
    for number, entry in enumerate(entries):
        if number % 4096 == 0:
            _check_deadline(deadline)
        yield entry


def _check_deadline(deadline: float) -> None:
    """Stop between two statements; APSW itself stops a statement that runs."""
    if time.monotonic() > deadline:
        raise trio.TooSlowError("query deadline")
