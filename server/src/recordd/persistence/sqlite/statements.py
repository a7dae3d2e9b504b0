"""What the writing connection does to the file, each function in a transaction of its caller.

All run on the connection's thread. Many rows go in by one statement of many VALUES: every
step of a statement gives the interpreter lock away and has to get it back, which on a
busy event loop costs more than the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence, Set
from typing import Final, cast

import apsw
import msgspec

from recordd.extending.backend import CleanupTarget, Purged
from recordd.extending.moments import Gone
from recordd.persistence.sqlite.damage import INDEX, naming
from recordd.persistence.sqlite.log_rows import LogRows
from recordd.persistence.sqlite.schema import FIRST_RECORD, Meta
from recordd.persistence.sqlite.tail import Key, Run

__all__ = [
    "CleanedUp",
    "begin_run",
    "clean_up",
    "forget_deletions",
    "insert_rows",
    "mark_deleted",
    "merge_slice",
    "purge_slice",
    "read_time",
    "remember_time",
    "renew",
    "set_meta",
    "sort_rows",
    "sort_run_of_memory",
]


class CleanedUp(msgspec.Struct, frozen=True):
    """What a cleanup did, how many targets are done, and the tick, None where nothing went."""

    purged: dict[str, Purged]
    done: int
    gone: list[Gone]
    tick: int | None


_MERGED_AT_ONCE: Final = 2000
"""Entries between two looks at whether somebody waits: some 2 ms."""
_CHUNKS: Final = (256, 64, 16, 4, 1)
# By the number of columns: where no row is late, `late` is what it is by default.
_INSERT_LOG: Final = {
    4: {
        n: "INSERT INTO log (rev, record, ts, value) VALUES " + ",".join(["(?,?,?,?)"] * n)
        for n in _CHUNKS
    },
    5: {
        n: "INSERT INTO log (rev, record, ts, value, late) VALUES " + ",".join(["(?,?,?,?,?)"] * n)
        for n in _CHUNKS
    },
}
_MAKE_RUN: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS run (record INTEGER, ts INTEGER, rev INTEGER,"
    " PRIMARY KEY (record, ts, rev)) WITHOUT ROWID; DELETE FROM temp.run"
)
_SORT_ROWS: Final = (
    "INSERT INTO temp.run SELECT record, ts, rev FROM log WHERE rev > ? AND rev <= ?"
    " ORDER BY record, ts, rev"
)
_INSERT_RUN: Final = {
    n: "INSERT INTO temp.run VALUES " + ",".join(["(?,?,?)"] * n) for n in _CHUNKS
}
# OR IGNORE: after a crash in the middle of a run, its first slices are there already.
_MERGE_SLICE: Final = (
    "INSERT OR IGNORE INTO history (record, ts, rev) SELECT record, ts, rev FROM temp.run"
    " WHERE (record, ts, rev) > (?, ?, ?) ORDER BY record, ts, rev LIMIT ?"
)
_FIND_SLICE_END: Final = (
    "SELECT record, ts, rev FROM temp.run WHERE (record, ts, rev) > (?, ?, ?)"
    " ORDER BY record, ts, rev LIMIT 2 OFFSET ?"
)
# A name may be that of a record without rows, which is as good as none: it becomes the new one.
# One by one: an upsert of many VALUES takes 7 µs a record instead of 4.
_INSERT_RECORD: Final = (
    "INSERT INTO record (id, name) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET id = excluded.id"
)
_COUNT_ROWS: Final = (
    "UPDATE record SET row_count = row_count + found.rows"
    " FROM (SELECT record, count(*) AS rows FROM temp.run GROUP BY record) AS found"
    " WHERE id = found.record"
)
_KEEP_NEXT_ID: Final = (
    "INSERT INTO meta SELECT ?, max(id) + 1 - ? FROM record WHERE true"
    " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)"
)
_SET_META: Final = (
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def _is_never() -> bool:
    return False


def insert_rows(db: apsw.Connection, records: Sequence[tuple[int, str]], rows: LogRows) -> None:
    """Append rows to the log, and the records that are new with them."""
    if records:
        db.executemany(_INSERT_RECORD, records)
    strung, width = rows.strung(), 5 if rows.late else 4
    _execute_strung(db, _INSERT_LOG[width], strung, width)


def set_meta(db: apsw.Connection, key: str, value: int) -> None:
    """Set an entry of the table `meta`."""
    db.execute(_SET_META, (key, value))


def read_time(db: apsw.Connection) -> int | None:
    """Return the time that was remembered last."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (Meta.RETENTION_TIME,)).get
    return None if found is None else int(found)


def remember_time(db: apsw.Connection, time_ms: int) -> None:
    """Remember a time."""
    db.execute(_SET_META, (Meta.RETENTION_TIME, time_ms))


def begin_run(db: apsw.Connection) -> None:
    """Make the place empty where a run is sorted."""
    db.execute(_MAKE_RUN).fetchall()


