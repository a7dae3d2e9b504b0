"""Questions about the newest rows of few records, answered from memory; and how these come there.

A page that was read from the file tells of each of its records which rows are the newest,
where it is the only page and reaches up to the record's latest row. See `recent.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from recordd.extending.backend import QueryParams
from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRows
from recordd.extending.paging import PageLimits, count_fitting
from recordd.persistence.sqlite.catalog import Catalog, key_of
from recordd.persistence.sqlite.plans import Found, FoundText, QueryPlan
from recordd.persistence.sqlite.recent import Bodies, PageRows, Recent, Series, Span, order_before
from recordd.persistence.sqlite.schema import FIRST_RECORD
from recordd.system.turns import Steps
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import ROW_SEPARATOR, Row, order_of

__all__ = ["RecentRows", "Warming", "make_rows"]

_MOST_RECORDS: Final = 1024
_MOST_ROWS: Final = 4096
"""Of one answer from memory: some 2 ms of the event loop, in steps."""

_RECORDS_A_STEP: Final = 32

_ROWS_A_STEP: Final = 128

_MOST_ROWS_EACH: Final = 1024
"""Rows of one record that are worth keeping: who asks for more pays for reading them."""


class RecentRows:
    """The newest rows of the records of a catalog, of those that are asked for."""

    def __init__(self, catalog: Catalog, max_bytes: int) -> None:
        self._catalog: Final = catalog
        self.recent: Final = Recent(max_bytes)

    def note_commit(self, commit: NewRows) -> None:
        """Take the rows of a commit, those that are stored."""
        rows = RowColumns.of(commit.rows)
        numbers = [record_id + FIRST_RECORD for record_id in commit.record_ids]
        followed = self.recent.find_followed(numbers)
        noted = [(numbers[place], place) for place in followed if rows.revs[place] is not None]
        if 2 * len(noted) > len(rows):
            rows.make()  # once for all who ask
        self.recent.note_rows([(number, rows.row(place)) for number, place in noted])

    def find(
        self,
        patterns: PatternSet,
        params: QueryParams,
        as_of: int,
        behind: tuple[int, int] | None,
    ) -> Steps[Bodies | None]:
        """Return the rows of a query up to its last page, ascending; None where some are not here.

        What goes between two steps is missing: the caller looks at the moment.
        """
        records = self._catalog.find_few(patterns, _MOST_RECORDS)
        if records is None:
            return None
        start = order_before(params.start_ms or 0)
        if behind is not None:
            start = max(start, order_of(*behind))
        span = Span(params.limit_per_record, start, params.end_ms, as_of)
        if len(records) == 1:
            return self.recent.find(records[0], span)
        orders: list[int] = []
        bodies: dict[int, bytes] = {}
        for number in range(0, len(records), _RECORDS_A_STEP):
            if number:
                yield
            some = records[number : number + _RECORDS_A_STEP]
            if not self._find_all(some, span, orders, bodies) or len(orders) > _MOST_ROWS:
                return None
        orders.sort()  # sorted stretches: little more than one look at each row
        return Bodies(orders, [bodies[order] for order in orders])

    def _find_all(
        self, records: Sequence[int], span: Span, orders: list[int], bodies: dict[int, bytes]
    ) -> bool:
        """Add the rows of some records, their orders ascending; return whether all are here."""
        added: list[int] = []
        for record in records:
            found = self.recent.find(record, span)
            if found is None:
                return False
            added += found.orders
            bodies.update(zip(found.orders, found.bodies, strict=True))
        added.sort()
        orders += added
        return True

    def begin(self, patterns: PatternSet, plan: QueryPlan, rev: int) -> Warming:
        """Begin the series of records whose newest rows a page will have; end it in any case.

        `rev` is the newest row that was noted. A plan that does not show it begins none.
        """
        begun: list[_Begun] = []
        is_of_one = False
        limit = plan.limit_per_record or 1
        is_of_newest = plan.behind is None and rev <= plan.as_of
        if is_of_newest and limit <= _MOST_ROWS_EACH:
            most = min(_MOST_RECORDS, _MOST_ROWS // limit)
            found = self._catalog.find_few(patterns, most) or ()
            wanted = [record for record in found if self.has_newest(record, plan.end_ms)]
            pays = [self.recent.is_worth(record) for record in wanted]  # all are asked for
            if all(pays):
                begun = self._begin_all(wanted)
                is_of_one = len(found) == 1
        return Warming(self.recent, plan, begun, is_of_one=is_of_one)

    def has_newest(self, record: int, end_ms: int) -> bool:
        """Tell whether a record's newest row is among those up to a time: a series ends with it."""
        newest = self._catalog.latest_of(record)
        return newest is not None and newest[0] <= end_ms

    def _begin_all(self, records: Sequence[int]) -> list[_Begun]:
        begun = [(record, self.recent.begin(record)) for record in records]
        return [
            _Begun(record, self._catalog.name_of(record), series)
            for record, series in begun
            if series is not None
        ]


