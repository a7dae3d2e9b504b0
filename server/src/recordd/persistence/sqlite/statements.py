"""What the writing connection does to the file, each function in a transaction of its caller.

All run on the connection's thread. Many rows go in by one statement of many VALUES: every
step of a statement gives the interpreter lock away and has to get it back, which on a
busy event loop costs more than the row.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final, cast

import apsw
import msgspec

from recordd.extending.backend import CleanupTarget, Purged
from recordd.extending.moments import Gone
from recordd.persistence.sqlite.damage import INDEX, naming
from recordd.persistence.sqlite.schema import Meta
from recordd.persistence.sqlite.tail import MergedRun, Run

__all__ = [
    "CleanedUp",
    "LogRow",
    "clean_up",
    "forget_deletions",
    "insert_rows",
    "mark_deleted",
    "merge_slice",
    "purge_slice",
    "read_time",
    "remember_time",
]

LogRow = tuple[int, int, int, str, bool]
"""`rev`, record id, `ts`, value, whether it came late."""


class CleanedUp(msgspec.Struct, frozen=True):
    """What a cleanup did, how many targets are done, and the tick, None where nothing went."""

    purged: dict[str, Purged]
    done: int
    gone: list[Gone]
    tick: int | None


_CHUNKS: Final = (256, 64, 16, 4, 1)
_INSERT_LOG: Final = {
    n: "INSERT INTO log (rev, record, ts, value, late) VALUES " + ",".join(["(?,?,?,?,?)"] * n)
    for n in _CHUNKS
}
# OR IGNORE: after a crash in the middle of a run, its first slices are there already.
_INSERT_HISTORY: Final = {
    n: "INSERT OR IGNORE INTO history (record, ts, rev) VALUES " + ",".join(["(?,?,?)"] * n)
    for n in _CHUNKS
}
_SET_META: Final = (
    "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def insert_rows(
    db: apsw.Connection, records: Sequence[tuple[int, str]], rows: Sequence[LogRow]
) -> None:
    """Append rows to the log, and the records that are new with them."""
    if records:
        db.executemany("INSERT INTO record (id, name) VALUES (?, ?)", records)
    _insert(db, _INSERT_LOG, rows)


def read_time(db: apsw.Connection) -> int | None:
    """Return the time that was remembered last."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (Meta.RETENTION_TIME,)).get
    return None if found is None else int(found)


def remember_time(db: apsw.Connection, time_ms: int) -> None:
    """Remember a time."""
    db.execute(_SET_META, (Meta.RETENTION_TIME, time_ms))


def merge_slice(db: apsw.Connection, entries: Run, last: MergedRun | None) -> None:
    """Index some entries of a run. The last ones bring the new mark and the row counts.

    Both move in one transaction: after a crash in the middle of a run its first slices
    are there, but count for nothing, since all of it lies above the mark.
    """
    with naming(INDEX, db):
        _insert(db, _INSERT_HISTORY, entries)
    if last is not None:
        db.executemany(
            "UPDATE record SET row_count = row_count + ? WHERE id = ?",
            [(count, record) for record, count in last.counts.items()],
        )
        db.execute(_SET_META, (Meta.MERGED_REV, last.rev))


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
    next_rev: int,
) -> CleanedUp:
    """Delete up to `limit` rows past their rules; see `PersistenceBackend.cleanup`.

    Records in `unmerged` have rows that are not in the index yet.
    """
    deleted: dict[str, Purged] = {}
    gone: list[Gone] = []
    done = 0
    for record, target in targets:
        entries = _find_doomed(db, record, target, merged_rev, limit)
        if entries:
            _delete_rows(db, record, entries)
            revs = [rev for _, rev in entries]
            newest_rev = max(revs)
            gone.append(Gone(target.name, entries[-1], min(revs), newest_rev))
            db.execute(
                "UPDATE record SET row_count = row_count - ?,"
                " purged_rev = max(purged_rev, ?) WHERE id = ?",
                (len(entries), newest_rev, record),
            )
            deletion_rev = renewed_rev = None
            left = db.execute("SELECT row_count FROM record WHERE id = ?", (record,)).get
            if not left and record not in unmerged:
                deletion_rev, next_rev = next_rev, next_rev + 1
                _take_name(db, record, last_rev=merged_rev, deletion_rev=deletion_rev)
            elif target.renewed is not None and not _find_doomed(db, record, target, merged_rev, 1):
                renewed_rev, next_rev = next_rev, next_rev + 1
                again = (renewed_rev, record, target.renewed.ts, target.renewed.value.decode())
                _insert(db, _INSERT_LOG, [(*again, False)])
            deleted[target.name] = Purged(len(entries), newest_rev, deletion_rev, renewed_rev)
        limit -= len(entries)
        if limit <= 0:
            break
        done += 1
    tick = _count_tick(db) if gone else None
    return CleanedUp(deleted, done, gone, tick)


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
    return cast("list[tuple[int, int]]", newer.fetchall())


def _find_outlived(
    db: apsw.Connection, record: int, target: CleanupTarget, merged_rev: int, limit: int
) -> list[tuple[int, int]]:
    """Return index entries of rows past their rule, oldest first."""
    count = db.execute("SELECT row_count FROM record WHERE id = ?", (record,)).get or 0
    newest = db.execute(
        "SELECT ts, rev FROM history WHERE record = ? ORDER BY ts DESC, rev DESC LIMIT 1", (record,)
    ).get
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


def _insert(
    db: apsw.Connection, statements: dict[int, str], rows: Sequence[tuple[int | str, ...]]
) -> None:
    """Insert rows in as few statements as the chunk sizes allow."""
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            chunk = rows[start : start + size]
            db.execute(statements[size], [column for row in chunk for column in row])
            start += size
