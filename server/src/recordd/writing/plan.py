"""The plan that turns a batch of write requests into rows.

Planning is pure: it decides times, commit numbers, record ids, lateness and conditions
against the hub and against the batch's own earlier rows, and changes nothing. What it
decides is a commit, to which nothing is left to decide when it is applied.

A request brings its records as they were found when it was checked. One that was deleted
while the request waited, and one that was not there, is looked up here, once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from recordd.extending.columns import RowColumns
from recordd.extending.commit import NewRecord, NewRows
from recordd.hub.catalogue import Catalogue
from recordd.hub.records import BODY_BYTES, ROW_BYTES, RecordState, Unborn, memory_of
from recordd.writing.planned_rows import PlannedRows
from recordd.writing.requests import Condition, NewRow, WriteRows, to_written
from recordd_protocol.dialect import Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Written

__all__ = ["Plan"]

_IS_DELETED: Final = attrgetter("is_deleted")

_ROWS_A_STEP: Final = 1024
"""Planned between two steps: 0.2 µs each, 0.5 where one is not as nearly all are. Of fewer the
ones behind the first step are looked up among those before: 0.1 µs each."""


class Plan:
    """What a batch of writes will do, if it commits; nothing before `make` has come to its end."""

    def __init__(
        self, writes: Iterable[WriteRows], catalogue: Catalogue, *, now_ms: int, storing: bool
    ) -> None:
        self.planned: Final[list[WriteRows]] = []
        """The writes that are not refused; `rows` has those of one after those of the other."""
        self.refused: Final[list[tuple[WriteRows, RequestError]]] = []
        self._catalogue: Final = catalogue
        self._storing: Final = storing
        self._rows: Final = PlannedRows(
            now_ms=now_ms,
            rev=catalogue.rev,
            storing=storing,
            all_persist=catalogue.rules.all_persist,
        )
        self._unborn: Final[dict[str, Unborn]] = {}
        self._grown = 0
        self._writes = list(writes)
        # Twice: a row's value is kept as it is, and in the row as answers show it.
        most = 2 * sum([write.size_bytes for write in self._writes])
        self._is_tight: Final = catalogue.latest_bytes + most > catalogue.max_latest_bytes
        if self._is_tight or sum([len(write.items) for write in self._writes]) > self._room:
            # One of a burst may be refused, and the others are not.
            self._writes = [single for write in self._writes for single in write.split()]

    def make(self) -> Iterator[None]:
        """Plan one write after the other, in steps; the hub is not to change meanwhile.

        Writes that nothing can refuse gather, and are planned together: most have one row, for
        which calls of its own would cost as much as it does.
        """
        gathered: list[NewRow] = []
        room = self._room
        for write in self._writes:
            if write.conditions or self._is_tight or len(gathered) + len(write.items) > room:
                yield from self._plan_rows(gathered)
                gathered, room = [], self._room
                if not self._is_accepted(write):
                    continue
            gathered += write.items
            self.planned.append(write)
            if len(gathered) >= _ROWS_A_STEP:
                yield from self._plan_rows(gathered)
                gathered, room = [], self._room
        yield from self._plan_rows(gathered)

    def results(self) -> Iterator[tuple[WriteRows, Result]]:
        """Yield each planned write with its result; a row that nobody looks at is not made."""
        start, rows = 0, self.rows
        revs, times, late = rows.revs, rows.times, rows.late
        for write in self.planned:
            end = start + len(write.items)
            if write.to_result is to_written:
                yield write, Written(rev=revs[start], ts=times[start], late=start in late)
            else:
                yield write, write.to_result(rows.part(start, end))
            start = end

    @functools.cached_property
    def rows(self) -> RowColumns:
        """The rows, once all are planned."""
        return self._rows.columns()

    @property
    def records(self) -> Sequence[RecordState | Unborn]:
        """Of each row."""
        return self._rows.records

    @property
    def stored_rows(self) -> int:
        """How many rows are persisted."""
        return self._rows.stored_rows

    def commit(self) -> NewRows:
        """Return what was planned as a commit."""
        created = [
            NewRecord(unborn.record_id, unborn.name, self._is_stored(unborn))
            for unborn in self._unborn.values()
        ]
        return NewRows(self.rows, self._rows.record_ids(), created)

    @property
    def _room(self) -> int:
        """How many new records there may still be."""
        return self._catalogue.max_records - len(self._catalogue) - len(self._unborn)

    def _is_accepted(self, write: WriteRows) -> bool:
        """Check a write behind all rows before it; note why it is refused."""
        try:
            for condition in write.conditions:
                self._check_condition(condition)
            self._check_room(write.items)
            if self._is_tight:
                self._check_memory(write.items)
        except RequestError as error:
            self.refused.append((write, error))
            return False
        return True

    def _plan_rows(self, items: list[NewRow]) -> Iterator[None]:
        for start in range(0, len(items), _ROWS_A_STEP):
            self._plan_some(items[start : start + _ROWS_A_STEP])
            yield

    def _plan_some(self, items: list[NewRow]) -> None:
        names, values, times, found = zip(*items, strict=True)
        records: Sequence[RecordState | Unborn] = found
        if not all(found) or True in map(_IS_DELETED, found):
            records = [
                self._find(name, state) or self._create(name)
                for name, state in zip(names, found, strict=True)
            ]
        self._rows.add(names, values, times, records)

    def _find(self, name: str, found: RecordState | None) -> RecordState | Unborn | None:
        """Return a record that there is or will be; `found` is what there was."""
        if found is not None and not found.is_deleted:
            return found
        return self._unborn.get(name) or self._catalogue.find(name)

    def _create(self, name: str) -> Unborn:
        """Return a record that this batch makes."""
        record_id = self._catalogue.next_record_id + len(self._unborn)
        unborn = self._unborn[name] = Unborn(record_id, name, self._catalogue.rules.rule_for(name))
        return unborn

    def _is_stored(self, record: RecordState | Unborn) -> bool:
        return self._storing and record.rule.persist

    def _check_condition(self, condition: Condition) -> None:
        name, if_rev, where, found = condition
        record = self._find(name, found)
        rule = self._catalogue.rules.rule_for(name) if record is None else record.rule
        if if_rev and not (self._storing and rule.persist):
            refusal = f"record {name!r} is not persisted and has no rev: 0 is all that can be asked"
            raise RequestError(Reason.INVALID_PARAMS, f"{where}if_rev: {refusal}")
        if record is None:
            state, holds = "does not exist", if_rev == 0
        else:
            rev = self._rev_of(record)
            state = "exists" if rev is None else f"is at rev {rev}"
            holds = if_rev == rev
        if not holds:
            refusal = f"{where}if_rev: record {name!r} {state}, not {if_rev}"
            raise RequestError(Reason.CONFLICT, refusal)

    def _rev_of(self, record: RecordState | Unborn) -> int | None:
        """Return the rev of a record's latest row, the planned ones counted in."""
        place = self._rows.newest.get(record.name)
        if place is not None:
            return self._rows.rev_at(place)
        assert isinstance(record, RecordState), "a record is made for a row of its own"
        return record.rev

    def _check_room(self, items: list[NewRow]) -> None:
        room = self._room
        if room >= len(items):
            return
        new: set[str] = set()
        for index, (name, _, _, found) in enumerate(items):
            if self._find(name, found) is None:
                new.add(name)
            if len(new) > room:
                where = f"records[{index}]: " if len(items) > 1 else ""
                refusal = (
                    f"{where}there are {self._catalogue.max_records} records, which is the limit"
                )
                raise RequestError(Reason.OVERLOADED, refusal)

    def _check_memory(self, items: list[NewRow]) -> None:
        """Refuse what latest values have no room for, before it is committed.

        So the same values have room when they are loaded at the next start.
        """
        growth = sum([self._growth_of(*item) for item in items])
        catalogue = self._catalogue
        taken, most = catalogue.latest_bytes + self._grown, catalogue.max_latest_bytes
        if growth > 0 and taken + growth > most:
            text = f"max_latest_bytes: latest values take {taken} of {most} bytes"
            raise RequestError(Reason.OVERLOADED, text)
        self._grown += growth

    def _growth_of(self, name: str, value: bytes, ts: int | None, found: RecordState | None) -> int:
        size = ROW_BYTES + 2 * len(value) + len(name.encode()) + BODY_BYTES
        state, planned = self._find(name, found), self._planned_memory_of(name)
        if state is None or isinstance(state, Unborn):
            is_single = self._catalogue.rules.rule_for(name).capacity == 1
            return size - planned if planned is not None and is_single else size
        if state.occupancy != state.rule.capacity:
            return size
        is_single = state.rule.capacity == 1
        if is_single and ts is not None and ts < state.ts:
            return 0  # late: history only
        return size - (planned if is_single and planned else memory_of(state.buffer[0]))

    def _planned_memory_of(self, name: str) -> int | None:
        """Return what the latest of a record's planned rows takes, None where there is none."""
        place = self._rows.newest.get(name)
        if place is None:
            return None
        return ROW_BYTES + BODY_BYTES + 2 * len(self._rows.value_at(place)) + len(name)
