"""Questions about the newest rows of few records, answered from memory; and how these come there.

A page that was read from the file tells of each of its records which rows are the newest,
where it is the only page and reaches up to the record's latest row. See `recent.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import msgspec

from recordd.extending.backend import QueryParams
from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRows
from recordd.persistence.sqlite.catalog import Catalog
from recordd.persistence.sqlite.plans import Found, FoundText, QueryPlan
from recordd.persistence.sqlite.recent import Recent, Series, Span, order_before
from recordd.persistence.sqlite.schema import FIRST_RECORD
from recordd.system.turns import Steps
from recordd_protocol.patterns import PatternSet
from recordd_protocol.rows import Row, order_of

__all__ = ["RecentRows", "Warming"]

_MOST_RECORDS: Final = 1024
_MOST_ROWS: Final = 4096
"""Of one answer from memory: some 2 ms of the event loop, in steps."""

_RECORDS_A_STEP: Final = 32

_MOST_ROWS_EACH: Final = 1024
"""Rows of one record that are worth keeping: who asks for more pays for reading them."""

_ORDER: Final = attrgetter("order")


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
    ) -> Steps[list[Row] | None]:
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
            found = self.recent.find(records[0], span)
            return None if found is None else list(found)
        rows: list[Row] = []
        for number in range(0, len(records), _RECORDS_A_STEP):
            if number:
                yield
            found = self._find_all(records[number : number + _RECORDS_A_STEP], span)
            if found is None or len(rows) + len(found) > _MOST_ROWS:
                return None
            rows += found
        rows.sort(key=_ORDER)  # sorted stretches: little more than one look at each row
        return rows

    def _find_all(self, records: Sequence[int], span: Span) -> list[Row] | None:
        """Return the rows of some records, ascending; None where some are not here."""
        rows: list[Row] = []
        for record in records:
            found = self.recent.find(record, span)
            if found is None:
                return None
            rows += found
        rows.sort(key=_ORDER)
        return rows

    def begin(self, patterns: PatternSet, plan: QueryPlan, rev: int) -> Warming:
        """Begin the series of records whose newest rows a page will have; end it in any case.

        `rev` is the newest row that was noted. A plan that does not show it begins none.
        """
        begun: list[_Begun] = []
        limit = plan.limit_per_record or 1
        is_of_newest = plan.behind is None and rev <= plan.as_of
        if is_of_newest and limit <= _MOST_ROWS_EACH:
            most = min(_MOST_RECORDS, _MOST_ROWS // limit)
            found = self._catalog.find_few(patterns, most) or ()
            wanted = [record for record in found if self._has_newest_in(plan, record)]
            pays = [self.recent.is_worth(record) for record in wanted]  # all are asked for
            if all(pays):
                begun = self._begin_all(wanted)
        return Warming(self.recent, plan, begun, rev)

    def _has_newest_in(self, plan: QueryPlan, record: int) -> bool:
        newest = self._catalog.latest_of(record)
        return newest is not None and newest[0] <= plan.end_ms

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

    def __init__(self, recent: Recent, plan: QueryPlan, begun: Sequence[_Begun], rev: int) -> None:
        self._rev: Final = rev
        self._recent: Final = recent
        self._plan: Final = plan
        self._begun: Final = begun

    @property
    def fewest_as_text(self) -> int | None:
        """How many rows are too many to fill a series with; None where they are not to be text.

        Where a limit says that they are few, nothing is read twice to find that out.
        """
        if not self._begun:
            return 0
        return None if self._plan.limit_per_record is not None else _MOST_ROWS_EACH + 1

    def take(self, found: Found | FoundText) -> None:
        """Fill the series with a page, where it has all that was asked for."""
        if isinstance(found, FoundText) or found.more or not found.is_whole:
            return
        by_name: dict[str, list[Row]] = {}
        for row in found.rows:
            by_name.setdefault(row.name, []).append(row)
        for begun in self._begun:
            rows = by_name.get(begun.name, [])
            if len(rows) <= _MOST_ROWS_EACH:
                floor = self._find_floor(rows)
                if rows and max([row.rev or 0 for row in rows]) > self._rev:  # those are noted
                    rows = [row for row in rows if (row.rev or 0) <= self._rev]
                self._recent.fill(begun.record, begun.series, rows, floor)

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
