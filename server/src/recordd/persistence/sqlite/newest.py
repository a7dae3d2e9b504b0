"""The newest few rows of each of many records.

Where a record's rows start is told by its newest ones alone, so each page looks at each
record that has rows left: one small statement a record, some 9 µs, by one cursor. What a
page does not need of them is forgotten at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, cast

import apsw

from recordd.persistence.sqlite.plans import Key, Pace, QueryPlan

__all__ = ["read_newest"]

_CHECK_EVERY: Final = 256
"""Records between two looks at the deadline: a few ms."""

_NEWEST: Final = (
    "SELECT ts, rev, record FROM history WHERE record = ?1 AND ts BETWEEN ?2 AND ?3"
    " AND rev <= ?4 ORDER BY ts DESC, rev DESC LIMIT ?5"
)


def read_newest(
    db: apsw.Connection, plan: QueryPlan, records: Iterable[int], limit: int, pace: Pace
) -> list[Key]:
    """Return the keys of a page, and one more, in order: of the newest `limit` of each record."""
    # One more tells that there is more, whatever else ends the page.
    return heapq.nsmallest(plan.page.rows + 1, _newest_keys(db, plan, records, limit, pace))


def _newest_keys(
    db: apsw.Connection, plan: QueryPlan, records: Iterable[int], limit: int, pace: Pace
) -> Iterator[Key]:
    """Yield what lies behind the page's start, in no order."""
    cursor, start = db.cursor(), plan.start
    for number, record in enumerate(records):
        if not number % _CHECK_EVERY:
            pace.check()
        bounds = (record, plan.start_ms, plan.end_ms, plan.last_rev_on_disk, limit)
        keys = cast("list[Key]", cursor.execute(_NEWEST, bounds).fetchall())
        if in_tail := plan.tail_keys(record):
            keys = heapq.nlargest(limit, keys + in_tail)
        for key in keys:
            if key[:2] <= start:
                break  # and so are the older ones
            yield key
