"""The newest rows of records whose history is asked for, kept in memory.

Theory of operation. A series is the end of a record's history: all of its rows behind a
`floor`, which rises and never falls. A page that was read from the file and reaches up to the
record's newest row begins one; from then on each commit adds to it, also while the page is
being read. Rows that go raise the floor to the newest of them: behind that none went. So what
a series has is exact for every moment up to now, and what it does not cover it does not answer.

Rows are kept as the text that an answer shows of them, one after the other beside their orders: a
third of what objects take, and answers are joined as they are. What came lately is put beside them
when the series is asked for, and the text of a page is taken apart no sooner either: most of what
is kept is never asked for again, and a commit must not pay for it.

A record's number in the file is never given again, so a record that is made anew under its name
has no series yet. Only what is asked for is kept: a series that nobody asked for between two
cuts is forgotten, and past `max_bytes` the one that was asked for longest ago. A new one takes
its place only where its record was asked for once more since then: who asks for more records
than there is room for, one after the other, finds as many as have room, and the others cost
no more than to read them.
"""

from __future__ import annotations

import collections
from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from recordd_protocol.rows import ROW_SEPARATOR, Row, order_of

__all__ = ["Bodies", "PageRows", "Recent", "Series", "Span", "order_before"]

_BODY_BYTES: Final = 104
"""What a row takes in memory beside its body: 33 of the object, its order, two places in lists."""

_ROW_BYTES: Final = 320
"""What a row that came lately takes beside its value, as an object, its name and all."""

_FEWEST_ROWS: Final = 64
_MOST_ROWS: Final = 2048
"""Rows of one series at most: twice what was read for it, and within these bounds."""

_SERIES_BYTES: Final = 640
"""What a series takes beside its rows, about."""

_MOST_MISSED: Final = 8192
"""Records without a series of which is known when they were asked for; some 1 MB."""

_ANY_REV: Final = (1 << 64) - 1
_EVERYTHING: Final = 1 << 128
"""A floor above every order."""

_NAME_AT: Final = len(b'"name":"')
_BEHIND_NAME: Final = b'","value":'


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


class Bodies(NamedTuple):
    """Rows, ascending: their orders, and what an answer shows of them."""

    orders: list[int]
    bodies: list[bytes]


class PageRows(msgspec.Struct, frozen=True):
    """Rows of one record, joined as on a page; how many, and a rev that none is beyond."""

    text: bytes
    count: int
    newest_rev: int


class _Ends(msgspec.Struct, gc=False):
    """What tells where a row ends."""

    value: msgspec.Raw
    ts: int
    rev: int


_decode: Final = msgspec.json.Decoder(list[_Ends]).decode


