"""Cutting answers into pages: the one place that says how much a page holds."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from recordd_protocol.rows import Row

__all__ = ["NewestRows", "PageLimits", "PageRoom", "end_of_page", "fill_page", "keep_newest"]

_SEPARATOR_BYTES: Final = 3
"""What joins a row to the one before it in an answer: `},{`."""


class PageLimits(msgspec.Struct, frozen=True):
    """How much one page may hold; a page always has room for one row."""

    rows: int
    bytes: int


class PageRoom:
    """What is left of a page while rows are put into it, one by one."""

    def __init__(self, limits: PageLimits) -> None:
        self._limits: Final = limits
        self._rows = 0
        self._bytes = 0

    def take(self, row: Row) -> bool:
        """Tell whether the row still fits; if it does, it counts as put."""
        size = self._bytes + len(row.body) + _SEPARATOR_BYTES
        if self._rows and (self._rows >= self._limits.rows or size > self._limits.bytes):
            return False
        self._rows += 1
        self._bytes = size
        return True


def fill_page(rows: Iterable[Row], limits: PageLimits) -> tuple[list[Row], bool]:
    """Return as many rows as a page holds, and whether there are more; looks at one more."""
    room = PageRoom(limits)
    page: list[Row] = []
    for row in rows:
        if not room.take(row):
            return page, True
        page.append(row)
    return page, False


def end_of_page(rows: Sequence[Row], start: int, limits: PageLimits) -> int:
    """Return where the page that begins at `start` ends.

    The same as `fill_page` for rows that are there already: it adds up a page at once,
    because a thousand latest rows are answered in less time than a thousand steps take.
    """
    end = min(len(rows), start + max(1, limits.rows))
    size = sum([len(row.body) for row in rows[start:end]]) + _SEPARATOR_BYTES * (end - start)
    while size > limits.bytes and end > start + 1:
        end -= 1
        size -= len(rows[end].body) + _SEPARATOR_BYTES
    return end


class NewestRows:
    """The last rows of many, `max_bytes` together: each step costs what it adds."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes
        self._size = 0
        self.rows: Final[collections.deque[Row]] = collections.deque()

    def extend(self, rows: Sequence[Row]) -> None:
        """Add rows; leave out those at the beginning that there is no room for."""
        self.rows.extend(rows)
        self._size += sum([len(row.body) for row in rows]) + _SEPARATOR_BYTES * len(rows)
        while self._size > self._max_bytes:
            self._size -= len(self.rows.popleft().body) + _SEPARATOR_BYTES


def keep_newest(rows: Sequence[Row], max_bytes: int) -> list[Row]:
    """Return the last rows that have no more than `max_bytes` together."""
    size = 0
    kept: list[Row] = []
    for row in reversed(rows):
        size += len(row.body) + _SEPARATOR_BYTES
        if size > max_bytes:
            break
        kept.append(row)
    kept.reverse()
    return kept
