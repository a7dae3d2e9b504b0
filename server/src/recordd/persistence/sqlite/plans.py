"""Plans of reads, decided when their turn came; and the time that a page may take."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec
import trio

from recordd.extending.paging import PageLimits
from recordd.persistence.sqlite.catalog import Selection
from recordd.persistence.sqlite.tail import Entries
from recordd_protocol.rows import Row

__all__ = ["Found", "FoundText", "Key", "Names", "Pace", "Place", "QueryPlan", "ReplayPlan"]

Key = tuple[int, int, int]
"""`ts`, `rev`, record id: the order of a page."""

_PAGE_S: Final = 0.1
"""How long a page is filled, once it has a row: the next one goes on. Nobody waits for a
connection that reads, nor for a first row, while rows are found that are few and far between."""


class QueryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A query, and the moment of the database that it sees.

    `records` are those that match; index entries on disk count up to `merged_rev`, those in
    `tails` above it, and neither past `as_of`. `behind` is the last key of the page before.
    """

    records: Selection
    tails: tuple[Entries, ...]
    merged_rev: int
    as_of: int
    limit_per_record: int | None
    start_ms: int
    end_ms: int
    behind: tuple[int, int] | None
    page: PageLimits
    fewest_as_text: int | None = None
    """How many rows may come as text instead of rows; None: none."""
    is_careful: bool = False
    """Whether to come as close to a damaged page as can be; it costs a statement a row."""

    @property
    def start(self) -> tuple[int, int]:
        """The (`ts`, `rev`) behind which the page starts."""
        return max((self.start_ms, -1), self.behind or (-1, -1))

    def tail_keys(self, record: int) -> list[Key]:
        """Return the keys of a record that are not on disk, in order but for those of two tails."""
        keys: list[Key] = []
        for entries in self.tails:
            found = entries.get(record, [])[:]
            first = bisect_left(found, (self.start_ms,))
            last = bisect_right(found, (self.end_ms, math.inf))
            keys += [
                (ts, rev, record)
                for ts, rev in found[first:last]
                if self.merged_rev < rev <= self.as_of
            ]
        return keys

    def count_in_tail(self, record: int) -> int:
        """Return how many keys of a record are looked at that may not be on disk."""
        count = 0
        for entries in self.tails:  # no list: this is asked twice for each page of one record
            if (found := entries.get(record)) is not None:
                count += len(found)
        return count

    def keys_in_tail(self, records: Iterable[int]) -> Iterator[Key]:
        """Yield the keys of some records that are not on disk and lie behind the page's start."""
        tails = [entries for entries in self.tails if entries]
        if not tails:
            return
        wanted, start = set(records), self.start
        for entries in tails:
            known = entries.copy()  # commits add to it meanwhile, on another thread
            for record in known.keys() & wanted:
                for ts, rev in known[record][:]:
                    is_there = self.merged_rev < rev <= self.as_of and ts <= self.end_ms
                    if is_there and (ts, rev) > start:
                        yield ts, rev, record

    @property
    def last_rev_on_disk(self) -> int:
        """The newest rev whose entry is to be looked for in the index."""
        return min(self.merged_rev, self.as_of)


class Place(msgspec.Struct, frozen=True):
    """A page of one record whose rows are all indexed on disk: those behind `start`."""

    record: int
    name: str
    start: tuple[int, int]
    end_ms: int
    last_rev: int
    limit: int | None
    page: PageLimits


class Found(msgspec.Struct, frozen=True):
    """A page as it was read, and whether there are more rows.

    It is whole where every key that was found led to a row.
    """

    rows: list[Row]
    more: bool
    is_whole: bool = True


class FoundText(msgspec.Struct, frozen=True):
    """A page as text: its rows joined, how many, and the last one's key, None where no more come.

    `behind`, of a page of one record: the (`ts`, `rev`) behind which it has all of the record's
    rows, up to the last one.
    """

    text: bytes
    count: int
    last: tuple[int, int] | None
    behind: tuple[int, int] | None = None

    @property
    def more(self) -> bool:
        """Whether there are more rows."""
        return self.last is not None


class Names(Protocol):
    """Names by id, of the records that are asked for."""

    def get(self, record: int, /) -> str | None:
        """Return a name, None for a record that is not asked for."""


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the log: `after_rev` < `rev` <= `as_of`, of the records that `names` knows."""

    names: Names
    after_rev: int
    as_of: int
    page: PageLimits
    max_scanned: int


class Pace:
    """How long a page may take: whether to end it, and when to give it up."""

    def __init__(self, timeout_s: float) -> None:
        self.was_cut = False
        """Whether rows behind the page were not looked for."""
        self.has_lost = False
        """Whether a key led to no row."""
        self._has_row = False
        self._full_at = math.inf
        self._deadline: Final = time.monotonic() + timeout_s

    def begin(self) -> None:
        """Begin the page: from here on its time runs, for what was found out is lost with it."""
        self._full_at = time.monotonic() + _PAGE_S

    @property
    def is_timed(self) -> bool:
        """Whether the page's time runs: else it ends when it is full."""
        return self._full_at < math.inf

    def found_row(self) -> None:
        """Take note that the page has a row: it may end."""
        self._has_row = True

    def is_over(self) -> bool:
        """Tell whether the page should end with its rows so far."""
        return self._has_row and time.monotonic() > self._full_at

    def check(self) -> None:
        """Stop between two statements; APSW itself stops a statement that runs.

        Raises:
            trio.TooSlowError: past the deadline.
        """
        if time.monotonic() > self._deadline:
            raise trio.TooSlowError("query deadline")
