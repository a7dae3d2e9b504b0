"""The pages of a database file, and their checksums.

The last 8 bytes of a page are its checksum (https://sqlite.org/cksumvfs.html): two 32-bit
sums over the words before them. One that does not match has one of two causes. A *stale*
checksum: another SQLite wrote the page and left the old sum. A *flipped* bit: changing one
bit of the page back makes it match; of 2**64 sums a page has some 33,000 such neighbours,
so a chance match is out of the question.

The sums are linear: a changed word at distance n from the end changes them by its
difference times the Fibonacci numbers F(n) and F(n + 1), modulo 2**32. So the bit is looked
up, not searched. Fibonacci numbers repeat modulo small powers of 2, hence the upper bits of
a word have several places that explain the same difference: all of them are returned.

A file is read here below SQLite, so its WAL is not seen: pages that the WAL holds too are
not read from the file, and a judgement of the file leaves them out.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import apsw

from recordd.persistence.sqlite.worker import open_vfs

__all__ = ["CHECKSUM_BYTES", "PageFile", "find_flips", "flip_bit", "stamp"]

CHECKSUM_BYTES: Final = 8
"""At the end of each page; SQLite calls them reserved."""

_MASK: Final = 0xFFFFFFFF
_PAGE_SIZES: Final = frozenset(1 << n for n in range(9, 17))
_DEFAULT_PAGE_BYTES: Final = 4096
_BYTES_AT_ONCE: Final = 1 << 20
_SUMS: Final = struct.Struct("<II")

# One call for a stretch of pages: SQLite's own sum, at the speed of C.
_FIND_FAULTS: Final = """
    WITH RECURSIVE page(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM page WHERE n + 1 < ?2)
    SELECT n FROM page WHERE NOT verify_checksum(substr(?1, n * ?3 + 1, ?3))
"""


class PageFile:
    """A database file as an array of pages, numbered from 1.

    It is opened through SQLite's own file layer: closing a descriptor of ours would give
    away the locks that connections of this process hold on the file.
    """

    def __init__(self, path: str, *, writable: bool = False) -> None:
        """Open the file.

        Raises:
            apsw.Error: when it cannot be opened or read.
            OSError: when it is no regular file.
        """
        if os.path.exists(path) and not os.path.isfile(path):  # to open a FIFO waits for ever
            raise OSError(errno.EINVAL, "no regular file", path)
        mode = apsw.SQLITE_OPEN_READWRITE if writable else apsw.SQLITE_OPEN_READONLY
        open_vfs()  # brings the function that verifies, too
        self._file: Final = apsw.VFSFile("unix", path, [apsw.SQLITE_OPEN_MAIN_DB | mode, 0])
        self._verifier: Final = apsw.Connection(":memory:")
        try:
            self.size_bytes: Final = self._file.xFileSize()
            self.page_bytes: Final = self._find_page_bytes()
        except BaseException:
            self._file.xClose()
            raise
        self.page_count: Final = self.size_bytes // self.page_bytes

    def __enter__(self) -> PageFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.xClose()
        self._verifier.close()

    def read(self, number: int) -> bytes:
        """Return one page."""
        return self._file.xRead(self.page_bytes, (number - 1) * self.page_bytes)

    def write(self, number: int, page: bytes) -> None:
        """Overwrite one page; `sync` makes it durable."""
        self._file.xWrite(page, (number - 1) * self.page_bytes)

    def sync(self) -> None:
        """Sync all writes to disk."""
        self._file.xSync(apsw.SQLITE_SYNC_NORMAL)

    def is_good(self, number: int) -> bool:
        """Tell whether a page matches its checksum."""
        page = self.read(number)
        return bool(self._verifier.execute("SELECT verify_checksum(?)", (page,)).get)

    def has_checksums(self) -> bool:
        """Tell whether the header says that each page has room for a checksum."""
        return self.size_bytes >= 100 and self._file.xRead(21, 0)[20] == CHECKSUM_BYTES

    def find_faults(self) -> Iterator[tuple[int, list[int]]]:
        """Yield how many pages are read, and which of the newly read do not match."""
        pages_at_once = max(1, _BYTES_AT_ONCE // self.page_bytes)
        for first in range(0, self.page_count, pages_at_once):
            count = min(pages_at_once, self.page_count - first)
            blob = self._file.xRead(count * self.page_bytes, first * self.page_bytes)
            found = self._verifier.execute(_FIND_FAULTS, (blob, count, self.page_bytes))
            yield first + count, [first + 1 + int(n) for (n,) in found]

    def _find_page_bytes(self) -> int:
        """Return the header's values where they can be true; headers are damaged too."""
        if self.size_bytes < 100:
            return _DEFAULT_PAGE_BYTES
        (said,) = struct.unpack(">H", self._file.xRead(18, 0)[16:18])
        page_bytes = 65536 if said == 1 else said
        return page_bytes if page_bytes in _PAGE_SIZES else _DEFAULT_PAGE_BYTES


def stamp(page: bytes) -> bytes:
    """Return the page with the checksum that its content has."""
    return page[:-CHECKSUM_BYTES] + _SUMS.pack(*_sum_words(page))


def flip_bit(page: bytes, bit: int) -> bytes:
    """Return the page with one bit changed, counted from the first byte's lowest."""
    changed = bytearray(page)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def find_flips(page: bytes) -> list[int]:
    """Return every bit of the page, checksum included, whose change makes the page match.

    None: the checksum is stale, or more than one bit is wrong.
    """
    sums, stored = _sum_words(page), _SUMS.unpack(page[-CHECKSUM_BYTES:])
    missing = (stored[0] - sums[0]) & _MASK, (stored[1] - sums[1]) & _MASK
    rising = _table(len(page)).get(missing, ())
    falling = _table(len(page)).get((-missing[0] & _MASK, -missing[1] & _MASK), ())
    found = {bit for bit in rising if not page[bit // 8] >> bit % 8 & 1}
    found |= {bit for bit in falling if page[bit // 8] >> bit % 8 & 1}
    wrong = (stored[0] ^ sums[0]) | (stored[1] ^ sums[1]) << 32
    if wrong.bit_count() == 1:
        found.add((len(page) - CHECKSUM_BYTES) * 8 + wrong.bit_length() - 1)
    return sorted(found)


def _sum_words(page: bytes) -> tuple[int, int]:
    first = second = 0
    words = struct.unpack(f"<{len(page) // 4 - 2}I", page[:-CHECKSUM_BYTES])
    for a, b in zip(words[::2], words[1::2], strict=True):
        first = (first + a + second) & _MASK
        second = (second + b + first) & _MASK
    return first, second


@functools.lru_cache(maxsize=2)
def _table(page_bytes: int) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return, by the change of both sums, the bits whose rise from 0 to 1 causes it."""
    table: dict[tuple[int, int], tuple[int, ...]] = {}
    low, high = 0, 1  # F(0), F(1): what the last word before the checksum adds
    for word in reversed(range(page_bytes // 4 - 2)):
        for bit in range(32):
            change = (low << bit) & _MASK, (high << bit) & _MASK
            table[change] = (*table.get(change, ()), word * 32 + bit)
        low, high = high, (low + high) & _MASK
    return table
