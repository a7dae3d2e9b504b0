"""Which pages of a database its WAL holds in a newer form (https://sqlite.org/fileformat2.html §4).

The file's own copy of such a page does not count: readers take it from the WAL, and the next
checkpoint overwrites it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from recordd.persistence.sqlite.sizes import size_of

__all__ = ["ORPHANED", "is_orphaned", "pages_in_wal"]

ORPHANED: Final = "missing or empty, but its -wal is there: put the database back beside it"
"""SQLite would take the -wal for a leftover and delete it, with the commits that it holds."""


_MASK: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, checkpoints, salts, sums
_FRAME: Final = struct.Struct(">6I")  # page, size after commit, salts, sums
_MAGIC: Final = 0x377F0682
"""Its lowest bit says that sums are made of big-endian words."""


def is_orphaned(database: str) -> bool:
    """Tell whether a WAL with content stands beside a database that is missing or empty."""
    return size_of(f"{database}-wal") > 0 and not size_of(database)


def pages_in_wal(database: str) -> set[int]:
    """Return the pages of committed frames, up to the first that its checksum rejects."""
    try:
        content = Path(f"{database}-wal").read_bytes()
    except FileNotFoundError:
        return set()
    if len(content) < _HEADER.size:
        return set()
    magic, _, page_bytes, _, salt_1, salt_2, *_ = _HEADER.unpack_from(content)
    if magic & ~1 != _MAGIC:
        return set()
    order = ">" if magic & 1 else "<"
    sums = _add_words(content[:24], order, (0, 0))
    committed: set[int] = set()
    pending: set[int] = set()
    for start in range(_HEADER.size, len(content) - page_bytes - 23, page_bytes + _FRAME.size):
        number, size, *found = _FRAME.unpack_from(content, start)
        sums = _add_words(content[start : start + 8], order, sums)
        sums = _add_words(content[start + 24 : start + 24 + page_bytes], order, sums)
        if found != [salt_1, salt_2, *sums]:
            break
        pending.add(number)
        if size:
            committed |= pending
            pending.clear()
    return committed


def _add_words(content: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for a, b in zip(words[::2], words[1::2], strict=True):
        first = (first + a + second) & _MASK
        second = (second + b + first) & _MASK
    return first, second
