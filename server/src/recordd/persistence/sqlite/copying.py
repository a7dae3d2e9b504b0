"""A copy of a database, page by page, from one moment, through the checksum VFS.

Not by VACUUM INTO: it writes pages before the header that asks for checksums, so a copy
larger than its cache comes out without most of them (seen with SQLite 3.54).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import apsw

from recordd.persistence.sqlite.files import EX_TRY_AGAIN, FileError
from recordd.persistence.sqlite.pages import CHECKSUM_BYTES
from recordd.persistence.sqlite.worker import VFS

__all__ = ["Progress", "copy_database", "watch_progress"]

Progress = Callable[[str, int, int], None]
"""Is told the step, its progress and its total; may raise to stop."""

_PAGES_A_STEP: Final = 1024
_INSTRUCTIONS: Final = 1_000_000
"""Between two chances for a signal to be heard while one long statement runs."""


def copy_database(source: apsw.Connection, path: str, progress: Progress) -> None:
    """Copy the view of the connection's transaction into the empty file at `path`.

    Checksums are made as the pages are written. The copy is not yet synced.

    Raises:
        FileError: the disk is full.
        apsw.Error: a page cannot be read or written.
    """
    try:
        _copy(source, path, progress)
    except apsw.FullError:
        raise FileError(f"{path}: the disk is full", EX_TRY_AGAIN) from None


def _copy(source: apsw.Connection, path: str, progress: Progress) -> None:
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=VFS)
    try:
        db.reserve_bytes("main", CHECKSUM_BYTES)
        db.pragma("journal_mode", "off")
        db.pragma("synchronous", "off")
        # The header comes first: from then on every page written gets its checksum.
        db.execute("CREATE TABLE placeholder (x)")
        with db.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(_PAGES_A_STEP)
                progress("copied", copying.page_count - copying.remaining, copying.page_count)
    finally:
        db.close()


def watch_progress(db: apsw.Connection, progress: Progress, what: str) -> None:
    """Report now and then while statements run on the connection, without a total."""
    started_at = time.monotonic()

    def report() -> bool:
        progress(what, int(time.monotonic() - started_at), 0)
        return False

    db.set_progress_handler(report, _INSTRUCTIONS)
