"""Damage of the file: the cause behind SQLite's error, and its page.

An exception of SQLite tells neither. The page is in the message that the checksum VFS
writes to SQLite's log, on the thread that reads it, just before the call fails. The cause
can be hidden: SQLite ends the transaction of a read that failed, so that the ROLLBACK
after it fails too, with words of its own.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import Final

import apsw

from recordd.extending.backend import DamagedStorage, UnreadableStorage

__all__ = [
    "INDEX",
    "DamageReport",
    "check_text",
    "describe_damage",
    "find_cause",
    "naming",
    "take_fault_offset",
    "watch_sqlite_log",
]

logger: Final = logging.getLogger(__name__)

INDEX: Final = "the index"
"""The part whose damage the next start mends: all of it is in the log, too."""

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
        self.is_news = False
        """Whether damage was met that the next start does not know of yet."""
        self._pages: Final[set[int | None]] = set()

    @property
    def pages(self) -> int:
        """How many damaged pages are known; one that SQLite does not name counts once."""
        return len(self._pages)

    def note(self, damage: DamagedStorage) -> None:
        """Count an error, and log it if its page was not met before."""
        self.errors += 1
        self.is_news = self.is_news or not isinstance(damage, UnreadableStorage)
        if damage.page not in self._pages:
            self._pages.add(damage.page)
            logger.error("%s", damage)


def watch_sqlite_log() -> None:
    """Have SQLite's log tell of checksum faults; for the whole process, idempotent."""
    apsw.config(apsw.SQLITE_CONFIG_LOG, _note)


def find_cause(error: apsw.Error | DamagedStorage) -> apsw.Error | DamagedStorage:
    """Return the first of the errors that followed from one another, in our words if it has any."""
    while not isinstance(error, DamagedStorage):
        before = error.__context__
        if not isinstance(before, apsw.Error | DamagedStorage):
            break
        error = before
    return error


@contextlib.contextmanager
def naming(part: str, db: apsw.Connection) -> Iterator[None]:
    """Say of damage that is met inside which part of the database it concerns.

    Raises:
        DamagedStorage: instead of the `apsw.Error` that tells of damage.
    """
    try:
        yield
    except apsw.Error as error:
        damage = describe_damage(error, db)
        if damage is None:
            raise
        raise damage.of(part) from error


def take_fault_offset() -> int | None:
    """Return where in its file the last checksum fault of this thread was, once."""
    offset: int | None = getattr(_noted, "offset", None)
    _noted.offset = None
    return offset


def check_text(value: str, part: str) -> bytes:
    """Return a stored value as bytes.

    A page of nothing but zeros, which a disk gives for one that it lost, and the end of a file
    that was cut off pass for sound: their checksum is 0. No JSON has a byte of 0.

    Raises:
        DamagedStorage: a part of the value was lost.
    """
    content = value.encode()
    if b"\0" in content:
        raise DamagedStorage(f"its value has zeros where text was: {_ADVICE}", part=part)
    return content


def describe_damage(
    error: apsw.Error | DamagedStorage, db: apsw.Connection
) -> DamagedStorage | None:
    """Return the damage that an error tells of, by its cause; None where it tells of none.

    To be called on the thread on which it was raised.
    """
    error = find_cause(error)
    if isinstance(error, DamagedStorage):
        return error
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
