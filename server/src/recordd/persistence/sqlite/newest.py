"""The newest few rows of each of many records, in time order.

Theory of operation. Where a record's rows start is told by its newest ones alone, so a page
looks at each record that may have rows left. One statement does so for all of them: for each
it steps back over the newest few, takes what lies from there on, and keeps the earliest of
all, as many as a page has room for. That is 1 µs a record, whatever its history, without the
interpreter lock; a statement for each record would take 10 µs. Of many more records than a page
has rows, one looks for the first row of each alone, half a microsecond, and the other at the
records whose first rows are the earliest: no other record has a row on the page. Records with rows
that are not on disk yet are looked at apart: which rows are the newest is decided here then.
"""

from __future__ import annotations

import array
import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import apsw

from recordd.persistence.sqlite.damage import INDEX, naming
from recordd.persistence.sqlite.plans import Key, Pace, QueryPlan

__all__ = ["read_newest"]

_RECORDS_AT_ONCE: Final = 1024
_KEYS_AT_ONCE: Final = 65_536
"""Bounds of a statement whose keys are all kept until the next one."""

_WORTH: Final = 2
"""Records for each row of a page, from which on the first rows are looked for by themselves."""

_KEY_BITS: Final = 62

_COUNTED: Final = "record = value AND (ts, rev) > (:ts, :rev) AND ts <= :end AND rev <= :last"

# To count only what lies behind the page's start comes to the same: it is what is newest.
# `value` is the record. CROSS JOIN keeps the order of the loops.
_NEWEST: Final = f"""
    SELECT h.ts, h.rev, h.record
    FROM carray(:records) CROSS JOIN history h
    WHERE h.record = value AND h.ts <= :end AND h.rev <= :last
      AND (h.ts, h.rev) >= (
        SELECT * FROM (
            SELECT ts, rev FROM history
            WHERE {_COUNTED}
            ORDER BY ts DESC, rev DESC LIMIT 1 OFFSET :limit - 1)
        UNION ALL SELECT :ts, :rev + 1 LIMIT 1)
"""
# The first row's place as one integer, by which SQLite gives both without a second look. LIMIT -1
# keeps it from looking again where the result is compared.
_FIRST: Final = f"""
    SELECT value FROM (
        SELECT value, ifnull(
            (SELECT (ts - :base) << :bits | rev FROM history
                WHERE {_COUNTED} ORDER BY ts DESC, rev DESC LIMIT 1 OFFSET :limit - 1),
            (SELECT (ts - :base) << :bits | rev FROM history
                WHERE {_COUNTED} ORDER BY ts, rev LIMIT 1)) AS first
        FROM carray(:records) LIMIT -1)
    WHERE first IS NOT NULL ORDER BY first LIMIT :most
"""
_TIMES: Final = "SELECT (SELECT min(ts) FROM history), (SELECT max(ts) FROM history)"
_EARLIEST: Final = f"{_NEWEST} ORDER BY h.ts, h.rev LIMIT :most"


def read_newest(
    db: apsw.Connection, plan: QueryPlan, records: Sequence[int], limit: int, pace: Pace
) -> list[Key]:
    """Return the keys of a page, and one more, in order: of the newest `limit` of each record."""
    most = plan.page.rows + 1  # one more tells that there is more, whatever else ends the page
    in_tail: dict[int, list[Key]] = {}
    for key in plan.keys_in_tail(records):
        in_tail.setdefault(key[2], []).append(key)
    alone = [record for record in records if record not in in_tail] if in_tail else records
    # In the order of the index: neighbours are on one page of it.
    first = _find_first(db, plan, sorted(alone), limit, most)
    keys = _read(db, _EARLIEST, plan, first, limit=limit, most=most)
    if not in_tail:
        return keys
    return heapq.nsmallest(most, itertools.chain(keys, _merge(db, plan, in_tail, limit, pace)))


def _find_first(
    db: apsw.Connection, plan: QueryPlan, records: Sequence[int], limit: int, most: int
) -> Sequence[int]:
    """Return the records that may have one of the earliest rows, in order; all where few."""
    if len(records) <= _WORTH * most:
        return records
    with naming(INDEX, db):
        oldest, newest = cast("tuple[int, int]", db.execute(_TIMES).get)
    bits = plan.last_rev_on_disk.bit_length()
    if oldest is None or (newest - oldest).bit_length() + bits > _KEY_BITS:
        return records
    more = {"limit": limit, "most": most, "base": oldest, "bits": bits}
    return sorted([record for (record,) in _read(db, _FIRST, plan, records, **more)])


def _merge(
    db: apsw.Connection, plan: QueryPlan, in_tail: dict[int, list[Key]], limit: int, pace: Pace
) -> Iterator[Key]:
    """Yield the newest keys of records that have some in the tail, in no order."""
    records = sorted(in_tail)
    chunk = max(1, min(_RECORDS_AT_ONCE, _KEYS_AT_ONCE // limit))
    for start in range(0, len(records), chunk):
        pace.check()
        some = records[start : start + chunk]
        for key in _read(db, _NEWEST, plan, some, limit=limit):
            in_tail[key[2]].append(key)
        for record in some:
            keys = in_tail.pop(record)
            yield from keys if len(keys) <= limit else heapq.nlargest(limit, keys)


def _read(
    db: apsw.Connection, statement: str, plan: QueryPlan, records: Sequence[int], **more: int
) -> list[Any]:
    if not records:
        return []
    ts, rev = plan.start
    bounds = {
        "records": apsw.carray(array.array("q", records)),
        "ts": ts,
        "rev": rev,
        "end": plan.end_ms,
        "last": plan.last_rev_on_disk,
        **more,
    }
    with naming(INDEX, db):
        return db.execute(statement, bounds).fetchall()