def sort_rows(db: apsw.Connection, after_rev: int, last_rev: int) -> int:
    """Sort rows of the log, behind one rev and up to another, into the run; return how many.

    In one step of a statement, beside the loop: 0.3 µs a row, where Python took 0.3 to 1.0 µs of
    the loop's time and SQLite 0.3 more to be given them (runs of 65,536 rows).

    Raises:
        DamagedStorage: the log is damaged there; memory has all entries still.
    """
    db.execute(_SORT_ROWS, (after_rev, last_rev))
    return db.changes()


def sort_run_of_memory(db: apsw.Connection, run: Run) -> None:
    """Sort a run for the index by the entries that memory has."""
    begin_run(db)
    for record, entries in sorted(run.entries.items()):
        _execute(db, _INSERT_RUN, [(record, ts, rev) for ts, rev in entries])


def merge_slice(
    db: apsw.Connection,
    last_rev: int,
    behind: Key,
    limit: int,
    is_awaited: Callable[[], bool] = _is_never,
) -> Key | None:
    """Index some entries of the sorted run, those behind a place; return where they end.

    They are fewer than `limit` where somebody waits for the connection. The last ones bring the
    new mark and the row counts, and None is returned. Both move in one transaction: after a crash
    in the middle of a run its first slices are there, but count for nothing, since all of it lies
    above the mark.
    """
    end: Key | None = behind
    while end is not None and limit > 0:
        end = _merge_some(db, end, min(limit, _MERGED_AT_ONCE))
        limit -= _MERGED_AT_ONCE
        if is_awaited():
            break
    if end is None:
        db.execute(_COUNT_ROWS)
        db.execute(_SET_META, (Meta.MERGED_REV, last_rev))
    return end


def _merge_some(db: apsw.Connection, behind: Key, limit: int) -> Key | None:
    """Index so many entries of the run; return where they end, None where they were the last."""
    ends = db.execute(_FIND_SLICE_END, (*behind, limit - 1)).fetchall()
    with naming(INDEX, db):
        db.execute(_MERGE_SLICE, (*behind, limit))
    return cast("Key", ends[0]) if len(ends) == 2 else None  # the second one is left


def mark_deleted(db: apsw.Connection, record: int, *, last_rev: int, deletion_rev: int) -> int:
    """Take a record's name away; its rows, now nobody's, are purged in slices later.

    They are purged when the index has come to `last_rev`, the last row's there is.

    Returns:
        The tick of it: see `recordd.extending.moments`.
    """
    _take_name(db, record, last_rev=last_rev, deletion_rev=deletion_rev)
    return _count_tick(db)


def purge_slice(
    db: apsw.Connection, merged_rev: int, limit: int, *, keep: Set[int] = frozenset()
) -> bool:
    """Delete some rows of deleted records that are wholly indexed; return whether any were left.

    Records in `keep` stay: some reader still shows them. A record counts as a row, since
    many may have none any more.
    """
    found = db.execute(
        "SELECT id FROM record WHERE name IS NULL AND deleted_at_rev <= ? LIMIT ?",
        (merged_rev, limit + len(keep)),
    ).fetchall()
    doomed = [record for (record,) in cast("list[tuple[int]]", found) if record not in keep]
    if doomed:  # the ids that go may be the newest there were
        db.execute(_KEEP_NEXT_ID, (Meta.NEXT_RECORD_ID, FIRST_RECORD))
    for record in doomed:
        rows = db.execute("SELECT ts, rev FROM history WHERE record = ? LIMIT ?", (record, limit))
        entries = cast("list[tuple[int, int]]", rows.fetchall())
        _delete_rows(db, record, entries)
        if len(entries) >= limit:
            break
        db.execute("DELETE FROM record WHERE id = ?", (record,))
        limit -= len(entries) + 1
        if limit <= 0:
            break
    return bool(doomed)


def forget_deletions(db: apsw.Connection, keep: int) -> int:
    """Forget the names of all but the newest deletions; return how many are left."""
    oldest = db.execute("SELECT rev FROM deletion ORDER BY rev DESC LIMIT 1 OFFSET ?", (keep,)).get
    if oldest is not None:
        db.execute("DELETE FROM deletion WHERE rev <= ?", (oldest,))
        db.execute(_SET_META, (Meta.DELETED_REV, oldest))
    return cast("int", db.execute("SELECT count(*) FROM deletion").get)


def clean_up(
    db: apsw.Connection,
    targets: Sequence[tuple[int, CleanupTarget]],
    *,
    merged_rev: int,
    unmerged: Set[int],
    limit: int,
) -> CleanedUp:
    """Delete up to `limit` rows past their rules; see `PersistenceBackend.cleanup`.

    Records in `unmerged` have rows that are not in the index yet.
    """
    deleted: dict[str, Purged] = {}
    gone: list[Gone] = []
    done = 0
    for record, target in targets:
        entries = _find_doomed(db, record, target, merged_rev, limit)
        is_spent = bool(entries) and record not in unmerged and len(entries) == _count(db, record)
        if is_spent:
            entries.pop()
        newest_rev = 0
        if entries:
            gone.append(_take_rows(db, record, target.name, entries))
            newest_rev = gone[-1].newest_rev
        if entries or is_spent:
            deleted[target.name] = Purged(len(entries), newest_rev, is_spent)
        limit -= len(entries)
        if limit <= 0:
            break
        done += 1
    tick = _count_tick(db) if gone else None
    return CleanedUp(deleted, done, gone, tick)


