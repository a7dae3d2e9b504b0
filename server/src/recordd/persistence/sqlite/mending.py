"""Mending in place: flipped bits that are known, and stale checksums.

`recordd repair` uses it, and so does a daemon that opens its file, as far as it is safe
without anybody looking on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Final

import apsw

from recordd.persistence.sqlite import structure
from recordd.persistence.sqlite.copying import Progress, watch_progress
from recordd.persistence.sqlite.diagnosis import Diagnosis, PageFault, diagnose_pages
from recordd.persistence.sqlite.files import FileError, open_database, raise_passing, telling
from recordd.persistence.sqlite.mark import read_mark
from recordd.persistence.sqlite.pages import PageFile, find_flips, flip_bit, stamp
from recordd.persistence.sqlite.schema import is_known_header
from recordd.persistence.sqlite.sizes import size_of
from recordd.system import systemd

__all__ = ["StartMender", "find_missing", "look_inside", "put_right", "restamp"]

logger: Final = logging.getLogger(__name__)

_NOTIFY_EVERY_S: Final = 5.0
_WRITER_VERSION: Final = slice(96, 100)

_SMALL_BYTES: Final = 64 << 20
"""A file up to here is looked at whole at each start: 16,384 pages, some 0.2 s at most."""


class StartMender:
    """Mends a database that a daemon is about to open, as far as nothing can be lost by it.

    A flipped bit that is known is put right. Stale checksums are made anew only where it
    shows that another SQLite had the file (it closed a WAL that the daemon left, or wrote
    the first page, or the file was copied here), where no page has a flipped bit, no
    commit is missing, and all that the file holds fits together. Everything else is left.
    """

    def __init__(self, database: str) -> None:
        """Look at the file as it was found; the caller has its lock, and no connection open."""
        self._database: Final = database
        self._notified_at = time.monotonic()
        self._has_looked = False
        self._has_left = False
        mark = read_mark(database)
        self._is_told = mark is not None and mark.is_suspect
        self._was_elsewhere: Final = mark is None or (
            not mark.is_clean and not size_of(f"{os.path.realpath(database)}-wal")
        )

    @property
    def is_index_due(self) -> bool:
        """Whether something says that pages are damaged, maybe of the index."""
        return self._is_told or self._has_left

    def is_due(self) -> bool:
        """Tell whether every page must be looked at before the file is opened.

        Not so where it is large, after a clean stop or a crash whose WAL is there: that would
        read all of it at each start. Damage that the load meets is mended then, and damage
        that was met while running is in the mark.

        Raises:
            FileError: the file cannot be read.
        """
        size_bytes = size_of(self._database)
        if not size_bytes:
            return False
        return size_bytes <= _SMALL_BYTES or self._is_told or self._is_suspect()

    def mend_first(self) -> None:
        """Mend before the file is opened, where that is due.

        A page that nothing points to, and that cannot be read, keeps nobody out. A last page
        that is cut off is filled up, so that its checksum tells: SQLite takes what is missing
        for zeros, and the checksums' VFS does not look at a short read.

        Raises:
            FileError: the file cannot be read or written, and there is a reason to look at it.
        """
        if _fill_last_page(self._database):
            self._is_told = True
        if not self.is_due():
            return
        try:
            self.mend()
        except FileError as error:
            if self._is_suspect():
                raise
            logger.error("not every page could be looked at: %s", error)

    def mend(self) -> bool:
        """Mend known faults; log them and the rest; return whether any was mended.

        Only the first time: it would leave the same rest again.

        Raises:
            FileError: the file cannot be read or written.
        """
        if self._has_looked:
            return False
        with telling(self._database):
            if not self._is_ours():
                return False
            diagnosis = diagnose_pages(self._database, self.report)
            done = put_right(self._database, diagnosis.flipped)
            left = [*diagnosis.stale, *diagnosis.uncertain]
            if left and self._may_restamp(diagnosis):
                done += restamp(self._database, left)
                left = []
        self._has_looked, self._has_left = True, bool(left)
        for line in done:
            logger.warning("%s: %s", self._database, line)
        if left:
            pages = ", ".join(str(fault.page) for fault in left[:20])
            logger.error(
                "%s: %d pages fail their checksum (%s): stop, then 'recordd check' says more"
                " and 'recordd repair' mends", self._database, len(left), pages,
            )  # fmt: skip
        return bool(done)

    def _may_restamp(self, diagnosis: Diagnosis) -> bool:
        if not all(fault.is_stale for fault in diagnosis.faults):
            return False
        if not self._was_elsewhere and not self._was_written_elsewhere(diagnosis):
            return False
        found, contradictions = look_inside(self._database, self.report)
        return (
            found is not None and not contradictions and find_missing(self._database, found) is None
        )

    def _was_written_elsewhere(self, diagnosis: Diagnosis) -> bool:
        """Tell whether the first page says so: each SQLite writes its version there."""
        if diagnosis.faults[0].page != 1:
            return False
        with PageFile(self._database) as file:
            version = int.from_bytes(file.read(1)[_WRITER_VERSION], "big")
        return version != apsw.SQLITE_VERSION_NUMBER and version // 1_000_000 == 3

    def _is_suspect(self) -> bool:
        """Tell whether something says that the file is not as a daemon left it."""
        return self._was_elsewhere or self._is_first_page_bad()

    def _is_first_page_bad(self) -> bool:
        with telling(self._database), PageFile(self._database) as file:
            if not file.page_count or file.is_good(1):
                return False
            return file.has_checksums() or bool(find_flips(file.read(1)))

    def _is_ours(self) -> bool:
        """Tell whether the first page, put right, is one of this version's or an older one's."""
        with PageFile(self._database) as file:
            if not file.page_count:
                return False
            page = file.read(1)
            flips = find_flips(page) if not file.is_good(1) else []
        return is_known_header(flip_bit(page, flips[0]) if len(flips) == 1 else page)

    def report(self, what: str, done: int, total: int) -> None:
        """Have the service manager wait; a `Progress`."""
        now = time.monotonic()
        if now - self._notified_at > _NOTIFY_EVERY_S:
            self._notified_at = now
            systemd.notify("EXTEND_TIMEOUT_USEC=60000000")


def look_inside(database: str, progress: Progress) -> tuple[structure.Summary | None, list[str]]:
    """Read the whole of a file, ignoring checksums."""
    db = open_database(database, is_verified=False)
    try:
        watch_progress(db, progress, "seconds of reading")
        db.execute("BEGIN")
        refusal = structure.check_ours(db)
        found = structure.summarize(db) if refusal is None else None
        contradictions = structure.find_contradictions(db) if found else [str(refusal)]
        return found, contradictions
    except (apsw.Error, KeyError) as error:
        raise_passing(error)
        return None, [str(error)]
    finally:
        db.close()


def find_missing(database: str, found: structure.Summary) -> int | None:
    """Return up to which rev answered commits are missing, as the mark knows."""
    mark = read_mark(database)
    if mark is None or mark.epoch != found.epoch or mark.rev <= found.rev:
        return None
    return mark.rev


def put_right(database: str, faults: Sequence[PageFault]) -> list[str]:
    """Change the one wrong bit of each page back."""
    done = []
    with PageFile(database, writable=True) as file:
        for fault in faults:
            bit = fault.certain_flip
            page = file.read(fault.page)
            if bit is None or bit not in find_flips(page):
                raise AssertionError("nobody else writes to a file that is locked")
            file.write(fault.page, flip_bit(page, bit))
            done.append(f"page {fault.page}: a flipped bit put right, {bit % 8} of byte {bit // 8}")
        if done:
            file.sync()
    return done


def restamp(database: str, faults: Sequence[PageFault]) -> list[str]:
    """Give pages the checksums of their content; a crash in between leaves some as they were."""
    if not faults:
        return []
    with PageFile(database, writable=True) as file:
        for fault in faults:
            file.write(fault.page, stamp(file.read(fault.page)))
        file.sync()
    return [f"{len(faults)} pages: stale checksums made anew; what they hold fits together"]


def _fill_last_page(database: str) -> bool:
    """Give the last page its length again; return whether it had lost some of it.

    Raises:
        FileError: the file cannot be written.
    """
    if not size_of(database):
        return False
    with telling(database):
        with PageFile(database) as file:
            missing = -file.size_bytes % file.page_bytes
            if not missing or file.size_bytes < file.page_bytes:
                return False
            if not is_known_header(file.read(1)):
                return False  # of another program, or too far gone to be sure
            size_bytes = file.size_bytes + missing
        logger.error("%s: ends within page %d", database, size_bytes // file.page_bytes)
        os.truncate(database, size_bytes)
    return True
