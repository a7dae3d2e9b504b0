"""The plan that turns a batch of write requests into rows.

Planning is pure: it decides times, commit numbers, lateness and conditions against the
hub and against the batch's own earlier rows, and changes nothing. The writer commits the
plan and then applies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from recordd.hub.catalogue import Catalogue
from recordd.hub.records import ROW_BYTES, RecordState, memory_of
from recordd.system.turns import Steps
from recordd.writing.requests import Condition, NewRow, WriteRows
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.rows import Row, RowKind

__all__ = ["Plan", "Planned"]

_ROWS_A_STEP: Final = 32
"""Planned between two steps: some 4 µs each."""

_BODY_BYTES: Final = 80
"""What a row's body has beside its name and its value, about."""


class Planned:
    """A write whose rows are decided."""

    __slots__ = ("rows", "write")

    def __init__(self, write: WriteRows, rows: list[Row]) -> None:
        self.write: Final = write
        self.rows: Final = rows


class Plan:
    """What a batch of writes will do, if it commits; nothing before `make` has come to its end."""

    def __init__(
        self, writes: Iterable[WriteRows], catalogue: Catalogue, *, now_ms: int, storing: bool
    ) -> None:
        self.planned: Final[list[Planned]] = []
        self.refused: Final[list[tuple[WriteRows, RequestError]]] = []
        self._catalogue: Final = catalogue
        self._now_ms: Final = now_ms
        self._storing: Final = storing
        self._rev = catalogue.rev
        self._latest: dict[str, Row] = {}
        self._created = 0
        self._grown = 0
        self._writes: Final = list(writes)
        # Twice: a row's value is kept as it is, and in the row as answers show it.
        most = 2 * sum([write.size_bytes for write in self._writes])
        self._is_tight: Final = catalogue.latest_bytes + most > catalogue.max_latest_bytes

    def make(self) -> Iterator[None]:
        """Plan one write after the other, in steps; the hub is not to change meanwhile."""
        for number, write in enumerate(self._writes, 1):
            try:
                self._check(write)
            except RequestError as error:
                self.refused.append((write, error))
            else:
                # Most have one row, for which steps of its own would cost as much as it does.
                if len(write.items) == 1:
                    rows = [self._plan_row(*write.items[0])]
                else:
                    rows = yield from self._plan_rows(write.items)
                self.planned.append(Planned(write, rows))
            if number % _ROWS_A_STEP == 0:
                yield

    def rows_to_store(self) -> list[Row]:
        """Return the rows that are persisted, in `rev` order."""
        return [row for planned in self.planned for row in planned.rows if row.rev is not None]

    def _check(self, write: WriteRows) -> None:
        for condition in write.conditions:
            self._check_condition(condition)
        self._check_room(write.items)
        if self._is_tight:
            self._check_memory(write.items)

    def _plan_rows(self, items: list[NewRow]) -> Steps[list[Row]]:
        rows: list[Row] = []
        for start in range(0, len(items), _ROWS_A_STEP):
            rows += [self._plan_row(*item) for item in items[start : start + _ROWS_A_STEP]]
            yield
        return rows

    def _plan_row(self, name: str, value: bytes, ts: int | None) -> Row:
        state = self._catalogue.find(name)
        latest = self._latest.get(name) or (None if state is None else state.latest)
        if ts is None:
            # The record's own clock never runs backwards: a write without ts must become
            # the latest, also when our clock was set back or a client's runs ahead.
            ts = self._now_ms if latest is None else max(self._now_ms, latest.ts)
        rev = None
        if self._is_stored(name, state):
            rev = self._rev = self._rev + 1
        # Later commits have greater revs: at the same ts the newer row is the latest.
        if latest is not None and ts < latest.ts:
            return Row(name, value, ts, rev, RowKind.LATE)
        if latest is None:
            self._created += 1
        row = self._latest[name] = Row(name, value, ts, rev)
        return row

    def _is_stored(self, name: str, state: RecordState | None) -> bool:
        if not self._storing:
            return False
        rule = self._catalogue.rules.rule_for(name) if state is None else state.rule
        return rule.persist

    def _find_latest(self, name: str) -> Row | None:
        if row := self._latest.get(name):
            return row
        state = self._catalogue.find(name)
        return None if state is None else state.latest

    def _check_condition(self, condition: Condition) -> None:
        name, if_rev, where = condition
        if if_rev and not self._is_stored(name, self._catalogue.find(name)):
            refusal = f"record {name!r} is not persisted and has no rev: 0 is all that can be asked"
            raise RequestError(Reason.INVALID_PARAMS, f"{where}if_rev: {refusal}")
        latest = self._find_latest(name)
        if latest is None:
            found, holds = "does not exist", if_rev == 0
        else:
            found = "exists" if latest.rev is None else f"is at rev {latest.rev}"
            holds = if_rev == latest.rev
        if not holds:
            refusal = f"{where}if_rev: record {name!r} {found}, not {if_rev}"
            raise RequestError(Reason.CONFLICT, refusal)

    def _check_room(self, items: list[NewRow]) -> None:
        room = self._catalogue.max_records - len(self._catalogue) - self._created
        if room >= len(items):
            return
        new: set[str] = set()
        for index, (name, _, _) in enumerate(items):
            if self._find_latest(name) is None:
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
        growth = sum([self._growth_of(name, value, ts) for name, value, ts in items])
        catalogue = self._catalogue
        taken, most = catalogue.latest_bytes + self._grown, catalogue.max_latest_bytes
        if growth > 0 and taken + growth > most:
            text = f"max_latest_bytes: latest values take {taken} of {most} bytes"
            raise RequestError(Reason.OVERLOADED, text)
        self._grown += growth

    def _growth_of(self, name: str, value: bytes, ts: int | None) -> int:
        size = ROW_BYTES + 2 * len(value) + len(name.encode()) + _BODY_BYTES
        state, planned = self._catalogue.find(name), self._latest.get(name)
        if state is None:
            is_single = self._catalogue.rules.rule_for(name).capacity == 1
            return size - memory_of(planned) if planned is not None and is_single else size
        if len(state.buffer) != state.buffer.maxlen:
            return size
        is_single = state.buffer.maxlen == 1
        if is_single and ts is not None and ts < state.latest.ts:
            return 0  # late: history only
        return size - memory_of(planned if is_single and planned is not None else state.buffer[0])
