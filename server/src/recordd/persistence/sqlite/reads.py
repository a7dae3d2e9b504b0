"""The work of the reading connections. Each function is one read transaction on their thread.

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
from typing import Final, TypeVar, cast

import apsw
import msgspec

from recordd.extending.backend import DamagedStorage
from recordd.extending.paging import Filling, PageLimits
from recordd.persistence.sqlite.damage import INDEX, check_text, describe_damage, naming
from recordd.persistence.sqlite.newest import read_newest
from recordd.persistence.sqlite.page_text import read_text
from recordd.persistence.sqlite.plans import (
    Found,
    FoundText,
    Key,
    Names,
    Pace,
    QueryPlan,
    ReplayPlan,
)
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.timeline import read_by_time
from recordd_protocol.rows import Row, RowKind

__all__ = [
    "VALUES_AT_ONCE",
    "QueryPlan",
    "ReplayPlan",
    "read_page",
    "read_replay",
    "read_row",
    "read_with_tick",
]

T = TypeVar("T")

VALUES_AT_ONCE = 32
"""Values fetched by one statement: 32 of the largest are 32 MiB."""

_CAREFUL_CHUNK = 16
"""Entries of the index read by one statement before a damaged page."""

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
        tick = _read_tick(db)
        found = function(db)
    return found, tick


def _read_tick(db: apsw.Connection) -> int:
    return cast("int", db.execute("SELECT value FROM meta WHERE key = ?", (Meta.TICK,)).get or 0)


def read_page(
    db: apsw.Connection, plan: QueryPlan, timeout_s: float
) -> tuple[Found | FoundText, int]:
    """Return a page of rows by (`ts`, `rev`), and the tick; as text where that will do.

    A page ends before the first row that cannot be read; the one that begins with it is
    refused.
    """
    page: list[Row] = []

    def read(db: apsw.Connection) -> Found | FoundText:
        return _read_text_or_rows(db, plan, timeout_s, page)

    try:
        return read_with_tick(db, read)
    except (apsw.Error, DamagedStorage) as error:
        if describe_damage(error, db) is None:
            raise
    if db.in_transaction:
        db.execute("ROLLBACK")
    return _read_page_carefully(db, msgspec.structs.replace(plan, is_careful=True), timeout_s)


def _read_text_or_rows(
    db: apsw.Connection, plan: QueryPlan, timeout_s: float, page: list[Row]
) -> Found | FoundText:
    if plan.fewest_as_text is not None:
        found = read_text(db, plan, Pace(timeout_s), _choose_keys)
        if found is not None and (found.more or found.count >= plan.fewest_as_text):
            return found
    return _read_page(db, plan, timeout_s, page)


def _read_page_carefully(
    db: apsw.Connection, plan: QueryPlan, timeout_s: float
) -> tuple[Found, int]:
    """Read in small steps, up to an unreadable row; nothing is read behind it.

    SQLite ends the transaction with the error: rows behind it would be of another moment.
    """
    page: list[Row] = []
    tick = 0

    def read(db: apsw.Connection) -> bool:
        nonlocal tick
        tick = _read_tick(db)
        return _read_page(db, plan, timeout_s, page).more

    try:
        with db:
            more = read(db)
    except (apsw.Error, DamagedStorage) as error:
        if not page or describe_damage(error, db) is None:
            raise
        more = True
    return Found(page, more, is_whole=False), tick


def _read_page(db: apsw.Connection, plan: QueryPlan, timeout_s: float, page: list[Row]) -> Found:
    """Fill a page and return it."""
    pace = Pace(timeout_s)
    keys = _choose_keys(db, plan, pace)
    fetch = _fetch_one_by_one if plan.is_careful else _fetch_rows
    more = _fill_page(page, fetch(db, keys, plan.records, pace), plan.page, pace)
    return Found(page, more, is_whole=not pace.has_lost)


def read_replay(
    db: apsw.Connection, plan: ReplayPlan, timeout_s: float
) -> tuple[tuple[list[Row], int | None], int]:
    """Return a page of rows by `rev`, the rev to go on after, None at the end, and the tick.

    Looks at no more than `max_scanned` rows, whether they match or not. A page ends before the
    first row that cannot be read; the one that begins with it is refused.
    """
    stretch, tick = _Stretch(plan), 0
    try:
        with db:
            tick = _read_tick(db)
            following = stretch.read(db, Pace(timeout_s))
    except (apsw.Error, DamagedStorage) as error:
        damage = describe_damage(error, db)
        if damage is None:
            raise
        if stretch.seen == plan.after_rev:
            raise damage.of(f"the log behind rev {plan.after_rev}") from error
        following = stretch.seen
    return (stretch.rows, following), tick


class _Stretch:
    """Rows of the log, as far as they are read."""

    def __init__(self, plan: ReplayPlan) -> None:
        self.seen = plan.after_rev
        self._plan: Final = plan
        self._page: Final = Filling(plan.page)

    @property
    def rows(self) -> list[Row]:
        """Those that are meant, in commit order."""
        return self._page.rows

    def read(self, db: apsw.Connection, pace: Pace) -> int | None:
        """Read a page; return the rev to go on after, None at the end."""
        plan = self._plan
        # Not "rev > after_rev": that looks at the page of that row too, which may be damaged.
        log = db.execute(
            "SELECT rev, record, ts, value, late FROM log WHERE rev >= ? AND rev <= ? ORDER BY rev",
            (plan.after_rev + 1, plan.as_of),
        )
        for scanned, (rev, record, ts, value, late) in enumerate(log, start=1):
            if scanned % 256 == 0:
                pace.check()
            name = plan.names.get(record)
            if name is not None:
                kind = RowKind.LATE if late else RowKind.LATEST
                row = Row(name, check_text(value, f"rev {rev}"), ts, rev, kind)
                if not self._page.take(row):
                    return self.seen
            self.seen = rev
            if scanned >= plan.max_scanned:
                return self.seen
        return None


def read_row(db: apsw.Connection, rev: int) -> tuple[int, int, bytes] | None:
    """Return the record id, `ts` and value of a commit number."""
    with naming(f"rev {rev}", db):
        found = db.execute("SELECT record, ts, value FROM log WHERE rev = ?", (rev,)).get
    if found is None:
        return None
    record, ts, value = cast("tuple[int, int, str]", found)
    return record, ts, check_text(value, f"rev {rev}")


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
    if plan.is_careful:
        chunk = _CAREFUL_CHUNK
    return heapq.merge(*(_keys_of(db, plan, record, chunk, pace) for record in records))


def _fill_page(page: list[Row], rows: Iterator[Row], limits: PageLimits, pace: Pace) -> bool:
    """Take as many rows as a page holds, or as its time allows; return whether there are more."""
    take, is_timed = Filling(limits, page).take, pace.is_timed
    for row in rows:
        if (is_timed and page and pace.is_over()) or not take(row):
            return True
        if len(page) == 1:
            pace.found_row()
    assert page or not pace.was_cut, "what was found is there: all is one transaction"
    return pace.was_cut


def _keys_of(
    db: apsw.Connection, plan: QueryPlan, record: int, chunk: int, pace: Pace
) -> Iterator[Key]:
    """Yield a record's keys in ascending order, from where the page starts."""
    tail = sorted([key[:2] for key in plan.tail_keys(record)])
    with naming(f"{INDEX} of record {plan.records.get(record)!r}", db):
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
    return start if plan.behind is None else max(start, plan.behind)


