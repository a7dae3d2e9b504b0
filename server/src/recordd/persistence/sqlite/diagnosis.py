"""Which pages of a database are damaged, and which of them can be put right for certain."""

from __future__ import annotations

import contextlib
import os

import apsw
import msgspec

from recordd.persistence.sqlite.copying import Progress
from recordd.persistence.sqlite.files import open_database
from recordd.persistence.sqlite.page_image import is_plausible
from recordd.persistence.sqlite.pages import PageFile, find_flips, flip_bit
from recordd.persistence.sqlite.wal import pages_in_wal

__all__ = ["Diagnosis", "PageFault", "diagnose_pages"]


class PageFault(msgspec.Struct, frozen=True):
    """A page that does not match its checksum, and the single bits that would explain it."""

    page: int
    flips: tuple[int, ...]

    @property
    def is_stale(self) -> bool:
        """No single bit explains it: another SQLite wrote the page, or it is badly damaged."""
        return not self.flips

    @property
    def certain_flip(self) -> int | None:
        """The bit that is wrong, where only one can be."""
        return self.flips[0] if len(self.flips) == 1 else None


class Diagnosis(msgspec.Struct, frozen=True):
    """The faults among a file's pages; `has_checksums` false: it was made without any."""

    page_bytes: int
    page_count: int
    has_checksums: bool
    faults: tuple[PageFault, ...]

    @property
    def flipped(self) -> list[PageFault]:
        """Pages with one wrong bit that is known."""
        return [fault for fault in self.faults if fault.certain_flip is not None]

    @property
    def stale(self) -> list[PageFault]:
        """Pages whose checksum is old, unless they are badly damaged."""
        return [fault for fault in self.faults if fault.is_stale]

    @property
    def uncertain(self) -> list[PageFault]:
        """Pages with one wrong bit that may be one of several."""
        return [fault for fault in self.faults if len(fault.flips) > 1]


def diagnose_pages(path: str, progress: Progress) -> Diagnosis:
    """Read every page of a file that may be in use.

    Raises:
        apsw.Error, OSError: the file cannot be read.
    """
    path = os.path.realpath(path)
    with PageFile(path) as file:
        suspects: list[int] = []
        for done, found in file.find_faults():
            suspects += found
            progress("pages", done, file.page_count)
        # The header's own statement may be damaged; it does not match by chance.
        has_checksums = file.has_checksums() or len(suspects) < file.page_count
    confirmed, overruled = _confirm(path, suspects) if suspects else ([], set())
    with PageFile(path) as file:
        faults = tuple(PageFault(page, _explain(file, page)) for page in confirmed)
        is_flipped = any(fault.page == 1 and fault.flips for fault in faults)
        has_checksums = has_checksums or is_flipped or 1 in overruled
        return Diagnosis(
            file.page_bytes, file.page_count, has_checksums, faults if has_checksums else ()
        )


def _explain(file: PageFile, number: int) -> tuple[int, ...]:
    """Return the bits that would explain a fault; those that make a possible page, if any do."""
    page = file.read(number)
    flips = find_flips(page)
    if len(flips) < 2:
        return tuple(flips)
    possible = [
        bit
        for bit in flips
        if is_plausible(flip_bit(page, bit), number=number, page_count=file.page_count)
    ]
    return tuple(possible or flips)


def _confirm(path: str, suspects: list[int]) -> tuple[list[int], set[int]]:
    """Leave out pages that a checkpoint was just writing, and those that the WAL overrules.

    Returns:
        The remaining pages, and all pages that the WAL overrules.

    While a transaction reads, the WAL is not begun anew, and no page that it reads from the
    file is written.
    """
    db = None
    with contextlib.suppress(apsw.Error):
        db = open_database(path, is_verified=False)
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - reads
    try:
        overruled = pages_in_wal(path)
        with PageFile(path) as file:
            left = [page for page in suspects if page not in overruled]
            left = [page for page in left if page <= file.page_count and not file.is_good(page)]
        return left, overruled
    finally:
        if db is not None:
            db.close()