def renew(db: apsw.Connection, row: LogRows, name: str, replaced: tuple[int, int]) -> int:
    """Take a record's (`ts`, `rev`) away and append a row; return the tick of it."""
    _take_rows(db, row.records[0], name, [replaced])
    insert_rows(db, [], row)
    return _count_tick(db)


def _take_rows(db: apsw.Connection, record: int, name: str, entries: list[tuple[int, int]]) -> Gone:
    """Delete rows of a record that are indexed, (`ts`, `rev`) in order, and count them off."""
    _delete_rows(db, record, entries)
    revs = [rev for _, rev in entries]
    db.execute(
        "UPDATE record SET row_count = row_count - ?, purged_rev = max(purged_rev, ?) WHERE id = ?",
        (len(entries), max(revs), record),
    )
    return Gone(name, entries[-1], min(revs), max(revs))


def _count(db: apsw.Connection, record: int) -> int:
    """Return how many rows of a record are indexed."""
    count = db.execute("SELECT row_count FROM record WHERE id = ?", (record,)).get
    return cast("int", count or 0)


def _find_doomed(
    db: apsw.Connection, record: int, target: CleanupTarget, merged_rev: int, limit: int
) -> list[tuple[int, int]]:
    """Return index entries of rows that the target is about, oldest first."""
    if target.newer_than_ms is None:
        return _find_outlived(db, record, target, merged_rev, limit)
    newer = db.execute(
        "SELECT ts, rev FROM history WHERE record = ? AND ts > ? AND rev <= ?"
        " ORDER BY ts, rev LIMIT ?",
        (record, target.newer_than_ms, merged_rev, limit),
    )
    entries = cast("list[tuple[int, int]]", newer.fetchall())
    if target.keep_latest and entries and entries[-1] == _find_newest(db, record):
        entries.pop()
    return entries


def _find_outlived(
    db: apsw.Connection, record: int, target: CleanupTarget, merged_rev: int, limit: int
) -> list[tuple[int, int]]:
    """Return index entries of rows past their rule, oldest first."""
    count = _count(db, record)
    newest = _find_newest(db, record)
    excess = 0 if target.max_rows is None else count - target.max_rows
    entries: list[tuple[int, int]] = []
    oldest = db.execute(
        "SELECT ts, rev FROM history WHERE record = ? AND rev <= ? ORDER BY ts, rev LIMIT ?",
        (record, merged_rev, limit),
    )
    for ts, rev in oldest:
        is_old = target.older_than_ms is not None and ts < target.older_than_ms
        if not is_old and len(entries) >= excess:
            break
        if target.keep_latest and (ts, rev) == newest:
            break
        entries.append((ts, rev))
    return entries


def _find_newest(db: apsw.Connection, record: int) -> tuple[int, int] | None:
    newest = db.execute(
        "SELECT ts, rev FROM history WHERE record = ? ORDER BY ts DESC, rev DESC LIMIT 1", (record,)
    ).get
    return cast("tuple[int, int] | None", newest)


def _take_name(db: apsw.Connection, record: int, *, last_rev: int, deletion_rev: int) -> None:
    db.execute(
        "INSERT OR REPLACE INTO deletion SELECT ?, name FROM record WHERE id = ?",
        (deletion_rev, record),
    )
    db.execute(_SET_META, (Meta.GIVEN_REV, deletion_rev))
    db.execute("UPDATE record SET name = NULL, deleted_at_rev = ? WHERE id = ?", (last_rev, record))


def _count_tick(db: apsw.Connection) -> int:
    """Count that rows have gone, in the transaction in which they go."""
    db.execute(
        "INSERT INTO meta VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET value = value + 1",
        (Meta.TICK,),
    )
    return cast("int", db.execute("SELECT value FROM meta WHERE key = ?", (Meta.TICK,)).get)


def _delete_rows(db: apsw.Connection, record: int, entries: list[tuple[int, int]]) -> None:
    db.executemany("DELETE FROM log WHERE rev = ?", [(rev,) for _, rev in entries])
    db.executemany(
        "DELETE FROM history WHERE record = ? AND ts = ? AND rev = ?",
        [(record, ts, rev) for ts, rev in entries],
    )


def _execute(
    db: apsw.Connection, statements: dict[int, str], rows: Sequence[tuple[int | str, ...]]
) -> None:
    """Do for all rows as a statement does for some, in as few as the chunk sizes allow."""
    if rows:
        strung = list(itertools.chain.from_iterable(rows))
        _execute_strung(db, statements, strung, len(rows[0]))


def _execute_strung(
    db: apsw.Connection, statements: dict[int, str], strung: Sequence[int | str], width: int
) -> None:
    """Do as `_execute` for rows of which one stands behind the other, each so many values."""
    start = 0
    for size in _CHUNKS:
        end = start + width * size
        while end <= len(strung):
            db.execute(statements[size], tuple(strung[start:end]))
            start, end = end, end + width * size
