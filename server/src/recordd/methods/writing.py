"""The methods that change records: they check what can be checked, the writer does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from recordd.core import Core
from recordd.extending.columns import RowColumns
from recordd.hub.records import RecordState
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Handler, HasParams, MakeRows, RunHandler
from recordd.system.clock import SYSTEM_CLOCK
from recordd.system.turns import Steps
from recordd.writing.requests import (
    Condition,
    DeleteRecord,
    NewRow,
    TrimRecord,
    WriteRows,
    to_written,
)
from recordd.writing.time_window import check_ts
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER, check_integer
from recordd_protocol.methods import (
    Delete,
    Deleted,
    Set,
    SetMany,
    Trim,
    WriteItem,
    WrittenMany,
)
from recordd_protocol.names import check_name
from recordd_protocol.rows import Row
from recordd_protocol.values import check_value, find_plain

__all__ = ["HANDLERS", "RUN_HANDLERS"]

_ROWS_A_STEP: Final = 128
"""Checked between two steps: some 0.4 µs each, 3 where one is not as nearly all are."""

_IS_WRITABLE: Final = attrgetter("rule.writable")


def set_record(caller: Caller, params: Set) -> WriteRows:
    """Write one value."""
    core, name = caller.core, params.name
    row = (name, bytes(params.value), params.ts, core.hub.catalogue.find(name))
    item = _check_row(core, row)
    if params.if_rev is None:
        return WriteRows([item], to_written)
    return WriteRows([item], to_written, conditions=[_check_condition(params, item)])


def set_records(caller: Caller, sets: Sequence[HasParams]) -> list[NewRow] | None:
    """Return the rows to write, where none is refused or has a condition."""
    core, items = caller.core, [call.params for call in sets]
    if [item for item in items if item.if_rev is not None]:
        return None
    states = _find_records(core, items)
    rows = _take_plain(core, items, states)
    if rows is not None:
        return rows
    try:
        return [_check_row(core, row) for row in _take_unchecked(items, states)]
    except RequestError:
        return None


def set_many(caller: Caller, params: SetMany) -> Steps[WriteRows]:
    """Write many rows, all or nothing; they are checked in steps."""
    core, records = caller.core, params.records
    if not records:
        raise RequestError(Reason.INVALID_PARAMS, "records: must not be empty")
    limit = core.settings.max_rows_per_write
    if len(records) > limit:
        raise RequestError(Reason.TOO_LARGE, f"records: {len(records)} rows, limit {limit}")
    items: list[NewRow] = []
    conditions: list[Condition] = []
    for start in range(0, len(records), _ROWS_A_STEP):
        some = records[start : start + _ROWS_A_STEP]
        has_conditions = bool([item for item in some if item.if_rev is not None])
        states = _find_records(core, some)
        rows = None if has_conditions else _take_plain(core, some, states)
        if rows is None:
            rows, stated = _check_items(core, some, _take_unchecked(some, states), start)
            conditions += stated
        items += rows
        yield
    to_result = _to_written_rows if params.rows else _to_written_many
    return WriteRows(items, to_result, conditions=conditions)


def delete_record(caller: Caller, params: Delete) -> DeleteRecord:
    """Delete a record and its history."""
    name = check_name(params.name)
    _check_writable(caller.core, name, caller.core.hub.catalogue.find(name))
    return DeleteRecord(name, lambda rows: Deleted(deleted=rows))


def trim_record(caller: Caller, params: Trim) -> TrimRecord:
    """Delete rows of a record that are newer than a time."""
    name = check_name(params.name)
    _check_writable(caller.core, name, caller.core.hub.catalogue.find(name))
    check_integer("newer_than", params.newer_than)
    return TrimRecord(name, params.newer_than)


def _find_records(core: Core, items: Sequence[WriteItem | Set]) -> list[RecordState | None]:
    """Return the records that rows are of, None for one that is not there."""
    return list(map(core.hub.catalogue.find, [item.name for item in items]))


def _take_unchecked(
    items: Sequence[WriteItem | Set], states: Sequence[RecordState | None]
) -> list[NewRow]:
    """Return rows that nobody has checked."""
    return [
        (item.name, bytes(item.value), item.ts, state)
        for item, state in zip(items, states, strict=True)
    ]


def _take_plain(
    core: Core, items: Sequence[WriteItem | Set], states: Sequence[RecordState | None]
) -> list[NewRow] | None:
    """Return rows that are fit to be committed as they are, like nearly all.

    None says nothing: then each is to be checked for itself, which says what is wrong with it.
    Column by column this takes half as long as row by row.
    """
    settings = core.settings
    if not _are_names_plain(core, items, states):
        return None
    times = [item.ts for item in items]
    given = [ts for ts in times if ts is not None]
    if given:
        latest = SYSTEM_CLOCK.wall_ms() + settings.max_future_ms
        if min(given) < settings.min_ts or max(given) > latest:
            return None
    values = find_plain(
        [item.value for item in items],
        max_bytes=settings.max_value_bytes,
        max_depth=settings.max_value_depth,
    )
    if values is None:
        return None
    return list(zip([item.name for item in items], values, times, states, strict=True))


def _are_names_plain(
    core: Core, items: Sequence[WriteItem | Set], states: Sequence[RecordState | None]
) -> bool:
    """Tell whether all rows may be written as far as their names tell; False says nothing."""
    if not core.hub.rules.all_writable:
        return all(states) and all(map(_IS_WRITABLE, states))
    try:
        for item, state in zip(items, states, strict=True) if not all(states) else ():
            if state is None:
                check_name(item.name)
    except RequestError:
        return False
    return True


def _check_items(
    core: Core, items: list[WriteItem], rows: list[NewRow], start: int
) -> tuple[list[NewRow], list[Condition]]:
    """Return rows fit to be committed, and their conditions; `start` is the first one's index."""
    checked: list[NewRow] = []
    conditions: list[Condition] = []
    for index, (item, row) in enumerate(zip(items, rows, strict=True), start):
        try:
            checked.append(_check_row(core, row))
            if item.if_rev is not None:
                conditions.append(_check_condition(item, row, f"records[{index}]."))
        except RequestError as error:
            raise RequestError(error.reason, f"records[{index}].{error.message}") from None
    return checked, conditions


