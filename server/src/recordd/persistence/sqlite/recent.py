"""The newest rows of records whose history is asked for, kept in memory.

Theory of operation. A series is the end of a record's history: all of its rows behind a
`floor`, which rises and never falls. A page that was read from the file and reaches up to the
record's newest row begins one; from then on each commit adds to it, also while the page is
being read. Rows that go raise the floor to the newest of them: behind that none went. So what
a series has is exact for every moment up to now, and what it does not cover it does not answer.

A record's number in the file is never given again, so a record that is made anew under its name
has no series yet. Only what is asked for is kept: a series that nobody asked for between two
cuts is forgotten, and past `max_bytes` the one that was asked for longest ago. A new one takes
its place only where its record was asked for once more since then: who asks for more records
than there is room for, one after the other, finds as many as have room, and the others cost
no more than to read them.
"""

from __future__ import annotations

import collections
from bisect import bisect_right, insort
from collections.abc import Container, Iterable, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from recordd_protocol.rows import Row, order_of

__all__ = ["Recent", "Series", "Span", "order_before"]

_ROW_BYTES: Final = 288
"""What a row takes in memory beside its value and its body: 280, and its place in the list."""

_FEWEST_ROWS: Final = 64
_MOST_ROWS: Final = 2048
"""Rows of one series at most: twice what was read for it, and within these bounds."""

_SERIES_BYTES: Final = 512
"""What a series takes beside its rows, about."""

_MOST_MISSED: Final = 8192
"""Records without a series of which is known when they were asked for; some 1 MB."""

_ANY_REV: Final = (1 << 64) - 1
_ORDER: Final = attrgetter("order")


def order_before(ts: int) -> int:
    """Return the greatest order of all before a time."""
    return (ts << 64) - 1


class Span(msgspec.Struct, frozen=True):
    """Which rows of a record: the newest `limit` (None: all) of those up to `end_ms`.

    Of these the ones behind `start`, an order; commits after `as_of` are not there yet.
    """

    limit: int | None
    start: int
    end_ms: int | None
    as_of: int


class Series:
    """The rows of one record behind `floor`, ascending; before it is filled, those that came."""

    __slots__ = ("asked_at", "floor", "max_rows", "newest_rev", "rows", "size_bytes", "was_asked")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.floor = -1
        self.newest_rev = 0
        self.size_bytes = _SERIES_BYTES
        self.was_asked = True
        self.asked_at = 0
        self.max_rows = _MOST_ROWS

    def fill(self, rows: Sequence[Row], floor: int) -> None:
        """Take the rows behind `floor` as they were read from the file, beside those that came."""
        floor = max(floor, self.floor)
        self.rows = sorted([*rows, *self.rows], key=_ORDER)
        self.size_bytes = _SERIES_BYTES + _size_of(self.rows)
        self.newest_rev = max([row.rev or 0 for row in self.rows], default=0)
        self.floor = -1  # some may have gone since they were read
        self.raise_floor(floor)
        self.max_rows = min(max(2 * len(self.rows), _FEWEST_ROWS), _MOST_ROWS)

    def add(self, row: Row) -> int:
        """Take a committed row; return the bytes that it adds."""
        rows, order = self.rows, row.order
        if order <= self.floor:
            return 0
        if not rows or order > rows[-1].order:
            rows.append(row)
        else:
            insort(rows, row, key=_ORDER)
        self.newest_rev = row.rev or 0
        added = _ROW_BYTES + len(row.value) + len(row.body)
        self.size_bytes += added
        return added

    def raise_floor(self, floor: int) -> int:
        """Cover no row up to `floor` any more; return the bytes that this frees."""
        if floor <= self.floor:
            return 0
        self.floor = floor
        cut = bisect_right(self.rows, floor, key=_ORDER)
        freed = _size_of(self.rows[:cut])
        del self.rows[:cut]
        self.size_bytes -= freed
        return freed

    def find(self, span: Span) -> Sequence[Row] | None:
        """Return the rows of a span, ascending; None where the series does not cover them."""
        rows = self.rows
        if self.newest_rev > span.as_of:
            rows = [row for row in rows if (row.rev or 0) <= span.as_of]
        end = len(rows)
        if span.end_ms is not None:
            end = bisect_right(rows, order_of(span.end_ms, _ANY_REV), key=_ORDER)
        first = bisect_right(rows, span.start, key=_ORDER)
        if span.limit is not None and span.limit <= end:
            return rows[max(first, end - span.limit) : end]
        return None if self.floor > span.start else rows[first:end]


