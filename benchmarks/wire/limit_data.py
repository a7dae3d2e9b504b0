"""The least storage that keeps recordd's promises: its tables, without its care around them.

Writes append to `log`, and are synced before they are acknowledged; every page has a checksum.
`history` is its index by record and time, merged in sorted runs; `timeline` is that by time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import apsw

from benchmarks.wire.data import Row

__all__ = [
    "DATABASE",
    "LAST",
    "LAST_OF_EACH",
    "LATEST",
    "RANGE",
    "LogRow",
    "append_rows",
    "count_rows",
    "fill",
    "load_indexed",
    "open_database",
]

DATABASE: Final = "log.db"
"""The file's name in the folder of a server."""

LogRow = tuple[int, int, int, str]
"""`rev`, record id, `ts`, value."""

_TABLES: Final = """
    CREATE TABLE record (id INTEGER PRIMARY KEY, name TEXT UNIQUE) STRICT;
    CREATE TABLE log (
        rev INTEGER PRIMARY KEY, record INTEGER NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL
    ) STRICT;
    CREATE TABLE history (
        record INTEGER NOT NULL, ts INTEGER NOT NULL, rev INTEGER NOT NULL,
        PRIMARY KEY (record, ts, rev)
    ) STRICT, WITHOUT ROWID;
"""
_TIMELINE: Final = "CREATE INDEX timeline ON history (ts, rev)"
_APPEND: Final = "INSERT INTO log VALUES (?,?,?,?)"
_INDEX: Final = "INSERT INTO history VALUES (?,?,?)"
_PAGE_ROWS: Final = 8_900
"""As many as recordd's first page of 1 MiB holds of these."""

_BODY: Final = (
    """'"name":"' || name || '","value":' || value || ',"ts":' || key.ts || ',"rev":' || key.rev"""
)
_NEWEST: Final = (
    "SELECT ts, rev FROM history WHERE record = {id} ORDER BY ts DESC, rev DESC LIMIT 1"
)


def _find_first(id: str, limit: str) -> str:
    """Return the place of the first of a record's newest rows; before all where it has fewer."""
    newest = _NEWEST.format(id=id)
    return f"(SELECT * FROM ({newest} OFFSET {limit} - 1) UNION ALL SELECT 0, 0 LIMIT 1)"


def _join_rows(keys: str) -> str:
    # LIMIT -1 keeps SQLite from putting the text of a row together twice.
    return (
        f"SELECT CAST(group_concat(body, '}},{{') AS BLOB) FROM (SELECT {_BODY} AS body"
        f" FROM ({keys}) key JOIN log ON log.rev = key.rev LIMIT -1)"
    )


RANGE: Final = _join_rows(
    "SELECT ts, rev, ?1 AS name FROM history"
    " WHERE record = ?2 AND ts BETWEEN ?3 AND ?4 ORDER BY ts, rev"
)
"""The text of the rows of a record between two times."""

LAST: Final = _join_rows(
    "SELECT ts, rev, ?1 AS name FROM history"
    f" WHERE record = ?2 AND (ts, rev) >= {_find_first('?2', '?3')} ORDER BY ts, rev"
)
"""The text of the newest rows of a record, read from the first of them on: nothing is sorted."""

# CROSS: SQLite would go through all of the index, and look at each entry.
LAST_OF_EACH: Final = _join_rows(
    "SELECT ts, rev, name FROM record CROSS JOIN history"
    f" ON record = id AND (ts, rev) >= {_find_first('id', '?1')}"
    f" ORDER BY ts, rev LIMIT {_PAGE_ROWS}"
)
"""The text of a first page of the newest rows of every record."""

LATEST: Final = (
    f"SELECT name, {_BODY} FROM record JOIN log AS key"
    f" ON key.rev = (SELECT rev FROM ({_NEWEST.format(id='id')})) ORDER BY key.ts, key.rev"
)
"""Names, and the text of their latest rows."""

_ROWS_PER_COMMIT: Final = 4000
"""As many as the load has in flight."""
_ROWS_PER_RUN: Final = 65_536
_CACHE_KIB: Final = 65_536
_WAL_PAGES: Final = 4000
"""16 MiB: checkpoints are seldom, and soon the WAL is written over: that syncs in two thirds of
the time that a growing file takes."""
_CHECKSUMS: Final = "cksmvfs"
_CHECKSUM_BYTES: Final = 8


def open_database(path: Path) -> apsw.Connection:
    """Open a file, a new one too, as a writer that loses nothing."""
    if _CHECKSUMS not in apsw.vfs_names():
        apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
    db = apsw.Connection(str(path), vfs=_CHECKSUMS)
    if not db.pragma("page_count"):
        db.reserve_bytes("main", _CHECKSUM_BYTES)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    db.pragma("cache_size", -_CACHE_KIB)
    db.wal_autocheckpoint(_WAL_PAGES)
    return db


def append_rows(
    db: apsw.Connection, rows: Sequence[LogRow], records: Sequence[tuple[int, str]] = ()
) -> None:
    """Commit rows to the log, and the records that are new with them."""
    if len(rows) == 1 and not records:  # a transaction of its own: two statements less
        db.execute(_APPEND, rows[0])
        return
    db.execute("BEGIN IMMEDIATE")
    if records:
        db.executemany("INSERT INTO record VALUES (?,?)", records)
    db.executemany(_APPEND, rows)
    db.execute("COMMIT")


def fill(folder: Path, rows: Iterable[Row] = ()) -> None:
    """Make `folder` with a database of these rows, indexed by record and time."""
    folder.mkdir()
    db = open_database(folder / DATABASE)
    db.execute(_TABLES)
    ids: dict[str, int] = {}
    records: list[tuple[int, str]] = []
    append_rows(db, list(_number_rows(rows, ids, records)), records)
    db.execute("INSERT INTO history SELECT record, ts, rev FROM log ORDER BY record, ts, rev")
    db.close()


def load_indexed(folder: Path, rows: Iterable[Row]) -> float:
    """Commit rows and merge both indexes in sorted runs, without a server; return the seconds."""
    folder.mkdir()
    db = open_database(folder / DATABASE)
    db.execute(_TABLES)
    db.execute(_TIMELINE)
    ids: dict[str, int] = {}
    records: list[tuple[int, str]] = []
    numbered = list(_number_rows(rows, ids, records))
    started = time.perf_counter()
    append_rows(db, [], records)
    tail: list[LogRow] = []
    left = iter(numbered)
    while some := list(islice(left, _ROWS_PER_COMMIT)):
        append_rows(db, some)
        tail += some
        if len(tail) >= _ROWS_PER_RUN:
            _merge(db, tail)
            tail.clear()
    seconds = time.perf_counter() - started
    db.close()
    return seconds


def count_rows(folder: Path) -> int:
    """Return how many rows a log has."""
    db = open_database(folder / DATABASE)
    rows: int = db.execute("SELECT count(*) FROM log").get
    db.close()
    return rows


def _merge(db: apsw.Connection, tail: Sequence[LogRow]) -> None:
    run = sorted((record, ts, rev) for rev, record, ts, _ in tail)
    db.execute("BEGIN IMMEDIATE")
    db.executemany(_INDEX, run)
    db.execute("COMMIT")


def _number_rows(
    rows: Iterable[Row], ids: dict[str, int], records: list[tuple[int, str]]
) -> Iterator[LogRow]:
    """Yield rows as the log has them; `ids` and `records` gain the records that are new."""
    for rev, (name, ts, value) in enumerate(rows, 1):
        if name not in ids:
            ids[name] = len(ids) + 1
            records.append((ids[name], name))
        yield rev, ids[name], ts, value.decode()