def _check_row(core: Core, row: NewRow) -> NewRow:
    """Return a row fit to be committed; each refusal starts with the parameter's name."""
    settings, (name, value, ts, state) = core.settings, row
    if state is None:  # a record that exists has a name that was checked
        check_name(name)
    if state is None or not state.rule.writable:
        _check_writable(core, name, state)
    checked = check_value(
        value, max_bytes=settings.max_value_bytes, max_depth=settings.max_value_depth
    )
    if ts is not None:
        check_ts(
            ts,
            now_ms=SYSTEM_CLOCK.wall_ms(),
            min_ts=settings.min_ts,
            max_future_ms=settings.max_future_ms,
        )
    return name, checked, ts, state


def _check_condition(item: Set | WriteItem, row: NewRow, where: str = "") -> Condition:
    assert item.if_rev is not None, "asked for what has one"
    if not 0 <= item.if_rev <= MAX_INTEGER:
        text = f"if_rev: {item.if_rev} is not between 0 and 2^63 - 1"
        raise RequestError(Reason.INVALID_PARAMS, text)
    return Condition(item.name, item.if_rev, where, row[3])


def _check_writable(core: Core, name: str, state: RecordState | None) -> None:
    rule = core.hub.rules.rule_for(name) if state is None else state.rule
    if not rule.writable:
        raise RequestError(Reason.DENIED, f"name: record {name!r} is not writable")


def _to_written_many(rows: Sequence[Row]) -> WrittenMany:
    revs = RowColumns.of(rows).revs
    if not isinstance(revs, range):
        revs = [rev for rev in revs if rev is not None]
    return WrittenMany(first_rev=revs[0] if revs else None, last_rev=revs[-1] if revs else None)


def _to_written_rows(rows: Sequence[Row]) -> WrittenMany:
    return msgspec.structs.replace(_to_written_many(rows), rows=[to_written([row]) for row in rows])


HANDLERS: Final[Mapping[str, Handler]] = {
    "record.set": set_record,
    "record.set_many": set_many,
    "record.delete": delete_record,
    "record.trim": trim_record,
}

RUN_HANDLERS: Final[Mapping[str, RunHandler]] = {"record.set": MakeRows(set_records)}
