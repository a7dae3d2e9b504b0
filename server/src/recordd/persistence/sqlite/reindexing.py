"""The index made anew from the log, where a start finds it damaged.

`history` and its `timeline` are derived: they hold nothing that the log does not. The old
ones are taken out of the schema and their pages are left as they are. To drop them would
follow page numbers that are damaged, and give away pages that others use.
"""

from __future__ import annotations

import logging
from typing import Final

import apsw

from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.copying import Progress, watch_progress
from recordd.persistence.sqlite.mending import find_missing
from recordd.persistence.sqlite.schema import Meta

__all__ = ["reindex"]

logger: Final = logging.getLogger(__name__)

_FILL: Final = """
    INSERT INTO history (record, ts, rev) SELECT record, ts, rev FROM log ORDER BY record, ts, rev;
    UPDATE record SET row_count = (SELECT count(*) FROM history WHERE history.record = record.id);
"""
_SET_MERGED: Final = (
    "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = max(value, ?2)"
)


def reindex(db: apsw.Connection, path: str, progress: Progress) -> bool:
    """Make the index anew, in one transaction; return false where commits are missing.

    Raises:
        apsw.Error: something else is damaged too, or there is no room; nothing is changed.
    """
    watch_progress(db, progress, "seconds of indexing")
    try:
        with db:
            if find_missing(path, structure.summarize(db)) is not None:
                return False
            _empty_index(db)
            db.execute(_FILL)
            merged_rev = db.execute("SELECT max(rev) FROM log").get or 0
            db.execute(_SET_MERGED, (Meta.MERGED_REV, merged_rev))
    finally:
        db.set_progress_handler(None)
    logger.error("%s: the index was damaged and is made anew from the log; nothing is lost", path)
    return True


def _empty_index(db: apsw.Connection) -> None:
    """Put new and empty trees in the place of the old ones."""
    found = db.execute("SELECT sql FROM sqlite_schema WHERE tbl_name = 'history' ORDER BY rowid")
    statements = [sql for (sql,) in found if sql]
    db.pragma("writable_schema", True)
    try:
        db.execute("DELETE FROM sqlite_schema WHERE tbl_name = 'history'")
    finally:
        db.execute("PRAGMA writable_schema = RESET")
    for sql in statements:
        db.execute(sql)