class Series:
    """The rows of one record behind `floor`; before it is filled, those that came."""

    __slots__ = (
        "_bodies",
        "_came",
        "_came_bytes",
        "_kept_bytes",
        "_orders",
        "_text",
        "_text_rows",
        "asked_at",
        "floor",
        "max_rows",
        "newest_rev",
        "was_asked",
    )

    def __init__(self) -> None:
        self._orders: list[int] = []
        self._bodies: list[bytes] = []
        self._text = b""
        """Rows that were read, and not taken apart yet; there are no bodies then."""
        self._text_rows = 0
        self._came: list[Row] = []
        """Rows that came since, in the order of their revs."""
        self._kept_bytes = 0
        self._came_bytes = 0
        self.floor = -1
        self.newest_rev = 0
        self.was_asked = True
        self.asked_at = 0
        self.max_rows = _MOST_ROWS

    def __len__(self) -> int:
        """Rows that it has; those twice that came while they were read."""
        return len(self._orders) + self._text_rows + len(self._came)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about."""
        return _SERIES_BYTES + self._kept_bytes + self._came_bytes

    def fill(self, rows: PageRows | Sequence[Row], floor: int) -> None:
        """Take the rows behind `floor` as they were read from the file, beside those that came."""
        if isinstance(rows, PageRows):
            self._text, self._text_rows = rows.text, rows.count
            self._kept_bytes = len(rows.text) + rows.count * _BODY_BYTES
            self.newest_rev = max(self.newest_rev, rows.newest_rev)
        else:
            self._put({row.order: row.body for row in rows})
            self.newest_rev = max([self.newest_rev, *[row.rev or 0 for row in rows]])
        self.max_rows = min(max(2 * len(self), _FEWEST_ROWS), _MOST_ROWS)
        gone, self.floor = self.floor, floor
        self.raise_floor(gone)  # some may have gone since they were read

    def add(self, row: Row) -> None:
        """Take a committed row."""
        if row.order > self.floor:
            self._came.append(row)
            self._came_bytes += _ROW_BYTES + len(row.value)
            self.newest_rev = row.rev or 0

    def raise_floor(self, floor: int) -> None:
        """Cover no row up to `floor` any more."""
        if floor > self.floor:
            self.floor = floor
            self._settle()
            cut = bisect_right(self._orders, floor)
            self._kept_bytes -= _size_of(self._bodies[:cut])
            del self._orders[:cut], self._bodies[:cut]

    def halve(self) -> None:
        """Cover the newer half of the rows."""
        self._settle()
        if self._orders:
            self.raise_floor(self._orders[len(self._orders) // 2 - 1])

    def find(self, span: Span) -> Bodies | None:
        """Return the rows of a span, ascending; None where the series does not cover them."""
        if self._text or self._came:
            self._settle()
        orders, bodies = self._orders, self._bodies
        if self.newest_rev > span.as_of:
            as_of = span.as_of
            bodies = [b for b, o in zip(bodies, orders, strict=True) if o & _ANY_REV <= as_of]
            orders = [order for order in orders if order & _ANY_REV <= as_of]
        end = len(orders)
        if span.end_ms is not None:
            end = bisect_right(orders, order_of(span.end_ms, _ANY_REV))
        first = bisect_right(orders, span.start)
        if span.limit is not None and span.limit <= end:
            first = max(first, end - span.limit)
        elif self.floor > span.start:
            return None
        return Bodies(orders[first:end], bodies[first:end])

    def _settle(self) -> None:
        """Take the text apart, and put what came in its place."""
        if self._text:
            text, self._text, self._text_rows, self._kept_bytes = self._text, b"", 0, 0
            self._put(self._take_apart(text))
        if self._came:
            came, self._came, self._came_bytes = self._came, [], 0
            self._put({row.order: row.body for row in came if row.order > self.floor})

    def _take_apart(self, text: bytes) -> dict[int, bytes]:
        try:
            return _take_apart(text)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            # No value that was accepted does that; another program may have written one.
            self.floor = _EVERYTHING
            return {}

    def _put(self, found: dict[int, bytes]) -> None:
        """Put bodies, in whatever order, in their places."""
        orders = sorted(found)
        if orders and self._orders and orders[0] <= self._orders[-1]:
            found |= zip(self._orders, self._bodies, strict=True)
            orders = sorted(found)
            self._orders, self._bodies, self._kept_bytes = [], [], 0
        bodies = [found[order] for order in orders]
        self._orders += orders
        self._bodies += bodies
        self._kept_bytes += _size_of(bodies)


def _take_apart(text: bytes) -> dict[int, bytes]:
    """Return the bodies of rows of one record that are joined, by their orders.

    `},{` may be within a value: where it ends a decoder says. 100 rows take 65 µs.
    """
    bodies, start, head = {}, 0, text.index(b'"', _NAME_AT) + len(_BEHIND_NAME)
    for row in _decode(b"[{%b}]" % text):
        tail = b',"ts":%d,"rev":%d' % (row.ts, row.rev)
        end = text.index(tail, start + head + len(row.value)) + len(tail)
        bodies[order_of(row.ts, row.rev)] = text[start:end]
        start = end + len(ROW_SEPARATOR)
    return bodies


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

    def fill(self, record: int, series: Series, rows: PageRows | Sequence[Row], floor: int) -> None:
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

    def find(self, record: int, span: Span) -> Bodies | None:
        """Return rows of a record; None where they are not known here."""
        series = self._series.get(record)
        if series is None:
            return None
        self._series.move_to_end(record)
        self._note_asked(series)
        before = series.size_bytes
        found = series.find(span)
        if series.size_bytes != before:
            self.size_bytes += series.size_bytes - before
            self._make_room()
        return found

    def note_rows(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Take committed rows, each with its record, in the order of their revs."""
        if self._begun:
            rows = list(rows)
            self._note_begun(rows)
        known = self._series.get
        for record, row in rows:
            if (series := known(record)) is not None:
                before = series.size_bytes
                series.add(row)
                self.size_bytes += series.size_bytes - before
                if len(series) > series.max_rows:
                    self._cut(record, series)
        self._make_room()

    def note_gone(self, record: int, newest: tuple[int, int]) -> None:
        """Take note that rows of a record are gone, `newest` the greatest (`ts`, `rev`) of them."""
        floor = order_of(*newest)
        if (series := self._series.get(record)) is not None:
            before = series.size_bytes
            series.raise_floor(floor)
            self.size_bytes += series.size_bytes - before
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
                if len(series) > series.max_rows:
                    del self._begun[record]

    def _cut(self, record: int, series: Series) -> None:
        """Forget the older half of a series, or all where nobody asked since the last time."""
        if not series.was_asked:
            self._drop(record)
            return
        series.was_asked = False
        before = series.size_bytes
        series.halve()
        self.size_bytes += series.size_bytes - before

    def _drop(self, record: int) -> None:
        if (series := self._series.pop(record, None)) is not None:
            self.size_bytes -= series.size_bytes

    def _make_room(self) -> None:
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._series)))


def _size_of(bodies: Sequence[bytes]) -> int:
    return sum(map(len, bodies)) + len(bodies) * _BODY_BYTES
