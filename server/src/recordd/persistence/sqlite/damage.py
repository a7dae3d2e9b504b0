"""What is damaged in the file: the cause behind SQLite's error, and on which page.

An exception of SQLite tells neither. The page is in the message that the checksum VFS
writes to SQLite's log, on the thread that reads it, just before the call fails. The cause
can be hidden: SQLite ends the transaction of a read that failed, so that the ROLLBACK
after it fails too, with words of its own.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

import apsw

from recordd.backend import DamagedStorage, UnreadableStorage

__all__ = ["DamageReport", "describe_damage", "find_cause", "take_fault_offset", "watch_sqlite_log"]

logger: Final = logging.getLogger(__name__)

_CHECKSUM_FAULT: Final = re.compile(r"checksum fault offset (\d+)")

_DAMAGE_CODES: Final = {
    apsw.SQLITE_IOERR_DATA: "fails its checksum",
    apsw.SQLITE_IOERR_SHORT_READ: "is cut off",
}

_UNREADABLE: Final = (apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_CORRUPTFS)

_noted: Final = threading.local()


class DamageReport:
    """The damage met so far, on all connections of a file; each page is logged once."""

    def __init__(self) -> None:
        self.errors = 0
        self._pages: Final[set[int | None]] = set()

    @property
    def pages(self) -> int:
        """How many damaged pages are known; one that SQLite does not name counts once."""
        return len(self._pages)

    def note(self, damage: DamagedStorage) -> None:
        """Count an error, and log what it says if it is of a page not met before."""
        self.errors += 1
        if damage.page not in self._pages:
            self._pages.add(damage.page)
            logger.error("%s", damage)


def watch_sqlite_log() -> None:
    """Have SQLite's log tell of checksum faults; for the whole process, idempotent."""
    apsw.config(apsw.SQLITE_CONFIG_LOG, _note)


def find_cause(error: apsw.Error) -> apsw.Error:
    """Return the first of the errors that followed from one another."""
    while isinstance(error.__context__, apsw.Error):
        error = error.__context__
    return error


def take_fault_offset() -> int | None:
    """Return where in its file the last checksum fault of this thread was, once."""
    offset: int | None = getattr(_noted, "offset", None)
    _noted.offset = None
    return offset


def describe_damage(error: apsw.Error, db: apsw.Connection) -> DamagedStorage | None:
    """Return what an error says of the file, None where it tells of no damage.

    To be called on the thread on which it was raised.
    """
    offset = take_fault_offset()
    code = getattr(error, "extendedresult", 0)
    if code in _DAMAGE_CODES:
        if code != apsw.SQLITE_IOERR_DATA or offset is None:
            return DamagedStorage(f"a page of the database {_DAMAGE_CODES[code]}: {_ADVICE}")
        page = offset // int(db.pragma("page_size")) + 1
        return DamagedStorage(
            f"page {page} of the database {_DAMAGE_CODES[code]}: {_ADVICE}", page=page
        )
    if code in _UNREADABLE:
        return UnreadableStorage(f"the disk does not read the database ({error}): {_ADVICE}")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DamagedStorage(f"the database is damaged ({error}): {_ADVICE}")
    return None


_ADVICE: Final = "what lies there cannot be served; see 'recordd check' and 'recordd repair'"


def _note(code: int, message: str) -> None:
    """Take note of a checksum fault; SQLite calls this on the thread that met it."""
    if code == apsw.SQLITE_IOERR_DATA and (found := _CHECKSUM_FAULT.search(message)):
        _noted.offset = int(found[1])