def _entries_on_disk(
    db: apsw.Connection,
    plan: QueryPlan,
    record: int,
    behind: tuple[int, int],
    chunk: int,
    pace: Pace,
) -> Iterator[tuple[int, int]]:
    while True:
        pace.check()
        bounds = (record, *behind, plan.end_ms, plan.last_rev_on_disk, chunk)
        # No cursor may stay open here: to close one looks at all that are.
        with naming(f"{INDEX} of record {plan.records.get(record)!r} from ts {behind[0]} on", db):
            entries = cast("list[tuple[int, int]]", db.execute(_ASCENDING, bounds).fetchall())
        yield from entries
        if len(entries) < chunk:
            return
        behind = entries[-1]


def _fetch_rows(
    db: apsw.Connection, keys: Iterator[Key], names: Names, pace: Pace
) -> Iterator[Row]:
    """Yield the rows of keys; for one that has gone since, the caller refuses the page."""
    known, name = -1, None
    while group := list(itertools.islice(keys, VALUES_AT_ONCE)):
        pace.check()
        marks = ",".join("?" * len(group))
        values = dict(
            db.execute(f"SELECT rev, value FROM log WHERE rev IN ({marks})", [k[1] for k in group])
        )
        for ts, rev, record in group:
            if record != known:
                known, name = record, names.get(record)
            value = values.get(rev)
            if value is None:
                pace.has_lost = True
            elif name is not None:
                content = value.encode()
                if b"\0" in content:
                    check_text(value, f"rev {rev}")
                yield Row(name, content, ts, rev)


def _fetch_one_by_one(
    db: apsw.Connection, keys: Iterator[Key], names: Names, pace: Pace
) -> Iterator[Row]:
    """Yield the rows of keys; of one that cannot be read say which it is."""
    for ts, rev, record in keys:
        pace.check()
        name = names.get(record)
        part = f"record {name!r}, rev {rev}, ts {ts}"
        with naming(part, db):
            value = db.execute("SELECT value FROM log WHERE rev = ?", (rev,)).get
        if value is not None and name is not None:
            yield Row(name, check_text(value, part), ts, rev)


def _within(entries: Iterable[tuple[int, int]], pace: Pace) -> Iterator[tuple[int, int]]:
    for number, entry in enumerate(entries):
        if number % 4096 == 0:
            pace.check()
        yield entry
