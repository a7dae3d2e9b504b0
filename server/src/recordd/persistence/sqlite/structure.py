"""The logical soundness of a database, independent of its checksums.

Everything is read on one connection and in one transaction, so a running daemon may go on
writing meanwhile.
"""

from __future__ import annotations

from typing import Final, cast

import apsw
import msgspec

from recordd.persistence.sqlite.files import raise_passing
from recordd.persistence.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION, Meta

__all__ = ["Summary", "check_ours", "find_contradictions", "summarize"]

_REVS: Final = (Meta.DELETED_REV, Meta.GIVEN_REV)

_MAX_FINDINGS: Final = 20

# By the version that brought them. Text of the schema that is damaged names others.
_COLUMNS: Final = (
    (1, "SELECT key, value FROM meta"),
    (1, "SELECT id, name, row_count, deleted_at_rev FROM record"),
    (1, "SELECT rev, record, ts, value FROM log"),
    (1, "SELECT record, ts, rev FROM history"),
    (2, "SELECT late FROM log"),
    (2, "SELECT purged_rev FROM record"),
    (3, "SELECT rev, name FROM deletion"),
    (4, "SELECT ts, rev FROM history INDEXED BY timeline"),
)

# Each counts contradictions; 0 where all is well.
_CONTRADICTIONS: Final = (
    (
        "{} rows of the log are missing from the index",
        "SELECT count(*) FROM log WHERE rev <= :merged_rev AND NOT EXISTS"
        " (SELECT 1 FROM history AS h"
        " WHERE h.record = log.record AND h.ts = log.ts AND h.rev = log.rev)",
    ),
    (
        "{} entries of the index have no row in the log",
        "SELECT count(*) FROM history AS h WHERE NOT EXISTS (SELECT 1 FROM log"
        " WHERE log.rev = h.rev AND log.record = h.record AND log.ts = h.ts)",
    ),
    (
        "{} records have another number of rows than is kept",
        "SELECT count(*) FROM record WHERE name IS NOT NULL AND row_count <>"
        " (SELECT count(*) FROM history AS h WHERE h.record = record.id AND h.rev <= :merged_rev)",
    ),
    (
        "{} rows of the log belong to no record",
        "SELECT count(*) FROM log WHERE record NOT IN (SELECT id FROM record)",
    ),
    (
        "{} values are no JSON",
        "SELECT count(*) FROM log WHERE NOT json_valid(value)",
    ),
)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a database: its epoch, its newest `rev` ever given, and its counts."""

    epoch: str
    rev: int
    rows: int
    records: int
    schema_version: int


def check_ours(db: apsw.Connection) -> str | None:
    """Return why this is no database for this recordd, or None where it is one.

    Raises:
        apsw.Error: it is no database at all, or its first page cannot be read.
    """
    if int(db.pragma("application_id")) != APPLICATION_ID:
        return "a database of another program, or of none"
    version = int(db.pragma("user_version"))
    if not 0 < version <= SCHEMA_VERSION:
        known = f"(schema {version}, this one knows {SCHEMA_VERSION})"
        return f"made by a newer recordd {known}"
    return None


def summarize(db: apsw.Connection) -> Summary:
    """Read what the database holds.

    Raises:
        apsw.Error: something of it cannot be read.
    """
    meta = dict(db.execute("SELECT key, value FROM meta"))
    purged = db.execute("SELECT max(purged_rev) FROM record").get if _version_of(db) >= 2 else 0
    last = db.execute("SELECT max(rev) FROM log").get
    deleted = db.execute("SELECT max(rev) FROM deletion").get if _version_of(db) >= 3 else 0
    return Summary(
        epoch=meta[Meta.EPOCH],
        rev=max(last or 0, purged or 0, deleted or 0, *(meta.get(key, 0) for key in _REVS)),
        rows=cast("int", db.execute("SELECT count(*) FROM log").get),
        records=cast("int", db.execute("SELECT count(*) FROM record WHERE name IS NOT NULL").get),
        schema_version=_version_of(db),
    )


def find_contradictions(db: apsw.Connection) -> list[str]:
    """Return the faults of the structure and between the tables, a line each.

    Reads the whole file, some of it several times. Checksums are looked at as the
    connection is set.
    """
    try:
        found = [f"structure: {line}" for (line,) in _check_integrity(db) if line != "ok"]
        if not found:  # in a broken structure the tables would only repeat it
            found = _compare_tables(db)
    except apsw.Error as error:
        raise_passing(error)
        found = [f"unreadable: {error}"]
    return found


def _check_integrity(db: apsw.Connection) -> list[tuple[str]]:
    return cast(
        "list[tuple[str]]", db.execute(f"PRAGMA integrity_check({_MAX_FINDINGS})").fetchall()
    )


def _compare_tables(db: apsw.Connection) -> list[str]:
    merged_rev = db.execute("SELECT value FROM meta WHERE key = ?", (Meta.MERGED_REV,)).get or 0
    if not isinstance(merged_rev, int):
        return [f"meta: {Meta.MERGED_REV} is no number"]
    found = []
    for version, query in _COLUMNS:
        if version <= _version_of(db):
            db.execute(f"{query} LIMIT 0")
    if not isinstance(db.execute("SELECT value FROM meta WHERE key = ?", (Meta.EPOCH,)).get, str):
        found.append("meta: there is no epoch")
    for text, query in _CONTRADICTIONS:
        if count := db.execute(query, {"merged_rev": merged_rev}).get:
            found.append(text.format(count))
    return found


def _version_of(db: apsw.Connection) -> int:
    return int(db.pragma("user_version"))