class _Begun(msgspec.Struct, frozen=True):
    record: int
    name: str
    series: Series


class Warming:
    """Series that a page under way may fill."""

    def __init__(
        self, recent: Recent, plan: QueryPlan, begun: Sequence[_Begun], *, is_of_one: bool
    ) -> None:
        """Take the series; with `is_of_one` the page has rows of one record alone."""
        self._is_of_one: Final = is_of_one
        self._recent: Final = recent
        self._plan: Final = plan
        self._begun: Final = begun

    @property
    def fewest_as_text(self) -> int | None:
        """How many rows are too many to fill series with; None where they are not to be text.

        One series is filled with text. Where a limit says that the rows of several are few,
        nothing is read twice to find that out.
        """
        if not self._begun or self._is_of_one:
            return 0
        return None if self._plan.limit_per_record is not None else _MOST_ROWS_EACH + 1

    def take(self, found: Found | FoundText) -> None:
        """Fill the series with a page, where it has all that was asked for."""
        if found.more or not self._begun:
            return
        if isinstance(found, FoundText):
            self._take_text(found)
        elif found.is_whole:
            self._take_rows(found.rows)

    def _take_text(self, found: FoundText) -> None:
        """Fill the series of the one record."""
        if self._is_of_one and found.behind is not None and found.count <= _MOST_ROWS_EACH:
            ts, rev = found.behind
            rows = PageRows(found.text, found.count, self._plan.as_of)
            for begun in self._begun:
                self._recent.fill(begun.record, begun.series, rows, (ts << 64) + rev)

    def _take_rows(self, found: Sequence[Row]) -> None:
        by_name: dict[str, list[Row]] = {}
        for row in found:
            by_name.setdefault(row.name, []).append(row)
        for begun in self._begun:
            rows = by_name.get(begun.name, [])
            if len(rows) <= _MOST_ROWS_EACH:
                self._recent.fill(begun.record, begun.series, rows, self._find_floor(rows))

    def end(self) -> None:
        """Give up what was not filled."""
        for begun in self._begun:
            self._recent.give_up(begun.record, begun.series)

    def _find_floor(self, rows: Sequence[Row]) -> int:
        """Return the order behind which all rows of a record were read."""
        limit = self._plan.limit_per_record
        if limit is not None and len(rows) >= limit:
            return rows[0].order - 1
        return order_before(self._plan.start_ms)


def cut_page(found: Bodies, limits: PageLimits) -> tuple[Bodies, bytes]:
    """Return the rows of a page, from the first, and their text."""
    orders, bodies = found
    if len(bodies) <= limits.rows:  # mostly all have room: no look at the size of each, 3 of 5 µs
        text = ROW_SEPARATOR.join(bodies)
        if len(text) + len(ROW_SEPARATOR) <= limits.bytes:
            return found, text
    sizes = list(map(len, bodies[: max(1, limits.rows)]))
    end = count_fitting(sizes, limits.bytes, beside_bytes=len(ROW_SEPARATOR), one_fits=True)
    return Bodies(orders[:end], bodies[:end]), ROW_SEPARATOR.join(bodies[:end])


def make_rows(found: Bodies) -> Steps[list[Row]]:
    """Return rows, in steps, each made of what an answer shows of it."""
    rows: list[Row] = []
    for start in range(0, len(found.orders), _ROWS_A_STEP):
        if start:
            yield
        end = start + _ROWS_A_STEP
        some = zip(found.orders[start:end], found.bodies[start:end], strict=True)
        rows += [_make_row(order, body) for order, body in some]
    return rows


def _make_row(order: int, body: bytes) -> Row:
    end_of_name = body.index(b'"', len(b'"name":"'))
    value = body[end_of_name + len(b'","value":') : body.rindex(b',"ts":')]
    row = Row(body[len(b'"name":"') : end_of_name].decode(), value, *key_of(order))
    row.body = body
    return row
