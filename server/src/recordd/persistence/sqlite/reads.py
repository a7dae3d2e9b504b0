"""What the reading connections do. Each function is one read transaction on their thread.

A query of few records is a merge: each yields its entries in time order, from the index on
disk and from the tail in memory, in small chunks as they are needed; the page takes the
earliest of all until it is full. One of many records reads the index by time instead, and
passes over who is not meant: see `timeline.py`; one of the newest few rows of each record
looks at those: see `newest.py`. So memory and time follow the page, not
the history, and not the number of records either.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import apsw

from recordd.pages import PageLimits, PageRoom
from recordd.persistence.sqlite.newest import read_newest
from recordd.persistence.sqlite.plans import Key, Names, Pace, QueryPlan, ReplayPlan
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.timeline import read_by_time
from recordd_protocol.rows import Row, RowKind

__all__ = ["QueryPlan", "ReplayPlan", "read_page", "read_replay", "read_row", "read_with_tick"]

T = TypeVar("T")

_VALUES_AT_ONCE = 32
"""Values fetched by one statement: 32 of the largest are 32 MiB."""

_FEW_ROWS = 256
_MANY_RECORDS = 1000
"""To merge many records costs much for each; to look at all of their newest rows, for each row."""

_ASCENDING = (
    "SELECT ts, rev FROM history WHERE record = ?1 AND (ts, rev) > (?2, ?3) AND ts <= ?4"
    " AND rev <= ?5 ORDER BY ts, rev LIMIT ?6"
)
_DESCENDING = (
    "SELECT ts, rev FROM history WHERE record = ?1 AND ts BETWEEN ?2 AND ?3 AND rev <= ?4"
    " ORDER BY ts DESC, rev DESC"
)


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
    pace = Pace(timeout_s)
    with db:
        keys = _choose_keys(db, plan, pace)
        rows, more = _fill_page(_fetch_rows(db, keys, plan.records, pace), plan.page, pace)
    return rows, more


def read_replay(
    db: apsw.Connection, plan: ReplayPlan, timeout_s: float
) -> tuple[list[Row], int | None]:
    """Return a page of rows by `rev`, and the rev to go on after, None at the end.

    Looks at no more than `max_scanned` rows, whether they match or not.
    """
    pace = Pace(timeout_s)
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
                pace.check()
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


def _choose_keys(db: apsw.Connection, plan: QueryPlan, pace: Pace) -> Iterator[Key]:
    """Return the keys from where the page starts, read the way that is cheapest."""
    limit = plan.limit_per_record
    if limit is None and plan.records.is_wide():
        pace.begin()
        return read_by_time(db, plan, pace)
    found = plan.records.find_all(plan.start)
    if limit is not None and (limit <= _FEW_ROWS or len(found) > _MANY_RECORDS):
        return iter(read_newest(db, plan, found, limit, pace))
    return _merge_records(db, plan, found, pace)


def _merge_records(
    db: apsw.Connection, plan: QueryPlan, records: Sequence[int], pace: Pace
) -> Iterator[Key]:
    """Yield the keys of some records in ascending order, from where the page starts."""
    chunk = max(16, min(plan.page.rows, 2 * plan.page.rows // max(1, len(records))))
    return heapq.merge(*(_keys_of(db, plan, record, chunk, pace) for record in records))


def _fill_page(rows: Iterator[Row], limits: PageLimits, pace: Pace) -> tuple[list[Row], bool]:
    """Return as many rows as a page holds, or as its time allows, and whether there are more."""
    page: list[Row] = []
    room = PageRoom(limits)
    for row in rows:
        if not room.take(row) or (page and pace.is_over()):
            return page, True
        page.append(row)
        pace.found_row()
    assert page or not pace.was_cut, "what was found is there: all is one transaction"
    return page, pace.was_cut


def _keys_of(
    db: apsw.Connection, plan: QueryPlan, record: int, chunk: int, pace: Pace
) -> Iterator[Key]:
    """Yield a record's keys in ascending order, from where the page starts."""
    tail = sorted([key[:2] for key in plan.tail_keys(record)])
    start = _find_start(db, plan, record, tail, pace)
    for ts, rev in heapq.merge(
        _entries_on_disk(db, plan, record, start, chunk, pace),
        (entry for entry in tail if entry > start),
    ):
        yield ts, rev, record


def _find_start(
    db: apsw.Connection, plan: QueryPlan, record: int, tail: list[tuple[int, int]], pace: Pace
) -> tuple[int, int]:
    """Return the entry behind which a record's rows start, counted `limit` from the newest."""
    start = (plan.start_ms, -1)
    if plan.limit_per_record is not None:
        on_disk = db.execute(
            _DESCENDING,
            (record, plan.start_ms, plan.end_ms, plan.last_rev_on_disk),
        )
        newest_first = heapq.merge(on_disk, reversed(tail), reverse=True)
        for ts, rev in itertools.islice(
            _within(newest_first, pace),
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
    pace: Pace,
) -> Iterator[tuple[int, int]]:
    while True:
        pace.check()
        bounds = (record, *after, plan.end_ms, plan.last_rev_on_disk, chunk)
        # No cursor may stay open here: to close one looks at all that are.
        entries = cast("list[tuple[int, int]]", db.execute(_ASCENDING, bounds).fetchall())
        yield from entries
        if len(entries) < chunk:
            return
        after = entries[-1]


def _fetch_rows(
    db: apsw.Connection, keys: Iterator[Key], names: Names, pace: Pace
) -> Iterator[Row]:
    """Yield the rows of keys; for one that has gone since, the caller refuses the page."""
    while group := list(itertools.islice(keys, _VALUES_AT_ONCE)):
        pace.check()
        marks = ",".join("?" * len(group))
        values = dict(
            db.execute(f"SELECT rev, value FROM log WHERE rev IN ({marks})", [k[1] for k in group])
        )
        for ts, rev, record in group:
            value, name = values.get(rev), names.get(record)
            if value is not None and name is not None:
                yield Row(name, value.encode(), ts, rev)


def _within(entries: Iterable[tuple[int, int]], pace: Pace) -> Iterator[tuple[int, int]]:
    for number, entry in enumerate(entries):
        if number % 4096 == 0:
            pace.check()
        yield entry