class Recent:
    """The series that there are, by the record's number in the file."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes
        self._series: Final[collections.OrderedDict[int, Series]] = collections.OrderedDict()
        self._begun: Final[dict[int, Series]] = {}
        """Those whose rows are being read."""
        self._missed: Final[collections.OrderedDict[int, int]] = collections.OrderedDict()
        """Of records without a series, when they were asked for, counted in questions."""
        self._asked = 0
        self.size_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no series, so that no row needs to be noted."""
        return not self._series and not self._begun

    def find_followed(self, records: Iterable[int]) -> list[int]:
        """Return the places of the records whose rows are to be noted."""
        known: Container[int] = self._series
        if self._begun:
            known = self._series.keys() | self._begun.keys()
        return [place for place, record in enumerate(records) if record in known]

    def is_worth(self, record: int) -> bool:
        """Take note that a record was asked for in vain; tell whether a series of it would pay.

        It does where there is room for one more of their usual size, or where the record was
        asked for before, and since then not the one that would have to go.
        """
        if record in self._series:
            return True
        self._asked += 1
        before = self._missed.pop(record, -1)
        self._missed[record] = self._asked
        if len(self._missed) > _MOST_MISSED:
            self._missed.popitem(last=False)
        count = len(self._series)
        if self.size_bytes * (count + 1) <= self._max_bytes * count or not count:
            return True
        return before > next(iter(self._series.values())).asked_at

    def begin(self, record: int) -> Series | None:
        """Begin the series of a record whose newest rows are about to be read; one at a time.

        Every row that was noted so far is to be among those that are read.
        """
        if record in self._begun or not self._max_bytes:
            return None
        series = self._begun[record] = Series()
        return series

    def fill(self, record: int, series: Series, rows: Sequence[Row], floor: int) -> None:
        """Fill a series that was begun with what was read; of two it keeps what goes back further.

        Nothing comes of it where the record was forgotten meanwhile.
        """
        if self._begun.get(record) is not series:
            return
        del self._begun[record]
        series.fill(rows, floor)
        known = self._series.get(record)
        if known is None or series.floor < known.floor:
            self._drop(record)
            self._missed.pop(record, None)
            self._note_asked(series)
            self._series[record] = series
            self.size_bytes += series.size_bytes
            self._make_room()

    def give_up(self, record: int, series: Series) -> None:
        """Forget a series that was begun and not filled."""
        if self._begun.get(record) is series:
            del self._begun[record]

    def find(self, record: int, span: Span) -> Sequence[Row] | None:
        """Return rows of a record; None where they are not known here."""
        series = self._series.get(record)
        if series is None:
            return None
        self._series.move_to_end(record)
        self._note_asked(series)
        return series.find(span)

    def note_rows(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Take committed rows, each with its record, in the order of their revs."""
        if self._begun:
            rows = list(rows)
            self._note_begun(rows)
        known = self._series.get
        for record, row in rows:
            if (series := known(record)) is not None:
                self.size_bytes += series.add(row)
                if len(series.rows) > series.max_rows:
                    self._cut(record, series)
        self._make_room()

    def note_gone(self, record: int, newest: tuple[int, int]) -> None:
        """Take note that rows of a record are gone, `newest` the greatest (`ts`, `rev`) of them."""
        floor = order_of(*newest)
        if (series := self._series.get(record)) is not None:
            self.size_bytes -= series.raise_floor(floor)
        if (series := self._begun.get(record)) is not None:
            series.raise_floor(floor)

    def forget(self, record: int) -> None:
        """Forget a record: it is deleted."""
        self._begun.pop(record, None)
        self._drop(record)

    def _note_asked(self, series: Series) -> None:
        self._asked += 1
        series.asked_at = self._asked
        series.was_asked = True

    def _note_begun(self, rows: Iterable[tuple[int, Row]]) -> None:
        for record, row in rows:
            if (series := self._begun.get(record)) is not None:
                series.add(row)
                if len(series.rows) > series.max_rows:
                    del self._begun[record]

    def _cut(self, record: int, series: Series) -> None:
        """Forget the older half of a series, or all where nobody asked since the last time."""
        if not series.was_asked:
            self._drop(record)
            return
        series.was_asked = False
        self.size_bytes -= series.raise_floor(series.rows[len(series.rows) // 2 - 1].order)

    def _drop(self, record: int) -> None:
        if (series := self._series.pop(record, None)) is not None:
            self.size_bytes -= series.size_bytes

    def _make_room(self) -> None:
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._series)))


def _size_of(rows: Sequence[Row]) -> int:
    return sum([_ROW_BYTES + len(row.value) + len(row.body) for row in rows])
