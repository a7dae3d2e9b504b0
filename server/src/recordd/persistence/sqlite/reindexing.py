"""The parts of a file that a start can make anew where it finds them damaged.

`history` and its `timeline` are derived from the log, and so are the lists of names that SQLite
keeps for `record` and `deletion`: they hold nothing that the tables do not. The table `record`
can be made anew from its list of names: counts are counted, and where rows were deleted that is
taken to be everywhere, so that followers start afresh. So they do without the table `deletion`.
New trees are made and take the place of the old ones in the schema. To drop the old ones would
follow page numbers that are damaged, and give away pages that others use; their pages are left
as they are, until the file is written anew without them, at once where it is not too large.
"""

from __future__ import annotations

import enum
import logging
import os
import struct
from typing import Final, cast

import apsw

from recordd.extending.backend import UnreadableStorage
from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.copying import Progress, watch_progress
from recordd.persistence.sqlite.damage import describe_damage
from recordd.persistence.sqlite.diagnosis import diagnose_pages
from recordd.persistence.sqlite.mending import find_missing
from recordd.persistence.sqlite.pages import PageFile, stamp
from recordd.persistence.sqlite.schema import Meta

__all__ = ["IndexMender"]

logger: Final = logging.getLogger(__name__)


class _Part(enum.Enum):
    """The parts that can be made anew, in this order."""

    RECORDS = "the table record"
    RECORD_NAMES = "the list of names of the table record"
    DELETIONS = "the table deletion"
    DELETION_NAMES = "the list of names of the table deletion"
    HISTORY = "the index"


_LOOKS: Final = {
    _Part.RECORDS: ("SELECT count(*) FROM record NOT INDEXED",),
    _Part.RECORD_NAMES: ("SELECT count(name) FROM record INDEXED BY sqlite_autoindex_record_1",),
    _Part.DELETIONS: ("SELECT count(*) FROM deletion NOT INDEXED",),
    _Part.DELETION_NAMES: (
        "SELECT count(name) FROM deletion INDEXED BY sqlite_autoindex_deletion_1",
    ),
    _Part.HISTORY: (
        "SELECT count(*) FROM history NOT INDEXED",
        "SELECT sum(rev) FROM history INDEXED BY timeline",
    ),
}
"""Statements that read every page of a tree."""

_FILL: Final = (
    "INSERT INTO history (record, ts, rev) SELECT record, ts, rev FROM log ORDER BY record, ts, rev"
)
_COUNT: Final = """
    UPDATE record SET row_count = (SELECT count(*) FROM history
      WHERE history.record = record.id AND history.rev <= :merged_rev)
"""
_RESTRICT: Final = """
    UPDATE record SET purged_rev = :rev, deleted_at_rev = CASE WHEN name IS NULL THEN :rev END
"""
_SET_META: Final = (
    "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = max(value, ?2)"
)

_REWRITTEN_BYTES: Final = 1 << 30
"""A file up to here is written anew at once: some seconds. A larger one waits for a person."""

_FIRST_TRUNK: Final = struct.Struct(">32xI")
_TRUNK: Final = struct.Struct(">II")  # the next one, how many leaves
_LEAF: Final = struct.Struct(">I")

_ROOM: Final = 3
"""Files of this size have to fit on the disk meanwhile: the WAL's, the old and the new one."""


class _CommitsMissing(Exception):
    """Takes back the new parts: the file must be refused as it is."""


class IndexMender:
    """Examines the derived parts, and makes damaged ones anew; at most once a start."""

    def __init__(self, path: str, progress: Progress) -> None:
        self.is_lost = False
        """Whether it was found damaged and could not be made anew."""
        self._path: Final = path
        self._progress: Final = progress
        self._is_done = False

    def mend(self, db: apsw.Connection) -> bool:
        """Make damaged parts anew; return whether there were any. On the writing connection.

        Nothing is done where commits are missing: that file is refused as it is.

        Raises:
            apsw.Error: something else is damaged too, or there is no room; nothing is changed.
        """
        if self._is_done:
            return False
        watch_progress(db, self._progress, "seconds of indexing")
        try:
            damaged = [part for part in _Part if _is_damaged(db, part)]
            if not damaged:
                return False
            self.is_lost = True
            with db:
                _make_anew(db, damaged)
                found = structure.summarize(db)
                if find_missing(self._path, found) is not None:
                    raise _CommitsMissing
                _restrict(db, damaged, found.rev)
            self.is_lost, self._is_done = False, True
            self._tell(damaged)
            self._give_back(db)
        except _CommitsMissing:
            return False
        finally:
            db.set_progress_handler(None)
        return True

    def _tell(self, damaged: list[_Part]) -> None:
        text = "%s: %s was damaged and is made anew; no row is lost"
        for part in damaged:
            if part in (_Part.RECORDS, _Part.DELETIONS):
                logger.error(text + ", but followers start afresh", self._path, part.value)
            else:
                logger.error(text, self._path, part.value)

    def _give_back(self, db: apsw.Connection) -> None:
        """Write the file anew, without the pages that are nobody's now, which may be damaged."""
        size_bytes = int(db.pragma("page_count")) * int(db.pragma("page_size"))
        folder = os.statvfs(os.path.dirname(self._path) or ".")
        room_bytes = folder.f_bavail * folder.f_frsize
        if size_bytes <= min(_REWRITTEN_BYTES, room_bytes // _ROOM):
            try:
                self._clear_orphans(db)
                db.execute("VACUUM")
                return
            except apsw.Error as error:
                why = str(error)
        else:
            why = f"{size_bytes} bytes are too many to be written anew at a start"
        logger.warning("%s: the old pages stay until 'recordd repair': %s", self._path, why)

    def _clear_orphans(self, db: apsw.Connection) -> None:
        """Make the checksums of pages right that are nobody's: VACUUM reads them, too.

        A page is nobody's if no tree and no list of free pages has it.
        """
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        owned = {int(page) for (page,) in db.execute("SELECT pageno FROM dbstat")}
        faults = {fault.page for fault in diagnose_pages(self._path, self._progress).faults}
        with PageFile(self._path, writable=True) as file:
            owned |= _find_free_pages(file)
            for page in set() if faults & owned else faults:
                file.write(page, stamp(file.read(page)))
            file.sync()


def _find_free_pages(file: PageFile) -> set[int]:
    """Return the pages of the list of free pages (https://sqlite.org/fileformat2.html §1.5)."""
    free: set[int] = set()
    (trunk,) = _FIRST_TRUNK.unpack_from(file.read(1))
    while trunk and trunk not in free:
        page = file.read(trunk)
        following, count = _TRUNK.unpack_from(page)
        leaves = page[_TRUNK.size :][: 4 * count]
        free |= {trunk, *(leaf for (leaf,) in _LEAF.iter_unpack(leaves[: len(leaves) // 4 * 4]))}
        trunk = following if following <= file.page_count else 0
    return free


def _is_damaged(db: apsw.Connection, part: _Part) -> bool:
    """Tell whether a page cannot be read.

    Raises:
        apsw.Error: for another reason.
    """
    try:
        for look in _LOOKS[part]:
            db.execute(look).fetchall()
    except apsw.Error as error:
        damage = describe_damage(error, db)
        if damage is None or isinstance(damage, UnreadableStorage):
            raise
        logger.error("%s", damage.of(part.value))
        return True
    return False


def _make_anew(db: apsw.Connection, damaged: list[_Part]) -> None:
    """Make trees anew from the whole ones."""
    if _Part.RECORDS in damaged:
        names = db.execute(
            "SELECT id, name FROM record INDEXED BY sqlite_autoindex_record_1"
        ).fetchall()
        _empty(db, "record")
        db.executemany("INSERT INTO record (id, name) VALUES (?, ?)", names)
    elif _Part.RECORD_NAMES in damaged:
        _replace_name_list(db, "record")
    if _Part.DELETIONS in damaged:
        _empty(db, "deletion")
    elif _Part.DELETION_NAMES in damaged:
        _replace_name_list(db, "deletion")
    if _Part.HISTORY in damaged:
        _empty(db, "history")
        db.execute(_FILL)
        merged_rev = db.execute("SELECT max(rev) FROM log").get or 0
        db.execute(_SET_META, (Meta.MERGED_REV, merged_rev))


def _restrict(db: apsw.Connection, damaged: list[_Part], rev: int) -> None:
    """Write certain values in the place of unknown ones; `rev` is the newest given."""
    merged_rev = db.execute("SELECT value FROM meta WHERE key = ?", (Meta.MERGED_REV,)).get or 0
    if _Part.RECORDS in damaged:
        db.execute(_RESTRICT, {"rev": rev})
    if _Part.RECORDS in damaged or _Part.HISTORY in damaged:
        db.execute(_COUNT, {"merged_rev": merged_rev})
    if _Part.DELETIONS in damaged:
        db.execute(_SET_META, (Meta.DELETED_REV, rev))


def _empty(db: apsw.Connection, table: str) -> None:
    """Put new and empty trees in the place of the old ones."""
    found = db.execute(
        "SELECT sql FROM sqlite_schema WHERE tbl_name = ? ORDER BY rowid", (table,)
    ).fetchall()
    _change_schema(db, f"DELETE FROM sqlite_schema WHERE tbl_name = '{table}'")
    for (sql,) in cast("list[tuple[str | None]]", found):
        if sql:
            db.execute(sql)


def _replace_name_list(db: apsw.Connection, table: str) -> None:
    """Make a new tree for the UNIQUE names of a table, and give it the place of the old one."""
    db.execute(f"CREATE UNIQUE INDEX remade ON {table} (name)")
    _change_schema(
        db,
        "UPDATE sqlite_schema SET rootpage ="
        " (SELECT rootpage FROM sqlite_schema WHERE name = 'remade')"
        f" WHERE name = 'sqlite_autoindex_{table}_1';"
        "DELETE FROM sqlite_schema WHERE name = 'remade'",
    )


def _change_schema(db: apsw.Connection, sql: str) -> None:
    db.pragma("writable_schema", True)
    try:
        db.execute(sql)
    finally:
        db.execute("PRAGMA writable_schema = RESET")
